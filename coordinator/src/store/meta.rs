//! Single numbers of the coordinator's own that must survive it.

use super::Store;
use super::schema::StoreError;
use crate::clock::UnixMs;
use rusqlite::{Connection, OptionalExtension as _};
use std::time::Duration;

/// The starts of coordinators.
pub(super) const EPOCH: &str = "epoch";
const STEP_BY_MS: &str = "clock_step_by_ms";
const STEP_UNTIL_MS: &str = "clock_step_until_ms";
const STEP_AT_MS: &str = "clock_step_at_ms";
const REFERENCE_MS: &str = "clock_reference_ms";
const LATEST_MS: &str = "clock_latest_ms";

/// A step of the head's clock that is not believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// How far it went.
    pub by: Duration,
    /// What the clock showed right after it.
    pub at: UnixMs,
    /// When it is believed; never by itself where nothing keeps the clock right.
    pub until: Option<UnixMs>,
}

/// What is known of the head's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockKept {
    /// The latest time that was ever seen.
    pub latest: UnixMs,
    /// The latest time that was seen since an administrator last confirmed the clock: a right one shows no less.
    pub reference: UnixMs,
    /// A step that is not believed yet.
    pub step: Option<ClockStep>,
}

pub(super) fn get(connection: &Connection, name: &str) -> Result<Option<u64>, StoreError> {
    let mut query = connection.prepare_cached("SELECT value FROM meta WHERE name = ?")?;
    Ok(query.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn set(connection: &Connection, name: &str, value: Option<u64>) -> Result<(), StoreError> {
    match value {
        Some(value) => {
            let put = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)";
            connection.prepare_cached(put)?.execute((name, value))?
        }
        None => connection.prepare_cached("DELETE FROM meta WHERE name = ?")?.execute([name])?,
    };
    Ok(())
}

pub(super) fn keep_clock(connection: &Connection, clock: ClockKept) -> Result<(), StoreError> {
    let by = clock.step.map(|step| u64::try_from(step.by.as_millis()).unwrap_or(u64::MAX));
    set(connection, STEP_BY_MS, by)?;
    set(connection, STEP_AT_MS, clock.step.map(|step| step.at.0))?;
    set(connection, STEP_UNTIL_MS, clock.step.and_then(|step| step.until).map(|until| until.0))?;
    set(connection, REFERENCE_MS, Some(clock.reference.0))?;
    set(connection, LATEST_MS, Some(clock.latest.0))
}

impl Store {
    /// What was known of the head's clock when the coordinator ended; the latest time is zero where none was kept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clock(&self) -> Result<ClockKept, StoreError> {
        self.read(|connection| {
            let time = |name| Ok::<_, StoreError>(get(connection, name)?.map(UnixMs));
            let (by, until) = (get(connection, STEP_BY_MS)?, time(STEP_UNTIL_MS)?);
            // Versions before kept only when a step is believed.
            let at = time(STEP_AT_MS)?.or(until).unwrap_or_default();
            let step = by.map(|by| ClockStep { by: Duration::from_millis(by), at, until });
            let latest = time(LATEST_MS)?.unwrap_or_default();
            Ok(ClockKept { latest, reference: time(REFERENCE_MS)?.unwrap_or_default(), step })
        })
        .await
    }
}

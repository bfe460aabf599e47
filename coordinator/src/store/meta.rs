//! Single numbers of the coordinator's own that must survive it.

use super::Store;
use super::schema::StoreError;
use crate::clock::UnixMs;
use rusqlite::{Connection, OptionalExtension as _};
use std::time::Duration;

const STEP_BY_MS: &str = "clock_step_by_ms";
const STEP_UNTIL_MS: &str = "clock_step_until_ms";

/// A step of the head's clock that is not believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// How far it went.
    pub by: Duration,
    /// When it is believed.
    pub until: UnixMs,
}

pub(super) fn get(connection: &Connection, name: &str) -> Result<Option<u64>, StoreError> {
    let value = connection.query_row("SELECT value FROM meta WHERE name = ?", [name], |row| row.get(0));
    Ok(value.optional()?)
}

pub(super) fn set(connection: &Connection, name: &str, value: Option<u64>) -> Result<(), StoreError> {
    match value {
        Some(value) => {
            connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))?
        }
        None => connection.execute("DELETE FROM meta WHERE name = ?", [name])?,
    };
    Ok(())
}

impl Store {
    /// The step of the head's clock that was not believed when the coordinator ended.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clock_step(&self) -> Result<Option<ClockStep>, StoreError> {
        self.read(|connection| {
            let (by, until) = (get(connection, STEP_BY_MS)?, get(connection, STEP_UNTIL_MS)?);
            let step = |(by, until)| ClockStep { by: Duration::from_millis(by), until: UnixMs(until) };
            Ok(by.zip(until).map(step))
        })
        .await
    }

    /// Keeps or forgets a step of the head's clock.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep_clock_step(&self, step: Option<ClockStep>) -> Result<(), StoreError> {
        self.write(move |connection| {
            let by = step.map(|step| u64::try_from(step.by.as_millis()).unwrap_or(u64::MAX));
            set(connection, STEP_BY_MS, by)?;
            set(connection, STEP_UNTIL_MS, step.map(|step| step.until.0))
        })
        .await
    }
}

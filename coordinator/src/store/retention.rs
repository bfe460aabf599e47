//! Forgets what is over for long: ended deployments with their journal, outputs of scripts, notes of the
//! audit, reservations. Nothing of a live deployment is ever touched.
//!
//! Works in small transactions, so that a thousand deployments that go on meanwhile never wait for it, and
//! gives the file's free pages back a few at a time. When to do it is the caller's business.

use super::schema::StoreError;
use super::{Store, rows};
use crate::clock::UnixMs;
use rusqlite::Connection;
use std::time::Duration;

/// How long things are kept once they are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The journal, with the deployments and reservations that it tells of.
    pub journal: Duration,
    /// What the scripts of ended deployments printed, what their agents logged, and what consoles told at the end.
    pub output: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        Retention { journal: days(365), output: days(90) }
    }
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ended deployments, with all that belonged to them.
    pub deployments: usize,
    /// Outputs of scripts, lines of agents and ends of consoles whose deployments are still remembered.
    pub outputs: usize,
    /// Journal entries about something else than a deployment.
    pub notes: usize,
    /// Reservations of which nothing is left.
    pub reservations: usize,
    /// Pages that the file became shorter by.
    pub pages: usize,
}

/// Each has some dozens of journal entries.
const DEPLOYMENTS_A_TRANSACTION: usize = 20;
const ROWS_A_TRANSACTION: usize = 500;
const PAGES_A_TRANSACTION: usize = 256;
/// Free pages that stay in the file for what comes next: to give them back and to ask for them again would only
/// wear the card (4 MiB).
const PAGES_KEPT: usize = 1024;

/// The tables whose rows belong to one deployment and go with it.
const BELONGINGS: [&str; 7] = [
    "agent_hellos",
    "agent_lines",
    "agent_log_sizes",
    "card_proofs",
    "console_ends",
    "journal",
    "script_outputs",
];

/// Those of them that users, agents and nodes said, which are forgotten sooner.
const OUTPUTS: [&str; 3] = ["agent_lines", "console_ends", "script_outputs"];

fn forget_deployments(connection: &Connection, before: UnixMs) -> Result<usize, StoreError> {
    let old = "SELECT id FROM deployments WHERE state = 'ended' AND since_ms < ? ORDER BY id LIMIT ?";
    let limits = (before.0, DEPLOYMENTS_A_TRANSACTION);
    let old: Vec<u64> = rows::all(connection, old, limits, |row| Ok(row.get(0)?))?;
    for id in &old {
        for table in BELONGINGS {
            let delete = format!("DELETE FROM {table} WHERE deployment_id = ?");
            connection.prepare_cached(&delete)?.execute([id])?;
        }
        connection.prepare_cached("DELETE FROM deployments WHERE id = ?")?.execute([id])?;
    }
    Ok(old.len())
}

fn forget_outputs(connection: &Connection, before: UnixMs) -> Result<usize, StoreError> {
    let mut forgotten = 0;
    for table in OUTPUTS {
        let delete = format!(
            "DELETE FROM {table} WHERE rowid IN (
               SELECT {table}.rowid FROM {table} JOIN deployments ON deployments.id = deployment_id
               WHERE state = 'ended' AND since_ms < ? LIMIT ?)"
        );
        forgotten += connection.prepare_cached(&delete)?.execute((before.0, ROWS_A_TRANSACTION))?;
    }
    Ok(forgotten)
}

fn forget_notes(connection: &Connection, before: UnixMs) -> Result<usize, StoreError> {
    let delete = "DELETE FROM journal WHERE id IN (
        SELECT id FROM journal WHERE deployment_id IS NULL AND unix_ms < ? LIMIT ?)";
    Ok(connection.prepare_cached(delete)?.execute((before.0, ROWS_A_TRANSACTION))?)
}

fn forget_reservations(connection: &Connection, before: UnixMs) -> Result<usize, StoreError> {
    let old = "SELECT id FROM reservations WHERE until_ms < ?
        AND id NOT IN (SELECT reservation_id FROM deployments) ORDER BY id LIMIT ?";
    let limits = (before.0, ROWS_A_TRANSACTION);
    let old: Vec<u64> = rows::all(connection, old, limits, |row| Ok(row.get(0)?))?;
    for id in &old {
        connection.prepare_cached("DELETE FROM holds WHERE reservation_id = ?")?.execute([id])?;
        connection.prepare_cached("DELETE FROM reservations WHERE id = ?")?.execute([id])?;
    }
    Ok(old.len())
}

/// Shortens the file by free pages, as long as enough of them are left.
fn give_back(connection: &Connection, _: UnixMs) -> Result<usize, StoreError> {
    let free: usize = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    let pages = free.saturating_sub(PAGES_KEPT).min(PAGES_A_TRANSACTION);
    if pages == 0 {
        return Ok(0);
    }
    // SQLite answers with a row a page, and frees the next one only when it is asked for the next row.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut freed = statement.query([])?;
    while freed.next()?.is_some() {}
    let left: usize = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    Ok(free - left)
}

impl Store {
    /// Forgets what has been over for longer than `keep` says at the time `now`.
    ///
    /// # Errors
    /// When the store fails; what was forgotten until then stays so.
    pub async fn prune(&self, keep: Retention, now: UnixMs) -> Result<Pruned, StoreError> {
        let before =
            |age: Duration| UnixMs(now.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
        let journal = before(keep.journal);
        Ok(Pruned {
            deployments: self.repeat(forget_deployments, journal).await?,
            outputs: self.repeat(forget_outputs, before(keep.output)).await?,
            notes: self.repeat(forget_notes, journal).await?,
            reservations: self.repeat(forget_reservations, journal).await?,
            pages: self.repeat(give_back, journal).await?,
        })
    }

    /// Repeats a piece of work, each time in a transaction that others may share, until nothing is left to do.
    async fn repeat(
        &self,
        piece: fn(&Connection, UnixMs) -> Result<usize, StoreError>,
        before: UnixMs,
    ) -> Result<usize, StoreError> {
        let mut sum = 0;
        loop {
            // It makes room, so it goes on when there is none.
            match self.record(move |connection| piece(connection, before)).await? {
                0 => return Ok(sum),
                done => sum += done,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_belongs_to_a_deployment_goes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let connection = super::super::schema::open(&directory.path().join("store.sqlite")).unwrap();
        let query = "SELECT DISTINCT tables.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
            WHERE tables.type = 'table' AND columns.name = 'deployment_id' ORDER BY tables.name";
        let tables: Vec<String> = rows::all(&connection, query, [], |row| Ok(row.get(0)?)).unwrap();
        assert_eq!(tables, BELONGINGS, "a table with a column `deployment_id` is pruned with its deployment");
    }
}

//! The tables, how an older file becomes a newer one, and what can go wrong.

use crate::domain::driver::PortError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a writer waits for another process (`piseduce user add` beside `piseduce serve`).
pub(super) const BUSY_MAX: Duration = Duration::from_secs(20);

/// The write-ahead log is cut back to this length, in bytes, whenever all of it is in the store.
const LOG_BYTES_KEPT: u32 = 4 << 20;

/// One entry a version; an entry is never changed once released.
pub(super) const MIGRATIONS: [&str; 4] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
];

/// What goes wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("failed to open the store {file}")]
    Open {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A newer version wrote it.
    #[error(
        "the store {file} has version {found}, this program knows {known}: run the version that wrote it"
    )]
    Newer {
        /// Which file.
        file: PathBuf,
        /// Its version.
        found: usize,
        /// The newest known.
        known: usize,
    },
    /// The database refused; our bug, or the disk.
    #[error("the store failed")]
    Database(#[from] Arc<rusqlite::Error>),
    /// A row that this program did not write so.
    #[error("the store holds an impossible {what}: {found}")]
    Row {
        /// What should be there.
        what: &'static str,
        /// What is there.
        found: String,
    },
    /// What was asked contradicts what is there.
    #[error("{0}")]
    Conflict(#[from] Conflict),
    /// A secret that is shown once could not be shown, so nothing was stored.
    #[error("failed to show the token; nothing was changed")]
    NotShown(#[source] std::io::Error),
    /// The store's thread could not be started.
    #[error("failed to start the store's thread")]
    Thread(#[source] std::io::Error),
    /// The store's thread has ended.
    #[error("the store is closed")]
    Closed,
}

/// What contradicts what is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// No such thing.
    #[error("there is no {what} `{name}`")]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// By which name.
        name: String,
    },
    /// A name is taken.
    #[error("there is a {what} `{name}` already")]
    Taken {
        /// What has it.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Somebody has the node.
    #[error("node `{node}` is held by {owner} until {}", crate::domain::reservation::utc(*until_ms))]
    Held {
        /// The node.
        node: String,
        /// Who holds it.
        owner: String,
        /// Until when, in milliseconds since 1970.
        until_ms: u64,
    },
    /// Who asks has the node already.
    #[error("you hold node `{node}` yourself until {}", crate::domain::reservation::utc(*until_ms))]
    Yours {
        /// The node.
        node: String,
        /// Until when, in milliseconds since 1970.
        until_ms: u64,
    },
    /// The node could not be released.
    #[error("node `{node}` is quarantined: it could not be released, and nobody gets it")]
    Quarantined {
        /// The node.
        node: String,
    },
    /// An administrator took the node out of service.
    #[error("node `{node}` is out of service, says {by}: {reason}")]
    OutOfService {
        /// The node.
        node: String,
        /// Why.
        reason: String,
        /// Which administrator.
        by: String,
    },
    /// Several nodes stand in the way.
    #[error("{} nodes stand in the way, so nothing was done: {}", .0.len(), listed(.0))]
    Several(Vec<Conflict>),
    /// A node's switch has no such outlet.
    #[error("node {node} at switch {switch}: {why}")]
    Port {
        /// The node.
        node: String,
        /// The switch.
        switch: String,
        /// What is wrong.
        why: PortError,
    },
    /// Something depends on it.
    #[error("{what} `{name}` is in use: {by}")]
    InUse {
        /// What is in use.
        what: &'static str,
        /// Its name.
        name: String,
        /// By whom or what.
        by: String,
    },
}

fn listed(conflicts: &[Conflict]) -> String {
    conflicts.iter().map(Conflict::to_string).collect::<Vec<_>>().join("; ")
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Database(Arc::new(error))
    }
}

impl StoreError {
    /// The same failure of a shared transaction, told to one more of those who shared it.
    pub(super) fn again(&self) -> StoreError {
        match self {
            StoreError::Database(error) => StoreError::Database(error.clone()),
            _ => StoreError::Closed,
        }
    }
}

pub(super) fn open(file: &Path) -> Result<Connection, StoreError> {
    let at = |source| StoreError::Open { file: file.into(), source };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags).map_err(at)?;
    connection.busy_timeout(BUSY_MAX).map_err(at)?;
    // Takes effect in a new file only: what is forgotten makes it shorter, a few pages at a time.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(at)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(at)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT).map_err(at)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(at)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(at)?;
    migrate(&mut connection, file)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, file: &Path) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    bring_up_to_date(&transaction, file)?;
    transaction.commit()?;
    Ok(())
}

/// The version of the schema in a file.
pub(super) fn version(connection: &Connection) -> Result<usize, StoreError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Applies the migrations that a store has not seen yet.
pub(super) fn bring_up_to_date(connection: &Connection, file: &Path) -> Result<(), StoreError> {
    let (found, known) = (version(connection)?, MIGRATIONS.len());
    if found > known {
        return Err(StoreError::Newer { file: file.into(), found, known });
    }
    for migration in &MIGRATIONS[found..] {
        connection.execute_batch(migration)?;
    }
    if found < known {
        connection.pragma_update(None, "user_version", known)?;
    }
    Ok(())
}

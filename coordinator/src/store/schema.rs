//! The tables, how an older file becomes a newer one, and what can go wrong.

use super::disk::DiskTrouble;
use crate::domain::driver::PortError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a writer waits for another process (`piseduce user add` beside `piseduce serve`).
pub(super) const BUSY_MAX: Duration = Duration::from_secs(20);

/// The write-ahead log is cut back to this length, in bytes, whenever all of it is in the store.
const LOG_BYTES_KEPT: u32 = 4 << 20;

/// One entry a version; an entry is never changed once released.
pub(super) const MIGRATIONS: [&str; 5] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
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
    /// Others may read it, and that cannot be changed; or it cannot be created.
    #[error("failed to create the store {file}, or to make it its owner's alone")]
    Private {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
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
    /// The disk takes nothing.
    #[error("{0}")]
    Disk(DiskTrouble),
    /// The database refused; our bug.
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
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// A secret that is shown once could not be shown, so nothing was stored.
    #[error("failed to show the token; nothing was changed")]
    NotShown(#[source] io::Error),
    /// The store's thread could not be started.
    #[error("failed to start the store's thread")]
    Thread(#[source] io::Error),
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

/// More obstacles than these are counted, not listed.
const LISTED_MAX: usize = 100;

fn listed(conflicts: &[Conflict]) -> String {
    let mut texts: Vec<String> = conflicts.iter().take(LISTED_MAX).map(Conflict::to_string).collect();
    if let Some(more) = conflicts.len().checked_sub(LISTED_MAX).filter(|more| *more > 0) {
        texts.push(format!("and {more} more"));
    }
    texts.join("; ")
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Database(Arc::new(error))
    }
}

impl From<DiskTrouble> for StoreError {
    fn from(trouble: DiskTrouble) -> Self {
        StoreError::Disk(trouble)
    }
}

impl StoreError {
    /// The same failure of a shared transaction, told to one more of those who shared it.
    pub(super) fn again(&self) -> StoreError {
        match self {
            StoreError::Database(error) => StoreError::Database(error.clone()),
            StoreError::Disk(trouble) => StoreError::Disk(trouble.clone()),
            _ => StoreError::Closed,
        }
    }
}

/// All statements of this room, so that none is compiled twice.
const STATEMENTS_KEPT: usize = 256;

pub(super) fn open(file: &Path) -> Result<Connection, StoreError> {
    make_private(file).map_err(|source| StoreError::Private { file: file.into(), source })?;
    let mut connection = prepare(file).map_err(|source| match DiskTrouble::of(&source, file) {
        Some(trouble) => StoreError::Disk(trouble),
        None => StoreError::Open { file: file.into(), source },
    })?;
    migrate(&mut connection, file).map_err(|error| match &error {
        StoreError::Database(found) => DiskTrouble::of(found, file).map_or(error, StoreError::Disk),
        _ => error,
    })?;
    Ok(connection)
}

/// The database gives the files beside it the mode of its own one, so that comes first, whatever the umask is.
fn make_private(file: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::set_permissions(&name, Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn prepare(file: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_MAX)?;
    // Plans do not depend on the values of parameters: else a statement is compiled again with each new value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // Takes effect in a new file only: what is forgotten makes it shorter, a few pages at a time.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Sorting needs no room on any disk.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
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

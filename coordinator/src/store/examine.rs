//! Looks at a store without being its owner: for the doctor and for backups, beside a running coordinator or
//! without one. Changes nothing, not even the schema of an older version.

use super::disk::DiskTrouble;
use super::people::pinned_images;
use super::schema::{self, StoreError};
use super::{inventory, logs, rows, switches};
use crate::clock::UnixMs;
use crate::domain::environment::Environment;
use crate::domain::node::{Node, NodeId};
use crate::domain::switch::Switch;
use piseduce_protocol::id::Hash;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// What a store holds, as far as its operator cares.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The environments, by name.
    pub environments: Vec<Environment>,
    /// The switches, by name.
    pub switches: Vec<Switch>,
    /// The images that an environment or a live deployment needs.
    pub pinned: HashSet<Hash>,
    /// The nodes, by name.
    pub nodes: Vec<Node>,
    /// What the agent of each node last said of itself, as JSON, by the node's number; none has never been heard.
    pub hellos: HashMap<NodeId, String>,
    /// How many deployments have not ended.
    pub live: usize,
    /// When the last journal entry was written.
    pub last_entry: Option<UnixMs>,
}

/// How a store is.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The version of its schema.
    pub version: usize,
    /// What is damaged in the file, in SQLite's words; empty when it is sound.
    pub damage: Vec<String>,
}

/// A store that is looked at.
#[derive(Debug)]
pub struct Examination {
    connection: Connection,
}

/// The version of the schema that this program writes.
pub const SCHEMA_VERSION: usize = schema::MIGRATIONS.len();

/// How many findings of a damaged file are told.
const FINDINGS_MAX: usize = 3;

impl Examination {
    /// Opens the store in `file`, which must be there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        let at = |source| StoreError::Open { file: file.into(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags).map_err(at)?;
        connection.busy_timeout(schema::BUSY_MAX).map_err(at)?;
        Ok(Examination { connection })
    }

    /// Reads the whole file and checks its structure.
    ///
    /// # Errors
    /// When it is no database.
    pub fn check(&self) -> Result<Examined, StoreError> {
        let version = schema::version(&self.connection)?;
        let query = format!("PRAGMA quick_check({FINDINGS_MAX})");
        let mut damage = rows::all(&self.connection, &query, [], |row| Ok(row.get::<_, String>(0)?))?;
        damage.retain(|finding| finding != "ok");
        Ok(Examined { version, damage })
    }

    /// Reads what is in it, as the present schema has it; an older store stays as it is.
    ///
    /// # Errors
    /// When it is damaged, of a newer version, or holds an impossible row.
    pub fn contents(&mut self, file: &Path) -> Result<Contents, StoreError> {
        // Dropped without a commit: what the migrations do is undone.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        schema::bring_up_to_date(&transaction, file)?;
        let one = |query: &str| transaction.query_row(query, [], |row| row.get::<_, Option<u64>>(0));
        let count =
            |query: &str| one(query).map(|count| usize::try_from(count.unwrap_or(0)).unwrap_or(usize::MAX));
        Ok(Contents {
            environments: inventory::all_environments(&transaction)?,
            switches: switches::all(&transaction)?,
            pinned: pinned_images(&transaction)?,
            nodes: inventory::all_nodes(&transaction)?,
            hellos: logs::last_hellos(&transaction)?,
            live: count("SELECT count(*) FROM deployments WHERE state <> 'ended'")?,
            last_entry: one("SELECT max(unix_ms) FROM journal")?.map(UnixMs),
        })
    }

    /// Writes a consistent copy of the store as it is now into the new file `copy`; writers do not wait for it.
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub fn copy_to(&self, copy: &Path) -> Result<(), StoreError> {
        let copied = self.connection.execute("VACUUM INTO ?", [copy.to_string_lossy()]);
        // What has no room is the copy, wherever the store is.
        copied.map(drop).map_err(|error| match DiskTrouble::of(&error, copy) {
            Some(trouble) => trouble.into(),
            None => error.into(),
        })
    }
}

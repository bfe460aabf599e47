//! The record of every change: audit and flight recorder. Written in the transaction of the change.

use super::schema::StoreError;
use super::{Store, rows};
use crate::clock::UnixMs;
use crate::domain::deployment::Deployment;
use crate::domain::node::NodeId;
use piseduce_protocol::cause::Cause;
use piseduce_protocol::id::{DeploymentId, Run};
use piseduce_protocol::state::{Process, State};
use rusqlite::{Connection, Row, named_params};

/// The number of a journal entry; grows with time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalId(pub u64);

/// Who changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The user of this name.
    User(String),
    /// The machine, by what was seen or by time.
    Machine,
}

impl Actor {
    /// The actor as the journal names it.
    pub fn text(&self) -> String {
        match self {
            Actor::User(name) => format!("user {name}"),
            Actor::Machine => "machine".into(),
        }
    }
}

/// One entry about a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: JournalId,
    /// When.
    pub at: UnixMs,
    /// Who.
    pub actor: String,
    /// The run.
    pub run: Run,
    /// The process.
    pub process: Process,
    /// The state that the deployment was in then.
    pub state: State,
    /// The phase of that state.
    pub phase: Option<String>,
    /// Why.
    pub cause: Option<Cause>,
    /// What else there is to say.
    pub detail: Option<String>,
}

/// Writes the entry for a deployment that was just saved.
pub(super) fn write(
    connection: &Connection,
    at: UnixMs,
    actor: &Actor,
    node: NodeId,
    deployment: &Deployment,
    detail: Option<&str>,
) -> Result<JournalId, StoreError> {
    let columns = rows::condition_columns(deployment);
    connection
        .prepare_cached(
            "INSERT INTO journal (unix_ms, actor, what, node_id, deployment_id, run, seq, process, state, phase,
               cause_name, cause_seen, detail)
             VALUES (:at, :actor, 'deployment', :node, :deployment, :run, :seq, :process, :state, :phase,
               :cause_name, :cause_seen, :detail)",
        )?
        .execute(named_params! {
            ":at": at.0,
            ":actor": actor.text(),
            ":node": node.0,
            ":deployment": deployment.id.0,
            ":run": deployment.run.0,
            ":seq": deployment.seq.0,
            ":process": columns.process,
            ":state": columns.state,
            ":phase": columns.phase,
            ":cause_name": columns.cause_name,
            ":cause_seen": columns.cause_seen,
            ":detail": detail,
        })?;
    Ok(JournalId(connection.last_insert_rowid().unsigned_abs()))
}

/// Writes an entry about something else than a deployment.
pub(super) fn note(
    connection: &Connection,
    at: UnixMs,
    actor: &Actor,
    what: &str,
    detail: &str,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO journal (unix_ms, actor, what, detail) VALUES (?, ?, ?, ?)")?
        .execute((at.0, actor.text(), what, detail))?;
    Ok(())
}

fn entry(row: &Row<'_>) -> Result<Entry, StoreError> {
    let (process, state): (String, String) = (row.get("process")?, row.get("state")?);
    Ok(Entry {
        id: JournalId(row.get("id")?),
        at: UnixMs(row.get("unix_ms")?),
        actor: row.get("actor")?,
        run: Run(row.get("run")?),
        process: rows::named("process", &process)?,
        state: rows::named("state", &state)?,
        phase: row.get("phase")?,
        cause: rows::cause(row)?,
        detail: row.get("detail")?,
    })
}

impl Store {
    /// Writes down something else than a change of a deployment.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note(
        &self,
        at: UnixMs,
        actor: Actor,
        what: &'static str,
        detail: String,
    ) -> Result<(), StoreError> {
        self.write(move |connection| note(connection, at, &actor, what, &detail)).await
    }

    /// When the last entry was written; zero when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn latest_entry(&self) -> Result<UnixMs, StoreError> {
        let query = "SELECT unix_ms FROM journal ORDER BY id DESC LIMIT 1";
        let latest = self
            .read(move |connection| rows::all(connection, query, [], |row| Ok(UnixMs(row.get(0)?))))
            .await?;
        Ok(latest.first().copied().unwrap_or_default())
    }

    /// Every entry about a deployment, in order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn journal_of(&self, deployment: DeploymentId) -> Result<Vec<Entry>, StoreError> {
        let query = "SELECT * FROM journal WHERE deployment_id = ? ORDER BY id";
        self.read(move |connection| rows::all(connection, query, [deployment.0], entry)).await
    }

    /// The entries about one run of a deployment that come after the entry `after`, in order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn journal_of_run(
        &self,
        deployment: DeploymentId,
        run: Run,
        after: JournalId,
    ) -> Result<Vec<Entry>, StoreError> {
        let query = "SELECT * FROM journal WHERE deployment_id = ? AND run = ? AND id > ? ORDER BY id";
        self.read(move |connection| rows::all(connection, query, (deployment.0, run.0, after.0), entry)).await
    }
}

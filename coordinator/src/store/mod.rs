//! What survives: one SQLite file, and the only SQL. One thread owns the connection; writes that come
//! while a transaction is being written share the next one, so that a thousand deployments cost few syncs.
//!
//! A job that returned `Ok` is on disk. Nothing here decides anything; see [`schema`] for the tables,
//! [`rows`] for how a deployment becomes a row, [`journal`] for the record of every change.

mod boot_evidence;
mod cards;
mod deployments;
mod examine;
mod import;
mod inventory;
mod journal;
mod lifecycle;
mod logs;
mod meta;
mod people;
mod retention;
mod rows;
mod schema;
mod switches;

pub use deployments::{Change, Opened, Saved, StoredDeployment, Wanted};
pub use examine::{Contents, Examination, Examined, SCHEMA_VERSION};
pub use import::{ImportCount, Imported};
pub use inventory::ImageUsers;
pub use journal::{Actor, Entry, JournalId};
pub use logs::{AgentHello, AgentLine, AgentWord, AgentWords, ConsoleEnd, ScriptOutput};
pub use meta::ClockStep;
pub use retention::{Pruned, Retention};
pub use schema::{Conflict, StoreError};
pub use switches::SwitchSaid;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::Path;
use std::sync::mpsc;
use tokio::sync::oneshot;

/// At most this many jobs share a transaction.
const JOBS_A_TRANSACTION: usize = 256;

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

/// Runs in a savepoint of its own; afterwards tells its caller how it and the commit went.
type Job = Box<dyn FnOnce(&mut Transaction<'_>) -> Reply + Send>;
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

impl Store {
    /// Opens the store in `file`, creates it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, is no store, or was written by a newer version.
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        let connection = schema::open(file)?;
        let (jobs, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new().name("store".into());
        thread.spawn(move || serve(connection, &inbox)).map_err(StoreError::Thread)?;
        Ok(Store { jobs })
    }

    /// Runs `job`; when this returns `Ok`, what it wrote is on disk.
    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let run: Job = Box::new(move |transaction| {
            let result = in_savepoint(transaction, job);
            Box::new(move |committed| {
                // Nobody waits any more when the caller was cancelled; the write stands all the same.
                let _ = answer.send(result.and_then(|value| committed.map(|()| value)));
            })
        });
        self.jobs.send(run).map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `job`, which only reads.
    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.write(job).await
    }
}

fn in_savepoint<T>(
    transaction: &mut Transaction<'_>,
    job: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let savepoint = transaction.savepoint()?;
    let value = job(&savepoint)?;
    savepoint.commit()?;
    Ok(value)
}

fn serve(mut connection: Connection, inbox: &mpsc::Receiver<Job>) {
    while let Ok(first) = inbox.recv() {
        let mut replies = Vec::new();
        let committed = commit_together(&mut connection, first, inbox, &mut replies);
        for reply in replies {
            reply(committed.as_ref().copied().map_err(StoreError::again));
        }
    }
}

fn commit_together(
    connection: &mut Connection,
    first: Job,
    inbox: &mpsc::Receiver<Job>,
    replies: &mut Vec<Reply>,
) -> Result<(), StoreError> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    replies.push(first(&mut transaction));
    for job in inbox.try_iter().take(JOBS_A_TRANSACTION - 1) {
        replies.push(job(&mut transaction));
    }
    transaction.commit()?;
    Ok(())
}

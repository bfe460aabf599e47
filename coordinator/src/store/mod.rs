//! What survives: one SQLite file, and the only SQL. One thread owns the connection; writes that come
//! while a transaction is being written share the next one, so that a thousand deployments cost few syncs.
//!
//! A job that returned `Ok` is on disk. Nothing here decides anything; see [`thread`] for how jobs are done and what a
//! full disk refuses, [`turn`] for what the runner saves, [`schema`] for the tables, [`rows`] for how a deployment becomes a row, [`journal`] for the record of every change.

mod boot_evidence;
mod cards;
mod deployments;
mod disk;
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
mod site;
mod switches;
#[cfg(test)]
mod tests;
mod thread;
mod turn;

pub use deployments::{Change, Opened, Saved, StoredDeployment, Wanted};
pub use disk::{BALLAST, BALLAST_BYTES, DiskTrouble, ballast_is_held};
pub use examine::{Contents, Examination, Examined, SCHEMA_VERSION};
pub use import::{ImportCount, Imported};
pub use inventory::ImageUsers;
pub use journal::{Actor, Entry, JournalId};
pub use logs::{AgentHello, AgentLine, AgentWord, AgentWords, ConsoleEnd, ScriptOutput};
pub use meta::{ClockKept, ClockStep};
pub use retention::{Pruned, Retention};
pub use schema::{Conflict, StoreError};
pub use site::{CardProofs, HighWater, KeyState};
pub use switches::SwitchSaid;
pub use turn::TurnRecord;

use disk::Ballast;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thread::{Closure, JOBS_WAITING, Order, Purpose, Worker};
use tokio::sync::{mpsc, oneshot};

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    orders: mpsc::Sender<Order>,
    file: Arc<Path>,
    is_short: Arc<AtomicBool>,
}

impl Store {
    /// Opens the store in `file`, creates it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, is no store, or was written by a newer version.
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        Store::begin(schema::open(file)?, file, None)
    }

    /// Opens the store for a coordinator, which keeps room back on the disk for what must be written.
    ///
    /// # Errors
    /// As [`Store::open`]; a disk that is full is none as long as there was room kept back.
    pub fn open_with_ballast(file: &Path) -> Result<Self, StoreError> {
        let mut ballast = Ballast::beside(file);
        let opened = match schema::open(file) {
            Err(StoreError::Disk(DiskTrouble::Full { .. })) if ballast.release() => schema::open(file),
            opened => opened,
        };
        let connection = opened?;
        ballast.take();
        Store::begin(connection, file, Some(ballast))
    }

    fn begin(connection: Connection, file: &Path, ballast: Option<Ballast>) -> Result<Self, StoreError> {
        let (orders, inbox) = mpsc::channel(JOBS_WAITING);
        let (file, is_short) = (Arc::from(file), Arc::new(AtomicBool::new(false)));
        let worker = Worker { connection, file: Arc::clone(&file), ballast, is_short: is_short.clone() };
        let thread = std::thread::Builder::new().name("store".into());
        thread.spawn(move || worker.serve(inbox)).map_err(StoreError::Thread)?;
        Ok(Store { orders, file, is_short })
    }

    /// Why requests are refused now, if they are.
    pub fn trouble(&self) -> Option<DiskTrouble> {
        self.is_short.load(Ordering::Relaxed).then(|| DiskTrouble::full(&self.file))
    }

    /// Writes everything into the store's one file and ends its use: what is asked afterwards fails.
    ///
    /// # Errors
    /// When the file cannot be written; nothing is lost then, the next start does it.
    pub async fn close(&self) -> Result<(), StoreError> {
        let (done, is_done) = oneshot::channel();
        self.orders.send(Order::Close(done)).await.map_err(|_| StoreError::Closed)?;
        is_done.await.map_err(|_| StoreError::Closed)?
    }

    /// Looks whether the room that was given up on a full disk can be kept back again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn look_at_disk(&self) -> Result<(), StoreError> {
        self.read(|_| Ok(())).await
    }

    /// Runs `job` for somebody who asks for something; when this returns `Ok`, what it wrote is on disk.
    async fn write<T: Send + 'static>(
        &self,
        job: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(Purpose::Request, job).await
    }

    /// The same for what must be written even on a full disk.
    async fn record<T: Send + 'static>(
        &self,
        job: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(Purpose::Record, job).await
    }

    /// Runs `job`, which only reads.
    async fn read<T: Send + 'static>(
        &self,
        job: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(Purpose::Read, job).await
    }

    async fn run<T: Send + 'static>(
        &self,
        purpose: Purpose,
        run: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Closure { purpose, run, result: None, answer };
        self.orders.send(Order::Do(Box::new(job))).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

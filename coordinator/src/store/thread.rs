//! The thread that owns the connection: takes jobs, lets those that came meanwhile share a transaction, and tells each
//! how it went. A disk that is full refuses requests, one by one and in words, and takes what must be written into
//! the room that the ballast gives up (see `disk.rs`).

use super::disk::{Ballast, DiskTrouble};
use super::schema::StoreError;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};

/// At most this many jobs share a transaction.
const JOBS_A_TRANSACTION: usize = 256;
/// At most this many wait; whoever asks for more waits.
pub(super) const JOBS_WAITING: usize = 1024;

/// What a job is for: decides what a full disk does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It only reads.
    Read,
    /// Somebody asks for something, who can ask again.
    Request,
    /// It happened, or is being done: it must be written.
    Record,
}

/// Runs in a savepoint of its own, again when the transaction came to nothing; then tells how it went.
pub(super) trait Job: Send {
    fn purpose(&self) -> Purpose;
    /// # Errors
    /// Only what ends the whole transaction; what concerns the job alone is kept for its answer.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), rusqlite::Error>;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// What reaches the thread.
pub(super) enum Order {
    Do(Box<dyn Job>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// A closure as a job.
pub(super) struct Closure<T, F> {
    pub(super) purpose: Purpose,
    pub(super) run: F,
    pub(super) result: Option<Result<T, StoreError>>,
    pub(super) answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnMut(&Connection) -> Result<T, StoreError> + Send> Job for Closure<T, F> {
    fn purpose(&self) -> Purpose {
        self.purpose
    }

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), rusqlite::Error> {
        let savepoint = transaction.savepoint()?;
        let result = (self.run)(&savepoint);
        match &result {
            Ok(_) => savepoint.commit()?,
            Err(StoreError::Database(error)) if ends_the_transaction(error) => {
                // The error itself is told; another of the same kind carries its code here.
                let code = error.sqlite_error().copied().expect("just looked at");
                return Err(rusqlite::Error::SqliteFailure(code, Some(error.to_string())));
            }
            Err(_) => drop(savepoint),
        }
        self.result = Some(result);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StoreError::Closed),
            (Err(error), _) => Err(error),
        };
        // Nobody waits any more when the caller was cancelled; the write stands all the same.
        let _ = self.answer.send(result);
    }
}

/// Whether the disk is at fault, after which the database may have undone everything.
fn ends_the_transaction(error: &rusqlite::Error) -> bool {
    DiskTrouble::of(error, Path::new("")).is_some()
}

/// The owner of the connection.
pub(super) struct Worker {
    pub(super) connection: Connection,
    pub(super) file: Arc<Path>,
    /// Kept by the coordinator; other programs that use the store have none.
    pub(super) ballast: Option<Ballast>,
    /// Whether the ballast is given up: then requests are refused.
    pub(super) is_short: Arc<AtomicBool>,
}

impl Worker {
    /// Serves until nobody can ask any more, or somebody closes the store.
    pub(super) fn serve(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(first) = orders.blocking_recv() {
            let (mut jobs, mut closing) = (Vec::new(), None);
            let mut next = Some(first);
            while let Some(order) = next {
                match order {
                    Order::Do(job) => jobs.push(job),
                    Order::Close(done) => closing = Some(done),
                }
                let has_room = jobs.len() < JOBS_A_TRANSACTION && closing.is_none();
                next = has_room.then(|| orders.try_recv().ok()).flatten();
            }
            self.carry_out(jobs);
            if let Some(done) = closing {
                drop(orders);
                let _ = done.send(self.close());
                return;
            }
        }
    }

    /// Puts everything into the store's one file.
    fn close(self) -> Result<(), StoreError> {
        self.connection.pragma(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()))?;
        self.connection.close().map_err(|(_, error)| StoreError::from(error))?;
        // The log is gone; the room that it had is for the next one.
        self.ballast.into_iter().for_each(|mut ballast| ballast.take_rest());
        Ok(())
    }

    fn carry_out(&mut self, jobs: Vec<Box<dyn Job>>) {
        let is_short = self.ballast.as_mut().is_some_and(|ballast| !ballast.take());
        self.is_short.store(is_short, Ordering::Relaxed);
        let (refused, mut jobs): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| is_short && job.purpose() == Purpose::Request);
        for job in refused {
            job.answer(Err(DiskTrouble::full(&self.file).into()));
        }
        let Err(error) = self.together(&mut jobs) else {
            return jobs.into_iter().for_each(|job| job.answer(Ok(())));
        };
        match self.trouble(&error) {
            // Each for itself: one that needs much does not take the others with it.
            Some(_) if jobs.len() > 1 => jobs.into_iter().for_each(|job| self.alone(job)),
            _ => jobs.into_iter().for_each(|job| self.settle_one(job, &error)),
        }
    }

    fn alone(&mut self, job: Box<dyn Job>) {
        let mut jobs = vec![job];
        let done = self.together(&mut jobs);
        let job = jobs.pop().expect("it is still there");
        match done {
            Ok(()) => job.answer(Ok(())),
            Err(error) => self.settle_one(job, &error),
        }
    }

    /// A job alone in its transaction came to nothing.
    fn settle_one(&mut self, job: Box<dyn Job>, error: &StoreError) {
        let trouble = self.trouble(error);
        let is_full = matches!(trouble, Some(DiskTrouble::Full { .. }));
        if is_full && job.purpose() == Purpose::Record && self.ballast.as_mut().is_some_and(Ballast::release)
        {
            self.is_short.store(true, Ordering::Relaxed);
            return self.alone(job);
        }
        job.answer(Err(trouble.map_or_else(|| error.again(), StoreError::Disk)));
    }

    fn trouble(&self, error: &StoreError) -> Option<DiskTrouble> {
        match error {
            StoreError::Database(error) => DiskTrouble::of(error, &self.file),
            _ => None,
        }
    }

    fn together(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in jobs.iter_mut() {
            job.run(&mut transaction)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

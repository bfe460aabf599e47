//! One thread that does the work of one command at a time, in mounts of its own.
//!
//! It keeps what is known about a run between its steps, and tells how far it is. It does not know
//! commands or messages: see `agent.rs` and `runner.rs`.

use crate::agent::Job;
use crate::cancel::Cancel;
use crate::card::mount;
use crate::clock;
use crate::meter::Meter;
use crate::step::cause::StepError;
use crate::step::{self, Node, Session, Task};
use crate::vitals;
use piseduce_protocol::id::Ticket;
use piseduce_protocol::report::{Outcome, Progress, Written};
use std::sync::mpsc as jobs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};
use tokio::sync::mpsc;

/// Events that the runner has not taken yet; progress beyond it is dropped.
const EVENTS_MAX: usize = 64;

/// What the worker has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEvent {
    /// The work of this ticket moves.
    Progress(Ticket, Progress),
    /// Its copy wrote.
    Written(Written),
    /// It ended; without an outcome when it was made to end early.
    Ended(Ticket, Option<Outcome>),
}

/// The handle of the worker's thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Worker {
    jobs: jobs::Sender<Assignment>,
    cancel: Cancel,
}

struct Assignment {
    ticket: Ticket,
    job: Job,
    unix_ms: u64,
    cancel: Cancel,
}

impl Worker {
    /// Starts the thread. The channel closes when the thread dies.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(node: Node) -> io::Result<(Self, mpsc::Receiver<WorkerEvent>)> {
        let (jobs, queue) = jobs::channel::<Assignment>();
        let (events, heard) = mpsc::channel(EVENTS_MAX);
        thread::Builder::new().name("worker".into()).spawn(move || {
            if let Err(error) = mount::private_mounts() {
                tracing::warn!(%error, "the card's mounts are visible to others");
            }
            let mut session = None;
            while let Ok(job) = queue.recv() {
                let outcome = job.perform(&node, &mut session, &events);
                // The runner may be gone; then nobody waits for this.
                let _ = events.blocking_send(WorkerEvent::Ended(job.ticket, outcome));
            }
        })?;
        Ok((Worker { jobs, cancel: Cancel::new() }, heard))
    }

    /// Gives the idle worker something to do.
    pub fn begin(&mut self, ticket: Ticket, job: Job, unix_ms: u64) {
        self.cancel = Cancel::new();
        let assignment = Assignment { ticket, job, unix_ms, cancel: self.cancel.clone() };
        // A dead thread is noticed by its closed channel.
        let _ = self.jobs.send(assignment);
    }

    /// Makes the present work end early, in an orderly way.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Assignment {
    fn perform(
        &self,
        node: &Node,
        session: &mut Option<Session>,
        events: &mpsc::Sender<WorkerEvent>,
    ) -> Option<Outcome> {
        let meter = Mutex::new(Meter::default());
        let advance = |done, total| {
            let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(progress) = meter.advance(clock::now(), done, total) {
                let _ = events.try_send(WorkerEvent::Progress(self.ticket, progress));
            }
        };
        let ticket = self.ticket;
        tracing::info!(%ticket, job = %self.job, "work begins");
        let result = match &self.job {
            Job::Perform(work) => {
                let (unix_ms, cancel) = (self.unix_ms, &self.cancel);
                let wrote = |bytes, busy: Duration| {
                    let busy_ms = u64::try_from(busy.as_millis()).unwrap_or(u64::MAX);
                    // The runner may be gone; then nobody waits for this.
                    let _ = events.blocking_send(WorkerEvent::Written(Written { ticket, bytes, busy_ms }));
                };
                let task = Task { node, ticket, work, unix_ms, cancel, advance: &advance, wrote: &wrote };
                step::perform(session, task)
            }
            Job::Wipe(wipe) => step::wipe::wipe(node, *wipe, &self.cancel, &advance),
        };
        match result {
            Ok(done) => {
                let peak_kib = vitals::peak_kib();
                tracing::info!(%ticket, job = %self.job, done, peak_kib, "work done");
                Some(Outcome::Done(done))
            }
            Err(StepError::Cancelled) => {
                tracing::info!(%ticket, job = %self.job, "work stopped");
                None
            }
            Err(StepError::Failed(cause)) => {
                tracing::warn!(%ticket, job = %self.job, %cause, "work failed");
                Some(Outcome::Failed(cause))
            }
        }
    }
}

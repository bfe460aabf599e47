//! One queue a switch: never more than one request in flight, a `set` believed only after a `read`, every
//! wait bounded. A newer job for a port replaces an older one.

use super::place::{PlaceCheck, Places, Verdict};
use super::{Answer, Line, Port, Power, PowerError, PowerSwitch};
use crate::clock::{self, Instant};
use crate::domain::boot_evidence::Place;
use crate::machine::event::Powered;
use futures_util::FutureExt as _;
use piseduce_protocol::cause::{Cause, CauseKind};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

/// How long the queue waits for what.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Until a port that was switched off shows that it delivers nothing.
    pub off_proven: Duration,
    /// Until a port that was switched on shows that it delivers power.
    pub on_proven: Duration,
    /// Between two readings.
    pub read_every: Duration,
    /// Until a switch that does not answer is given up.
    pub unreachable: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            // PSEs end power within a second; 10 s and 20 s leave room for slow management processors.
            off_proven: Duration::from_secs(10),
            on_proven: Duration::from_secs(20),
            read_every: Duration::from_millis(250),
            unreachable: Duration::from_secs(600),
        }
    }
}

/// The longest pause between two tries at a switch that does not answer.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// What to do with a port.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which port.
    pub port: Port,
    /// What to make of it.
    pub power: Power,
    /// For how long after another port was switched on this one may not be.
    pub gap: Duration,
}

/// The queue of one switch.
pub struct PowerQueue {
    line: Line,
    off_time: Duration,
    protected: Vec<String>,
    limits: Limits,
    jobs: HashMap<String, AbortHandle>,
    place: PlaceCheck,
    /// What is to be said of how a port was cut last.
    remarks: Troubles,
    troubles: Troubles,
    sightings: Sightings,
    /// When a port was last switched on.
    last_on: Arc<Mutex<Option<Instant>>>,
}

/// A text for a port.
type Troubles = Arc<std::sync::Mutex<HashMap<String, String>>>;

/// Where the switch saw the node of a port when that was last cut off.
type Sightings = Arc<std::sync::Mutex<HashMap<String, Place>>>;

impl PowerQueue {
    /// A queue for the switch at the end of `line`; after a port is off it stays so for `off_time` before the job is
    /// done. Jobs for `protected` ports fail.
    pub fn new(line: Line, off_time: Duration, protected: Vec<String>, limits: Limits) -> Self {
        PowerQueue {
            line,
            off_time,
            protected,
            limits,
            jobs: HashMap::new(),
            place: PlaceCheck::default(),
            remarks: Arc::default(),
            troubles: Arc::default(),
            sightings: Arc::default(),
            last_on: Arc::default(),
        }
    }

    /// Why the switch does not answer for a port now, if it does not.
    pub fn trouble(&self, port: &str) -> Option<String> {
        self.troubles.lock().expect("nobody panics while holding it").get(port).cloned()
    }

    /// Where the switch saw the node of a port before it was last cut off, as far as it tells.
    pub fn place(&self, port: &str) -> Option<Place> {
        self.sightings.lock().expect("nobody panics while holding it").get(port).copied()
    }

    /// What is to be said of how a port was cut last, once: that nobody knew who was there.
    pub fn take_remark(&self, port: &str) -> Option<String> {
        self.remarks.lock().expect("nobody panics while holding it").remove(port)
    }

    /// Where nodes belong; whoever is seen elsewhere is not cut off.
    pub fn set_places(&mut self, places: Places) {
        self.place.set_places(places);
    }

    /// The line that the queue uses.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Starts `job` in place of any other for its port; `done` hears how it ended, unless it is replaced.
    pub fn start(&mut self, job: Job, done: impl FnOnce(Powered) + Send + 'static) {
        let port = job.port.port.clone();
        if self.protected.contains(&port) {
            let cause =
                Cause::new(CauseKind::SwitchRefused, format!("port {port} is protected: nobody switches it"));
            return done(Powered::Failed(cause));
        }
        let worker = Worker {
            line: self.line.clone(),
            off_time: self.off_time,
            limits: self.limits.clone(),
            place: self.place.clone(),
            remarks: self.remarks.clone(),
            troubles: self.troubles.clone(),
            sightings: self.sightings.clone(),
            last_on: self.last_on.clone(),
            job,
        };
        self.troubles.lock().expect("nobody panics while holding it").remove(&port);
        let task = tokio::spawn(async move {
            // A driver that panics is told of; without an answer its node would wait for a day.
            let ended = AssertUnwindSafe(worker.run()).catch_unwind().await;
            done(ended.unwrap_or_else(|_| {
                let why = "the switch's driver failed, which is our mistake: see the coordinator's log";
                Powered::Failed(Cause::new(CauseKind::SwitchRefused, why))
            }));
        });
        if let Some(replaced) = self.jobs.insert(port, task.abort_handle()) {
            replaced.abort();
        }
    }
}

impl Drop for PowerQueue {
    fn drop(&mut self) {
        self.jobs.values().for_each(AbortHandle::abort);
    }
}

struct Worker {
    line: Line,
    off_time: Duration,
    limits: Limits,
    place: PlaceCheck,
    remarks: Troubles,
    troubles: Troubles,
    sightings: Sightings,
    last_on: Arc<Mutex<Option<Instant>>>,
    job: Job,
}

impl Worker {
    async fn run(&self) -> Powered {
        match self.set_and_prove().await {
            Ok(()) if self.job.power == Power::Off => {
                tokio::time::sleep(self.off_time).await;
                Powered::Off
            }
            Ok(()) => Powered::On,
            Err(cause) => Powered::Failed(cause),
        }
    }

    async fn set_and_prove(&self) -> Result<(), Cause> {
        let Job { port, power, gap } = &self.job;
        let (proven, kind) = match power {
            Power::Off => (self.limits.off_proven, CauseKind::PortNotOff),
            Power::On => (self.limits.on_proven, CauseKind::PortNotDelivering),
        };
        match power {
            Power::Off => {
                self.check_place().await?;
                self.answered(self.until(), |switch| switch.set(port, *power)).await?;
            }
            Power::On => {
                // Counted from here, so that those behind one that gets no answer give up with it.
                let until = self.until();
                // Admission spaces its permissions; requests of others between them would bring them together again.
                let mut last_on = self.last_on.lock().await;
                if let Some(at) = *last_on {
                    clock::sleep_until(at + *gap).await;
                }
                self.answered(until, |switch| switch.set(port, *power)).await?;
                *last_on = Some(clock::now());
            }
        }
        if !self.line.driver().reads_back() {
            return Ok(());
        }
        let proven = self.line.driver().patience().unwrap_or(proven);
        let until = clock::now() + proven;
        loop {
            let shown = self.answered(self.until(), |switch| switch.read(port)).await?;
            let is_so = match power {
                Power::Off => !shown.on && shown.delivering != Some(true),
                Power::On => shown.on && shown.delivering != Some(false),
            };
            if is_so {
                return Ok(());
            }
            if clock::now() >= until {
                let switched = if shown.on { "on" } else { "off" };
                let delivers = match shown.delivering {
                    Some(true) => " and delivers power",
                    Some(false) => " and delivers no power",
                    None => "",
                };
                let seen = format!(
                    "port {} is switched {switched}{delivers} after {} s",
                    port.port,
                    proven.as_secs()
                );
                return Err(Cause::new(kind, seen));
            }
            tokio::time::sleep(self.limits.read_every).await;
        }
    }

    /// Refuses to cut where the switch has seen the node elsewhere, or another one here, and where it cannot tell any
    /// more: who is wired otherwise than registered would cut off a stranger.
    async fn check_place(&self) -> Result<(), Cause> {
        let Job { port, .. } = &self.job;
        let verdict = self.patiently(self.until(), || self.place.verdict(&self.line, port)).await?;
        let place = verdict.place();
        self.sightings.lock().expect("nobody panics while holding it").insert(port.port.clone(), place);
        let (why, is_lost) = match verdict {
            Verdict::Right | Verdict::Unasked => return Ok(()),
            Verdict::Wrong(seen) => return Err(Cause::new(CauseKind::WrongPort, seen)),
            Verdict::Unseen(why) | Verdict::Untold(why) => (why, false),
            Verdict::Lost(why) => (why, true),
        };
        // Without power there is nobody to be cut off.
        let shown = self.answered(self.until(), |switch| switch.read(port)).await?;
        if !shown.on && shown.delivering != Some(true) {
            return Ok(());
        }
        if is_lost {
            return Err(Cause::new(CauseKind::PlaceUnknown, why));
        }
        tracing::warn!(port = %port.port, node = %port.node, why, "a port is cut unproven");
        let remark = format!("cut unproven: {why}");
        self.remarks.lock().expect("nobody panics while holding it").insert(port.port.clone(), remark);
        Ok(())
    }

    /// When a switch that does not answer from now on is given up.
    fn until(&self) -> Instant {
        clock::now() + self.limits.unreachable
    }

    /// One request, tried again while the switch does not answer.
    async fn answered<'a, T>(
        &'a self,
        until: Instant,
        request: impl Fn(&'a dyn PowerSwitch) -> Answer<'a, T>,
    ) -> Result<T, Cause> {
        self.patiently(until, || self.line.ask(&request)).await
    }

    /// Whatever asks the switch, again while it does not answer.
    async fn patiently<T, F: Future<Output = Result<T, PowerError>>>(
        &self,
        until: Instant,
        asking: impl Fn() -> F,
    ) -> Result<T, Cause> {
        let mut pause = self.limits.read_every;
        loop {
            let result = asking().await;
            self.note_trouble(&result);
            match result {
                Ok(answer) => return Ok(answer),
                Err(PowerError::Refused(why)) => return Err(Cause::new(CauseKind::SwitchRefused, why)),
                Err(PowerError::Unreachable(why)) if clock::now() >= until => {
                    return Err(Cause::new(CauseKind::SwitchUnreachable, why));
                }
                Err(PowerError::Unreachable(why)) => {
                    tracing::warn!(port = %self.job.port.port, node = %self.job.port.node, why, "switch does not answer");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }
}

impl Worker {
    /// Lets others know why the switch does not answer.
    fn note_trouble<T>(&self, result: &Result<T, PowerError>) {
        let mut troubles = self.troubles.lock().expect("nobody panics while holding it");
        match result {
            Err(PowerError::Unreachable(why)) => troubles.insert(self.job.port.port.clone(), why.clone()),
            Ok(_) | Err(PowerError::Refused(_)) => troubles.remove(&self.job.port.port),
        };
    }
}

#[cfg(test)]
mod tests;

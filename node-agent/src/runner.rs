//! The agent at work: hears, decides, acts, says; and beats whatever else happens.
//!
//! link → [`Agent`] → worker → [`Agent`] → link. Nothing in this loop blocks: work is done by the
//! worker's thread, and words are handed to the link. See `agent.rs` for the decisions.

use crate::agent::{Agent, Effect};
use crate::card::{self, activity::CardActivity};
use crate::clock;
use crate::identity::Identity;
use crate::link::{AddressError, Heard, Link};
use crate::log::Log;
use crate::step::Node;
use crate::vitals;
use crate::worker::{Worker, WorkerEvent};
use piseduce_protocol::PROTOCOL_VERSION;
use piseduce_protocol::boot::BootParameters;
use piseduce_protocol::command::Command;
use piseduce_protocol::report::{self, Beat, Hello, LOG_BYTES_MAX, Outcome, Report};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// A clock that differs from the head's by more than this many milliseconds is set.
const CLOCK_DIFFERENCE_MS: u64 = 2000;

/// How long the answer to a reboot may take to be acknowledged, and a goodbye to be sent.
const LAST_WORDS_SECONDS: u64 = 2;

/// How long work may take to end in an orderly way when the agent is terminated.
const LAST_WORK_SECONDS: u64 = 10;

/// What an agent is told when it starts.
pub struct Options {
    /// Who it is.
    pub identity: Identity,
    /// Where that was read.
    pub root: PathBuf,
    /// What the coordinator wrote on the kernel command line.
    pub parameters: BootParameters,
    /// The card's device.
    pub card: PathBuf,
    /// Whether the system's clock is set from the first command.
    pub set_clock: bool,
    /// The time between two heartbeats.
    pub beat: Duration,
    /// How long the head node may send nothing before a fetch is given up.
    pub patience: Duration,
    /// Where the agent's log is kept.
    pub log: Log,
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to from outside.
    Terminated,
    /// The coordinator wants the node to restart; everything is unmounted and said.
    Reboot,
}

/// Why an agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel command line names no broker.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No thread could be started.
    #[error("failed to start the worker")]
    Worker(#[source] std::io::Error),
    /// A thread of the agent died, which it must not.
    #[error("{0} ended by itself")]
    Died(&'static str),
}

/// Runs the agent until the coordinator asks for a reboot or `terminated` comes to its end. Needs a tokio
/// runtime with time and input/output.
///
/// # Errors
/// [`RunError`].
pub async fn run(options: Options, terminated: impl Future<Output = ()>) -> Result<End, RunError> {
    let keys = options.parameters.token.keys();
    let node = Node {
        card: options.card.clone(),
        head: options.parameters.head.clone(),
        patience: options.patience,
        bundle_key: keys.bundle,
        upload_key: keys.upload,
        model: options.identity.model.clone(),
    };
    let (worker, mut events) = Worker::start(node).map_err(RunError::Worker)?;
    let (link, mut ear) = Link::open(&options.parameters)?;
    let mut beat = interval(options.beat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut runner = Runner {
        options,
        agent: Agent::default(),
        worker,
        link,
        epoch: 0,
        activity: None,
        has_time: false,
        told_us: 0,
    };
    tokio::pin!(terminated);
    loop {
        let effects = tokio::select! {
            heard = ear.recv() => runner.hear(heard.ok_or(RunError::Died("the link"))?),
            event = events.recv() => match event.ok_or(RunError::Died("the worker"))? {
                WorkerEvent::Progress(ticket, progress) => runner.agent.progress(ticket, progress),
                WorkerEvent::Written(written) => {
                    runner.link.report(&Report::Written(written));
                    continue;
                }
                WorkerEvent::Ended(ticket, outcome) => runner.agent.ended(ticket, outcome),
            },
            _ = beat.tick() => {
                runner.beat();
                continue;
            }
            () = &mut terminated => {
                runner.worker.cancel();
                if runner.agent.worker().is_some() {
                    let ended = async { while !matches!(events.recv().await, None | Some(WorkerEvent::Ended(..))) {} };
                    let _ = tokio::time::timeout(Duration::from_secs(LAST_WORK_SECONDS), ended).await;
                }
                runner.link.close(Duration::from_secs(LAST_WORDS_SECONDS)).await;
                return Ok(End::Terminated);
            }
        };
        for effect in effects {
            if effect == Effect::Reboot {
                runner.link.acknowledged(Duration::from_secs(LAST_WORDS_SECONDS)).await;
                runner.link.close(Duration::from_secs(LAST_WORDS_SECONDS)).await;
                return Ok(End::Reboot);
            }
            runner.act(effect);
        }
    }
}

struct Runner {
    options: Options,
    agent: Agent,
    worker: Worker,
    link: Link,
    /// The highest epoch of the coordinator that a command has shown.
    epoch: u32,
    /// What the card had done at the last beat.
    activity: Option<CardActivity>,
    has_time: bool,
    /// Up to when the log was told on this connection, in microseconds since boot.
    told_us: u64,
}

impl Runner {
    fn hear(&mut self, heard: Heard) -> Vec<Effect> {
        if matches!(heard, Heard::Connected | Heard::Announce) {
            // What was told before may have been lost.
            self.told_us = 0;
        }
        match heard {
            Heard::Connected => {
                tracing::info!(broker = self.options.parameters.broker, "linked to the broker");
                self.agent.introduce()
            }
            Heard::Announce => self.agent.introduce(),
            Heard::Command { counter, command } => {
                // Commands are counted as epoch << 32 | n.
                self.epoch = self.epoch.max((counter >> 32) as u32);
                self.set_clock(&command);
                let own = if command.unix_ms == 0 { clock::unix_ms() } else { command.unix_ms };
                self.agent.command(Command { unix_ms: own, ..command })
            }
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Hello => self.link.report(&Report::Hello(self.hello())),
            Effect::Say(answer) => {
                // The log first: whoever knows how work ended, knows what led to it.
                if matches!(answer.outcome, Outcome::Done(_) | Outcome::Failed(_)) {
                    self.tell_log();
                }
                self.link.report(&Report::Answer(answer));
            }
            Effect::Begin { ticket, job, unix_ms } => self.worker.begin(ticket, job, unix_ms),
            Effect::Cancel => self.worker.cancel(),
            Effect::Reboot => unreachable!("the loop ends with it"),
        }
    }

    /// Takes the head's time from the first command: a Pi has none at boot.
    fn set_clock(&mut self, command: &Command) {
        if self.has_time || !self.options.set_clock || command.unix_ms == 0 {
            return;
        }
        self.has_time = true;
        if clock::unix_ms().abs_diff(command.unix_ms) <= CLOCK_DIFFERENCE_MS {
            return;
        }
        match clock::set_unix_ms(command.unix_ms) {
            Ok(()) => tracing::info!(unix_ms = command.unix_ms, "the clock is set"),
            Err(error) => tracing::warn!(%error, "the clock cannot be set"),
        }
    }

    fn hello(&self) -> Hello {
        let identity = &self.options.identity;
        Hello {
            serial: identity.serial,
            mac: identity.mac.clone(),
            model: identity.model.clone(),
            kernel: identity.kernel.clone(),
            protocol: (PROTOCOL_VERSION, PROTOCOL_VERSION),
            agent: env!("CARGO_PKG_VERSION").into(),
            card: card::describe(&self.options.root, &self.options.card),
            bootloader: identity.bootloader.clone(),
            doing: self.agent.doing(),
        }
    }

    /// Tells what was logged since the last time; as much as a message holds.
    fn tell_log(&mut self) {
        let lines = self.options.log.after(self.told_us, LOG_BYTES_MAX);
        let Some(last) = lines.last() else { return };
        self.told_us = last.at_us;
        self.link.report(&Report::Log(report::Log { now_us: clock::since_boot_us(), lines }));
    }

    fn beat(&mut self) {
        self.tell_log();
        let activity = CardActivity::read(&self.options.card);
        let is_busy = activity.is_some_and(|now| now.in_flight > 0) || activity != self.activity;
        // The first beat has nothing to compare with.
        let card_busy = is_busy && self.activity.is_some();
        self.activity = activity;
        let standing = self.agent.standing();
        self.link.beat(&Beat {
            last: standing.map(|(ticket, standing, _)| (ticket, standing)),
            progress: standing.and_then(|(_, _, progress)| progress),
            card_busy,
            epoch: self.epoch,
            resident_kib: vitals::resident_kib(),
        });
    }
}

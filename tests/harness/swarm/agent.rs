//! A virtual agent: the real one's decisions, seals and words, and work that only takes time. Manifest and bundle are fetched
//! and checked; nothing is written.

use super::board::{Board, Card, count};
use super::session::Session;
use super::work::{Finished, Task};
use piseduce_agent::agent::{Agent, Effect, Job};
use piseduce_agent::backoff::Backoff;
use piseduce_agent::clock;
use piseduce_protocol::PROTOCOL_VERSION;
use piseduce_protocol::boot::{BootParameters, client_id};
use piseduce_protocol::command::Command;
use piseduce_protocol::id::Ticket;
use piseduce_protocol::report::{Beat, CardInfo, Hello, KernelId, Log, LogLine, Outcome, Progress, Report};
use piseduce_protocol::seal::{BootKeys, Window, open, seal};
use piseduce_protocol::state::State;
use piseduce_protocol::topic::Topic;
use rumqttc::{Connect, LastWill, QoS};
use serde::Serialize;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

// These are the real agent's; see its `link.rs`, `meter.rs` and `runner.rs`.
const KEEP_ALIVE_SECONDS: u16 = 5;
const BEAT: Duration = Duration::from_secs(5);
const PROGRESS: Duration = Duration::from_millis(500);
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a copy is that ends when the driver says so.
const COPY_BYTES: u64 = 2 << 30;

/// Runs an agent on `board` until it is asked to reboot.
pub(super) async fn run(board: &Arc<Board>, parameters: &BootParameters, card: &mut Card) {
    // A broker that is no address is none of ours.
    let Ok(broker) = parameters.broker.parse() else { return pending().await };
    let mut runner = Runner::new(board, parameters);
    let mut pauses = Backoff::new(PAUSE_FIRST, PAUSE_LONGEST);
    loop {
        let ended = match runner.link(broker).await {
            Ok(session) => {
                pauses.reset();
                let _linked = Linked::new(&board.shared.linked);
                runner.converse(session, card).await
            }
            Err(error) => Err(error),
        };
        if ended.is_ok() {
            return;
        }
        // The broker ends the link of a boot that is over: its card is wiped, and the port goes off in a moment.
        if !runner.is_wiped {
            count(&board.shared.faults.links);
        }
        sleep(pauses.pause()).await;
    }
}

/// Counts a link as long as it lives.
struct Linked<'a>(&'a AtomicUsize);

impl<'a> Linked<'a> {
    fn new(count: &'a AtomicUsize) -> Linked<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Linked(count)
    }
}

impl Drop for Linked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Working = Pin<Box<dyn Future<Output = Finished> + Send>>;

struct Runner {
    board: Arc<Board>,
    parameters: BootParameters,
    keys: BootKeys,
    kernel: KernelId,
    agent: Agent,
    work: Option<(Ticket, Working)>,
    /// Ticks while a copy reports its progress.
    progress: Option<Interval>,
    beat: Interval,
    window: Window,
    counter: u64,
    epoch: u32,
    log: Vec<LogLine>,
    /// Whether a wipe is done, which is the last work of a boot.
    is_wiped: bool,
}

impl Runner {
    fn new(board: &Arc<Board>, parameters: &BootParameters) -> Runner {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
        let mut runner = Runner {
            board: board.clone(),
            parameters: parameters.clone(),
            keys: parameters.token.keys(),
            kernel: KernelId(boot_id.trim().into()),
            agent: Agent::default(),
            work: None,
            progress: None,
            beat,
            window: Window::default(),
            counter: 0,
            epoch: 0,
            log: Vec::new(),
            is_wiped: false,
        };
        runner.note(format!("agent of {} in boot {}", board.name(), parameters.boot));
        runner
    }

    fn topic(&self, topic: &Topic) -> String {
        self.parameters.site.render(topic)
    }

    fn note(&mut self, text: String) {
        let at_us = clock::since_boot_us().max(self.log.last().map_or(0, |line| line.at_us + 1));
        self.log.push(LogLine { at_us, text });
    }

    fn seal<T: Serialize>(&mut self, topic: &str, body: &T) -> Vec<u8> {
        self.counter = clock::since_boot_us().max(self.counter + 1);
        let message = seal(&self.keys.message, topic, self.parameters.boot, self.counter, body);
        message.expect("a virtual agent says little")
    }

    async fn link(&mut self, broker: SocketAddr) -> anyhow::Result<Session> {
        let serial = self.parameters.serial;
        let own = || (serial.to_string(), self.keys.mqtt_password.clone());
        let account = self.parameters.account.clone();
        let (user, password) = account.map_or_else(own, |account| (account.user, account.password));
        let link = self.topic(&Topic::Link(serial));
        let will = self.seal(&link, &());
        let mut connect = Connect::new(client_id(serial));
        connect.keep_alive = KEEP_ALIVE_SECONDS;
        connect.set_login(user, password);
        connect.last_will = Some(LastWill::new(link, will, QoS::AtLeastOnce, false));
        let filters = [self.topic(&Topic::Command(serial)), self.topic(&Topic::Announce)];
        Session::open(self.board.address, broker, connect, filters).await
    }

    /// One connection, which ends well only after a goodbye.
    async fn converse(&mut self, mut session: Session, card: &mut Card) -> anyhow::Result<()> {
        self.note(format!("linked to the broker {}", self.parameters.broker));
        let introduction = self.agent.introduce();
        self.act(&mut session, introduction).await?;
        loop {
            let effects = tokio::select! {
                publish = session.next() => {
                    let publish = publish?;
                    session.acknowledge(&publish).await?;
                    self.understand(&publish.topic, &publish.payload)
                }
                finished = finished(&mut self.work) => self.finished(&mut session, finished, card).await?,
                () = tick(&mut self.progress) => self.agent_moves(),
                _ = self.beat.tick() => {
                    self.beat(&mut session).await?;
                    continue;
                }
            };
            if effects.contains(&Effect::Reboot) {
                self.act(&mut session, effects).await?;
                // Who waits for an acknowledgement in vain says goodbye all the same.
                let _ = timeout(LAST_WORDS, session.acknowledged()).await;
                // The broker may be gone; then nobody misses a goodbye.
                let _ = session.close().await;
                return Ok(());
            }
            self.act(&mut session, effects).await?;
        }
    }

    fn understand(&mut self, topic: &str, payload: &[u8]) -> Vec<Effect> {
        if topic == self.topic(&Topic::Announce) {
            return self.agent.introduce();
        }
        let topic = self.topic(&Topic::Command(self.parameters.serial));
        let boot = self.parameters.boot;
        match open::<Command>(&self.keys.message, &topic, boot, &mut self.window, payload) {
            Ok((counter, command)) => {
                self.epoch = self.epoch.max((counter >> 32) as u32);
                self.agent.command(command)
            }
            Err(_) => {
                count(&self.board.shared.faults.seals);
                vec![]
            }
        }
    }

    async fn act(&mut self, session: &mut Session, effects: Vec<Effect>) -> anyhow::Result<()> {
        for effect in effects {
            match effect {
                Effect::Hello => self.report(session, &Report::Hello(self.hello())).await?,
                Effect::Say(answer) => {
                    if matches!(answer.outcome, Outcome::Done(_) | Outcome::Failed(_)) {
                        self.tell_log(session).await?;
                    }
                    self.report(session, &Report::Answer(answer)).await?;
                }
                Effect::Begin { ticket, job, .. } => self.begin(ticket, job),
                Effect::Cancel => {
                    let stopped = self.work.take();
                    self.progress = None;
                    if let Some((ticket, _)) = stopped {
                        let effects = self.agent.ended(ticket, None);
                        Box::pin(self.act(session, effects)).await?;
                    }
                }
                Effect::Reboot => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, ticket: Ticket, job: Job) {
        self.note(format!("work begins ticket={ticket} job={job}"));
        let copies = matches!(&job, Job::Perform(work) if work.state == State::EnvCopy);
        self.progress = copies.then(|| interval(PROGRESS));
        let (board, parameters, key) = (self.board.clone(), self.parameters.clone(), self.keys.bundle);
        let working = async move {
            let task = Task { board: &board, parameters: &parameters, key, ticket };
            task.perform(&job).await
        };
        self.work = Some((ticket, Box::pin(working)));
    }

    async fn finished(
        &mut self,
        session: &mut Session,
        (ticket, finished): (Ticket, Finished),
        card: &mut Card,
    ) -> anyhow::Result<Vec<Effect>> {
        (self.work, self.progress) = (None, None);
        self.is_wiped |= finished.is_wipe;
        if let Some(content) = finished.card {
            *card = content;
        }
        if let Some(written) = finished.written {
            self.report(session, &Report::Written(written)).await?;
        }
        self.note(format!("work done ticket={ticket} peak_kib=9000"));
        Ok(self.agent.ended(ticket, Some(finished.outcome)))
    }

    fn agent_moves(&mut self) -> Vec<Effect> {
        let progress = Progress { done: 0, total: COPY_BYTES, rate: 0, seconds_left: None };
        self.work.as_ref().map(|(ticket, _)| self.agent.progress(*ticket, progress)).unwrap_or_default()
    }

    async fn report(&mut self, session: &mut Session, report: &Report) -> anyhow::Result<()> {
        let topic = self.topic(&Topic::Report(self.parameters.serial));
        let message = self.seal(&topic, report);
        session.publish(&topic, QoS::AtLeastOnce, message).await
    }

    async fn tell_log(&mut self, session: &mut Session) -> anyhow::Result<()> {
        let lines = std::mem::take(&mut self.log);
        if lines.is_empty() {
            return Ok(());
        }
        self.report(session, &Report::Log(Log { now_us: clock::since_boot_us(), lines })).await
    }

    async fn beat(&mut self, session: &mut Session) -> anyhow::Result<()> {
        self.tell_log(session).await?;
        let standing = self.agent.standing();
        let beat = Beat {
            last: standing.map(|(ticket, standing, _)| (ticket, standing)),
            progress: standing.and_then(|(_, _, progress)| progress),
            card_busy: self.work.is_some(),
            epoch: self.epoch,
            resident_kib: 9000,
        };
        let topic = self.topic(&Topic::Beat(self.parameters.serial));
        let message = self.seal(&topic, &beat);
        session.publish(&topic, QoS::AtMostOnce, message).await?;
        session.ping().await
    }

    fn hello(&self) -> Hello {
        Hello {
            serial: self.parameters.serial,
            mac: self.board.mac(),
            model: self.board.model().into(),
            kernel: self.kernel.clone(),
            protocol: (PROTOCOL_VERSION, PROTOCOL_VERSION),
            agent: env!("CARGO_PKG_VERSION").into(),
            card: Some(CardInfo {
                device: "/dev/mmcblk0".into(),
                bytes: 32 << 30,
                cid: Some(format!("{:032x}", self.parameters.serial.0)),
            }),
            bootloader: vec![],
            doing: self.agent.doing(),
        }
    }
}

async fn finished(work: &mut Option<(Ticket, Working)>) -> (Ticket, Finished) {
    match work {
        Some((ticket, working)) => (*ticket, working.await),
        None => pending().await,
    }
}

async fn tick(progress: &mut Option<Interval>) {
    match progress {
        Some(interval) => drop(interval.tick().await),
        None => pending().await,
    }
}

//! The loop: event → `advance` → save → perform. The only owner of live deployments, and the only
//! caller of the machine; whatever comes in while a transaction is written shares the next one.
//!
//! Decides nothing itself. What comes in is in [`inbox`], what goes out in [`perform`], what others may
//! look at in [`board`], reservation times in [`calendar`], what each deployment waits for in [`waits`],
//! what is kept of consoles in [`consoles`].

mod admit;
mod boots;
mod calendar;
mod cards;
mod consoles;
mod inventory;
mod orders;
mod perform;
mod recovery;
mod reports;
mod requests;
mod save;
mod show;
mod site;
mod timetable;
mod uptime;
mod views;
mod waits;

pub mod board;
pub mod card_watch;
pub mod housekeeping;
pub mod inbox;
pub mod jobs;

pub use board::{Board, NodeView};
pub use calendar::Distrust;
pub use inbox::{Handle, RequestError};
pub use orders::{PortOrder, SwitchedPort, Wish};
pub use perform::{Outside, card_proofs};
pub use requests::{Answer, OnRefusal};

use crate::clock::{self, Instant, UnixMs};
use crate::domain::card::CardNote;
use crate::domain::deployment::Deployment;
use crate::domain::node::{Node, NodeId, SwitchId};
use crate::domain::reservation::ReservationId;
use crate::machine::event::Event;
use crate::machine::{Effect, Live, Moment, Policy, Refusal, advance};
use crate::store::{Actor, AgentWords, Change, ClockKept, JournalId, Store, StoreError};
use admit::{Admissions, Standing};
use calendar::Calendar;
use inbox::Message;
use orders::Orders;
use piseduce_protocol::id::{DeploymentId, Serial};
use piseduce_protocol::report::{CardInfo, Progress};
use piseduce_protocol::state::State;
use site::Site;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;
use timetable::Timetable;
use tokio::sync::{mpsc, watch};
use uptime::Watch;

/// At most this many messages share a transaction.
const MESSAGES_A_TURN: usize = 256;
/// Messages that wait for their turn; who sends more waits.
const INBOX_MESSAGES: usize = 1024;
/// Calendar times are looked at this often, because the calendar may be set meanwhile.
const CALENDAR_EVERY: Duration = Duration::from_secs(5);

/// A live deployment with what belongs to it.
struct Held {
    live: Live,
    node: NodeId,
    owner: String,
    reservation: ReservationId,
    form_until: UnixMs,
    until: UnixMs,
    since: UnixMs,
    journal: JournalId,
    progress: Option<Progress>,
    /// The card that its agent last showed.
    card: Option<CardInfo>,
    /// What it was last shown to wait for.
    waiting: Option<String>,
}

/// A node and what is known of it now.
struct Known {
    node: Node,
    deployment: Option<DeploymentId>,
    powered: Option<bool>,
    /// What nobody can explain of it, since it was last switched on.
    alarm: Option<String>,
    /// The card that was last seen in it, by its identification.
    card: Option<String>,
    /// When its agent last said hello.
    hello: Option<Instant>,
    journal: JournalId,
}

/// Owns every live deployment.
pub struct Runner {
    store: Store,
    policy: Policy,
    outside: Outside,
    board: Board,
    inbox: mpsc::Receiver<Message>,
    handle: mpsc::WeakSender<Message>,
    lives: BTreeMap<DeploymentId, Held>,
    /// When each deployment's next deadline falls due.
    deadlines: Timetable<DeploymentId, Instant>,
    /// When the calendar ends each of them, or its open form.
    endings: Timetable<DeploymentId, UnixMs>,
    nodes: HashMap<NodeId, Known>,
    serials: HashMap<Serial, NodeId>,
    /// The nodes on each switch.
    switches: HashMap<SwitchId, BTreeSet<NodeId>>,
    link_since: Option<Instant>,
    calendar: Calendar,
    /// Why the calendar ends nothing now.
    distrust: Option<Distrust>,
    /// When the waits were last looked at.
    waits_seen: Instant,
    watches: HashMap<SwitchId, Watch>,
    site: Site,
    orders: Orders,
    admissions: Admissions,
    turn: TurnLog,
    /// Says that the coordinator ends, once it serves.
    stop: Option<watch::Receiver<bool>>,
}

/// What one turn of the loop has gathered.
#[derive(Default)]
struct TurnLog {
    changes: Vec<Change>,
    /// The state that each change left.
    left: Vec<State>,
    /// What follows from the last change of each deployment.
    effects: BTreeMap<DeploymentId, Vec<Effect>>,
    /// Who is answered when the turn is on disk.
    replies: Vec<Box<dyn FnOnce() + Send + Sync>>,
    /// What agents told, for people.
    words: Vec<AgentWords>,
    /// What happened to cards.
    cards: Vec<CardNote>,
    /// Whether something changed that concerns every node.
    show_all: bool,
    /// What is to be noted besides: who, what, details.
    notes: Vec<(Actor, &'static str, String)>,
    /// What became known of the head's clock.
    clock: Option<ClockKept>,
    /// What the turn itself brought up, for the next one.
    next: VecDeque<Message>,
}

impl Runner {
    /// Loads every live deployment and takes it up again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(
        store: Store,
        policy: Policy,
        outside: Outside,
        board: Board,
        trust_unsynchronised: bool,
    ) -> Result<(Runner, Handle), StoreError> {
        let (sender, inbox) = mpsc::channel(INBOX_MESSAGES);
        let mut runner = Runner {
            store,
            policy,
            outside,
            board,
            inbox,
            handle: sender.downgrade(),
            lives: BTreeMap::new(),
            deadlines: Timetable::default(),
            endings: Timetable::default(),
            nodes: HashMap::new(),
            serials: HashMap::new(),
            switches: HashMap::new(),
            link_since: None,
            calendar: Calendar::new(trust_unsynchronised),
            distrust: None,
            waits_seen: Instant::default(),
            watches: HashMap::new(),
            site: Site::default(),
            orders: Orders::default(),
            admissions: Admissions::default(),
            turn: TurnLog::default(),
            stop: None,
        };
        runner.load_inventory().await?;
        runner.calendar.remember(runner.store.clock().await?, runner.store.latest_entry().await?);
        runner.read_calendar();
        for stored in runner.store.live_deployments().await? {
            let id = stored.deployment.id;
            runner.take_up(stored);
            runner.step(id, &Event::CoordinatorStarted, &Actor::Machine, None);
        }
        runner.know_no_ports();
        runner.watch_switches(true);
        runner.show_all();
        let handle = Handle::new(sender, runner.board.unsaved());
        Ok((runner, handle))
    }

    /// Serves until every handle is gone or `stop` changes.
    ///
    /// # Errors
    /// When the store holds what this program never wrote, or the coordinator ends while the disk takes nothing: what
    /// could not be saved was not done.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), StoreError> {
        self.stop = Some(stop.clone());
        self.settle().await?;
        let mut messages = Vec::new();
        loop {
            let wake = self.wake_at();
            tokio::select! {
                count = self.inbox.recv_many(&mut messages, MESSAGES_A_TURN) => {
                    if count == 0 { return Ok(()) }
                }
                () = clock::sleep_until(wake) => {}
                _ = stop.changed() => return Ok(()),
            }
            for message in messages.drain(..) {
                self.receive(message).await?;
            }
            self.settle().await?;
            self.show_waits();
        }
    }

    /// Lets time, admission and what followed from this turn take effect until nothing is left to do now.
    async fn settle(&mut self) -> Result<(), StoreError> {
        loop {
            self.tick();
            self.follow_calendar();
            self.follow_recoveries();
            self.admit();
            self.commit().await?;
            let next = std::mem::take(&mut self.turn.next);
            if next.is_empty() {
                return Ok(());
            }
            for message in next {
                self.receive(message).await?;
            }
        }
    }

    fn moment(&self) -> Moment {
        Moment { at: clock::now(), link_since: self.link_since }
    }

    fn wake_at(&self) -> Instant {
        let next = [self.deadlines.next(), self.admissions.next(), self.recovery_wakes_at()];
        next.into_iter().flatten().fold(clock::now() + CALENDAR_EVERY, Instant::min)
    }

    fn tick(&mut self) {
        for id in self.deadlines.due(clock::now()) {
            self.step(id, &Event::Tick, &Actor::Machine, None);
        }
    }

    /// Notes when something falls due at a deployment, if nothing happens before.
    fn set_times(&mut self, id: DeploymentId) {
        let held = self.lives.get(&id);
        let deadline = held.and_then(|held| held.live.deadline(self.moment(), &self.policy));
        self.deadlines.set(id, deadline);
        self.endings.set(id, held.and_then(calendar::falls_due));
    }

    /// The clocks of all deployments go on or stand still from now on.
    fn set_link_since(&mut self, since: Option<Instant>) {
        self.link_since = since;
        for id in self.lives.keys().copied().collect::<Vec<_>>() {
            self.set_times(id);
        }
    }

    /// One event at one deployment; what changed is saved at the end of the turn.
    fn step(
        &mut self,
        id: DeploymentId,
        event: &Event,
        actor: &Actor,
        detail: Option<String>,
    ) -> Option<Refusal> {
        let moment = self.moment();
        let held = self.lives.get_mut(&id)?;
        let (before, standing) = (held.live.deployment.clone(), Standing::of(held));
        let (live, mut effects) = advance(held.live.clone(), event, moment, &self.policy);
        held.live = live;
        if let Some(known) = self.nodes.get(&held.node).filter(|_| Standing::of(held) != standing) {
            self.admissions.changed(known.node.switch);
        }
        let refusal = effects.iter().find_map(|effect| match effect {
            Effect::Refuse(refusal) => Some(*refusal),
            _ => None,
        });
        effects.retain(|effect| !matches!(effect, Effect::Refuse(_)));
        let now = &held.live.deployment;
        if *now != before {
            if now.state() != before.state() || now.seq != before.seq {
                held.progress = None;
            }
            tracing::info!(deployment = %id, run = %now.run, seq = %now.seq, state = %now.state(), "state");
            self.turn.left.push(before.state());
            // What ended it is its cause already; what only sent it back is told nowhere else.
            let detail = detail.filter(|_| now.cause().is_none());
            let change = Change { deployment: now.clone(), node: held.node, actor: actor.clone(), detail };
            self.turn.changes.push(change);
            self.turn.effects.insert(id, effects);
        } else if !effects.is_empty() {
            self.turn.effects.insert(id, effects);
        }
        self.set_times(id);
        refusal
    }

    /// Saves what this turn changed, then acts on it.
    async fn commit(&mut self) -> Result<(), StoreError> {
        let changes = std::mem::take(&mut self.turn.changes);
        let left = std::mem::take(&mut self.turn.left);
        let at = clock::unix_ms();
        let saved = self.save_turn(&changes, &left, at).await?;
        if !changes.is_empty() {
            self.settle_changes(&changes, &saved);
            for ((change, from), saved) in changes.iter().zip(left).zip(saved) {
                if let Some(known) = self.nodes.get(&change.node) {
                    self.outside.tell(&known.node, &change.deployment, from, saved.journal, at);
                }
            }
        }
        if std::mem::take(&mut self.turn.show_all) {
            self.show_all();
        }
        for (id, effects) in std::mem::take(&mut self.turn.effects) {
            self.perform(id, effects);
        }
        self.turn.replies.drain(..).for_each(|reply| reply());
        Ok(())
    }

    fn deployment(&self, id: DeploymentId) -> Option<&Deployment> {
        self.lives.get(&id).map(|held| &held.live.deployment)
    }
}

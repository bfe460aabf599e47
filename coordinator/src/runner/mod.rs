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
mod orders;
mod perform;
mod recovery;
mod show;
mod site;
mod uptime;
mod waits;

pub mod board;
pub mod card_watch;
pub mod housekeeping;
pub mod inbox;
pub mod jobs;

pub use board::{Board, NodeView};
pub use calendar::Distrust;
pub use inbox::{Handle, RequestError};
pub use orders::{PortOrder, Wish};
pub use perform::Outside;

use crate::clock::{self, Instant, UnixMs};
use crate::domain::card::CardNote;
use crate::domain::deployment::{Condition, Deployment};
use crate::domain::node::{Node, NodeId, SwitchId};
use crate::domain::reservation::ReservationId;
use crate::machine::admission::{Lack, Who};
use crate::machine::event::Event;
use crate::machine::{Effect, Live, Moment, Policy, Refusal, advance};
use crate::store::{Actor, AgentWords, Change, JournalId, Saved, Store, StoreError, StoredDeployment};
use calendar::Calendar;
use inbox::{Message, Reply};
use orders::Orders;
use piseduce_protocol::id::{DeploymentId, Serial};
use piseduce_protocol::report::{CardInfo, Progress};
use piseduce_protocol::state::State;
use site::Site;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use uptime::{Watch, Watched};

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
    journal: JournalId,
}

impl Known {
    /// Its port is being switched on: whatever it does now is expected.
    fn is_switched_on(&mut self) {
        (self.powered, self.alarm) = (None, None);
    }
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
    nodes: HashMap<NodeId, Known>,
    serials: HashMap<Serial, NodeId>,
    link_since: Option<Instant>,
    calendar: Calendar,
    /// Why the calendar ends nothing now.
    distrust: Option<Distrust>,
    /// When the waits were last looked at.
    waits_seen: Instant,
    watches: HashMap<SwitchId, Watch>,
    site: Site,
    orders: Orders,
    /// What those who wait to be powered on are waiting for.
    lacks: HashMap<Who, Lack>,
    turn: TurnLog,
}

/// What one turn of the loop has gathered.
#[derive(Default)]
struct TurnLog {
    changes: Vec<Change>,
    /// The state that each change left.
    left: Vec<State>,
    /// What follows from the last change of each deployment.
    effects: BTreeMap<DeploymentId, Vec<Effect>>,
    replies: Vec<(Reply, Result<(), RequestError>)>,
    /// What agents told, for people.
    words: Vec<AgentWords>,
    /// What happened to cards.
    cards: Vec<CardNote>,
    /// Whether something changed that concerns every node.
    show_all: bool,
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
            nodes: HashMap::new(),
            serials: HashMap::new(),
            link_since: None,
            calendar: Calendar::new(trust_unsynchronised),
            distrust: None,
            waits_seen: Instant::default(),
            watches: HashMap::new(),
            site: Site::default(),
            orders: Orders::default(),
            lacks: HashMap::new(),
            turn: TurnLog::default(),
        };
        runner.load_inventory().await?;
        runner.calendar.seen(runner.store.latest_entry().await?);
        runner.calendar.step = runner.store.clock_step().await?;
        runner.read_calendar().await?;
        for stored in runner.store.live_deployments().await? {
            let id = stored.deployment.id;
            runner.take_up(stored);
            runner.step(id, &Event::CoordinatorStarted, &Actor::Machine, None);
        }
        runner.know_no_ports();
        runner.watch_switches(true);
        runner.show_all();
        Ok((runner, Handle::new(sender)))
    }

    async fn load_inventory(&mut self) -> Result<(), StoreError> {
        let anew = self.outside.set_switches(self.store.switches().await?);
        let nodes = self.store.nodes().await?;
        consoles::set(self.outside.consoles(), nodes.iter());
        self.forget_all_but(&nodes.iter().map(|node| node.id).collect());
        for node in nodes {
            self.serials.retain(|_, id| *id != node.id);
            self.serials.insert(node.attributes.serial, node.id);
            match self.nodes.get_mut(&node.id) {
                Some(known) => known.node = node,
                None => {
                    let fresh = Known {
                        node,
                        deployment: None,
                        powered: None,
                        alarm: None,
                        journal: JournalId::default(),
                    };
                    self.nodes.insert(fresh.node.id, fresh);
                }
            }
        }
        self.outside.set_places(self.nodes.values().map(|known| &known.node));
        self.power_again(&anew);
        self.order_again(&anew);
        Ok(())
    }

    /// Begins to watch switches that are not watched yet.
    pub(super) fn watch_switches(&mut self, at_start: bool) {
        self.watches
            .retain(|switch, watch| self.outside.line(*switch).is_some_and(|line| watch.is_over(&line)));
        for switch in self.outside.switches().collect::<Vec<_>>() {
            let Some(line) = self.outside.line(switch) else { continue };
            let (store, inbox, is_trusted) =
                (self.store.clone(), self.handle.clone(), self.distrust.is_none());
            let watched = Watched { switch, line, store, inbox, at_start, is_trusted };
            self.watches.entry(switch).or_insert_with(|| Watch::begin(watched));
        }
    }

    fn take_up(&mut self, stored: StoredDeployment) {
        let id = stored.deployment.id;
        self.calendar.seen(stored.since);
        if let Some(known) = self.nodes.get_mut(&stored.node.id) {
            known.deployment = Some(id);
            known.journal = stored.journal;
        }
        let held = Held {
            live: Live::new(stored.deployment, clock::now()),
            node: stored.node.id,
            owner: stored.owner,
            reservation: stored.reservation,
            form_until: stored.form_until,
            until: stored.until,
            since: stored.since,
            journal: stored.journal,
            progress: None,
            card: None,
            waiting: None,
        };
        self.lives.insert(id, held);
    }

    /// Serves until every handle is gone or `stop` changes.
    ///
    /// # Errors
    /// When the store fails: what cannot be saved must not be done, so the coordinator ends and is restarted.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), StoreError> {
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
            self.follow_calendar().await?;
            self.follow_recoveries().await?;
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
        let moment = self.moment();
        let deadlines = self.lives.values().filter_map(|held| held.live.deadline(moment, &self.policy));
        let pause = self.admission().look_again;
        deadlines
            .chain(pause)
            .chain(self.recovery_wakes_at())
            .min()
            .unwrap_or(Instant(u64::MAX))
            .min(moment.at + CALENDAR_EVERY)
    }

    fn tick(&mut self) {
        let moment = self.moment();
        let due = |held: &Held| held.live.deadline(moment, &self.policy).is_some_and(|at| at <= moment.at);
        let ids: Vec<DeploymentId> =
            self.lives.iter().filter(|(_, held)| due(held)).map(|(id, _)| *id).collect();
        for id in ids {
            self.step(id, &Event::Tick, &Actor::Machine, None);
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
        let before = held.live.deployment.clone();
        let (live, mut effects) = advance(held.live.clone(), event, moment, &self.policy);
        held.live = live;
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
        refusal
    }

    /// Saves what this turn changed, then acts on it.
    async fn commit(&mut self) -> Result<(), StoreError> {
        let changes = std::mem::take(&mut self.turn.changes);
        let left = std::mem::take(&mut self.turn.left);
        self.keep_told().await?;
        if !changes.is_empty() {
            let at = clock::unix_ms();
            if self.distrust.is_none() {
                self.calendar.seen(at);
            }
            // Before the state, so that whoever reads the state finds it.
            self.keep_consoles(&changes, &left, at).await?;
            let saved = self.store.save(changes.clone(), at).await?;
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
        for (reply, result) in self.turn.replies.drain(..) {
            // Whoever asked may be gone; what was asked is done all the same.
            let _ = reply.send(result);
        }
        Ok(())
    }

    /// What was saved is what everybody sees from now on: before its events are told, so that whoever hears of a
    /// change finds it.
    fn settle_changes(&mut self, changes: &[Change], saved: &[Saved]) {
        for (change, saved) in changes.iter().zip(saved) {
            let id = change.deployment.id;
            let Some(known) = self.nodes.get_mut(&change.node) else { continue };
            known.journal = saved.journal;
            if matches!(change.deployment.condition, Condition::Ended(_)) {
                known.deployment = None;
                self.board.count_ended();
                if let Some(held) = self.lives.remove(&id) {
                    known.node.owes = known.node.owes_after(&change.deployment, &held.owner);
                }
            } else if let Some(held) = self.lives.get_mut(&id) {
                held.since = saved.since;
                held.journal = saved.journal;
            }
        }
        for change in changes {
            self.show(change.node);
        }
        self.forget_consoles(changes);
        self.show_live_boots();
    }

    fn deployment(&self, id: DeploymentId) -> Option<&Deployment> {
        self.lives.get(&id).map(|held| &held.live.deployment)
    }
}

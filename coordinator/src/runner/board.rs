//! What others may look at: every node as it is now. Written by the runner alone.

use super::calendar::Distrust;
use crate::bus::LiveBoots;
use crate::clock::UnixMs;
use crate::domain::node::{Node, NodeId};
use crate::domain::reservation::ReservationId;
use crate::machine::Live;
use crate::netboot::card_files::Owner;
use crate::netboot::view::{View, view};
use crate::store::JournalId;
use piseduce_protocol::id::{BootNumber, DeploymentId, Serial};
use piseduce_protocol::report::Progress;
use piseduce_protocol::status::{DeploymentStatus, NodeStatus, SCHEMA};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard};
use tokio::sync::watch;

/// A node as it is now.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// The node.
    pub node: Node,
    /// The last journal entry about it.
    pub journal: JournalId,
    /// Whether its port was last proven on or off.
    pub powered: Option<bool>,
    /// What nobody can explain of it.
    pub alarm: Option<String>,
    /// Its deployment, if it is not free.
    pub deployment: Option<DeploymentView>,
}

/// A live deployment as it is now.
#[derive(Clone, Debug)]
pub struct DeploymentView {
    /// The deployment.
    pub live: Live,
    /// The user who has it.
    pub owner: String,
    /// The reservation that it stands on.
    pub reservation: ReservationId,
    /// Until when its form may stay open.
    pub form_until: UnixMs,
    /// When the reservation ends.
    pub until: UnixMs,
    /// When the present state was entered.
    pub since: UnixMs,
    /// How far the present work is.
    pub progress: Option<Progress>,
    /// What it waits for.
    pub waiting: Option<String>,
}

impl NodeView {
    /// The last boot number given out: its deployment's, which runs ahead of the register's.
    pub fn boot(&self) -> BootNumber {
        self.deployment.as_ref().map_or(self.node.boot, |deployment| deployment.live.deployment.boot)
    }

    /// What the node's firmware gets when it asks.
    pub fn boot_view(&self) -> View {
        view(self.deployment.as_ref().map(|deployment| &deployment.live.deployment))
    }

    /// The run that wrote its card, or is about to.
    pub fn card(&self) -> Option<Owner> {
        let now = &self.deployment.as_ref()?.live.deployment;
        Some(Owner { serial: self.node.attributes.serial, deployment: now.id, run: now.run })
    }

    /// What everybody may read.
    pub fn status(&self) -> NodeStatus {
        NodeStatus {
            schema: SCHEMA,
            journal: self.journal.0,
            node: self.node.attributes.name.clone(),
            serial: self.node.attributes.serial,
            deployment: self.deployment.as_ref().map(DeploymentView::status),
            power: self.powered,
            out_of_service: self.node.out.as_ref().map(|out| out.reason.clone()),
        }
    }
}

impl DeploymentView {
    fn status(&self) -> DeploymentStatus {
        let now = &self.live.deployment;
        DeploymentStatus {
            id: now.id,
            run: now.run,
            process: now.process(),
            state: now.state(),
            since_unix_ms: self.since.0,
            waiting: self.waiting.clone(),
            cause: now.cause().cloned(),
            progress: self.progress,
            environment: now.form.as_ref().map(|form| form.environment.clone()),
            owner: self.owner.clone(),
        }
    }
}

/// The shared view of all nodes.
#[derive(Clone, Default)]
pub struct Board {
    nodes: Arc<RwLock<BTreeMap<String, NodeView>>>,
    distrust: Arc<RwLock<Option<Distrust>>>,
    live_boots: Arc<watch::Sender<LiveBoots>>,
    link_is_up: Arc<AtomicBool>,
    ended: Arc<watch::Sender<u64>>,
    recovery: Arc<RwLock<Option<String>>>,
}

impl Board {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, NodeView>> {
        self.nodes.read().expect("nobody panics while holding the board")
    }

    /// All nodes, by name.
    pub fn all(&self) -> Vec<NodeView> {
        self.read().values().cloned().collect()
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<NodeView> {
        self.read().get(name).cloned()
    }

    /// The node with this serial number.
    pub fn by_serial(&self, serial: Serial) -> Option<NodeView> {
        self.read().values().find(|view| view.node.attributes.serial == serial).cloned()
    }

    /// The nodes that `is_meant`.
    pub fn matching(&self, is_meant: impl Fn(&Node) -> bool) -> Vec<NodeView> {
        self.read().values().filter(|view| is_meant(&view.node)).cloned().collect()
    }

    /// The node of this live deployment.
    pub fn by_deployment(&self, id: DeploymentId) -> Option<NodeView> {
        let is_it = |view: &&NodeView| view.deployment.as_ref().is_some_and(|d| d.live.deployment.id == id);
        self.read().values().find(is_it).cloned()
    }

    /// Why the head's calendar ends nothing now, if it does not.
    pub fn distrust(&self) -> Option<Distrust> {
        *self.distrust.read().expect("nobody panics while holding it")
    }

    pub(super) fn set_distrust(&self, distrust: Option<Distrust>) {
        *self.distrust.write().expect("nobody panics while holding it") = distrust;
    }

    /// What the last site recovery did, in words.
    pub fn recovery(&self) -> Option<String> {
        self.recovery.read().expect("nobody panics while holding it").clone()
    }

    pub(super) fn set_recovery(&self, report: String) {
        *self.recovery.write().expect("nobody panics while holding it") = Some(report);
    }

    /// Whether we are connected to the broker and hear the agents.
    pub fn link_is_up(&self) -> bool {
        self.link_is_up.load(Ordering::Relaxed)
    }

    pub(super) fn set_link(&self, is_up: bool) {
        self.link_is_up.store(is_up, Ordering::Relaxed);
    }

    /// Which boot of each node may speak at the broker now.
    pub fn live_boots(&self) -> watch::Receiver<LiveBoots> {
        self.live_boots.subscribe()
    }

    /// How many deployments ended since the coordinator started.
    pub fn ended(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    pub(super) fn count_ended(&self) {
        self.ended.send_modify(|count| *count += 1);
    }

    pub(super) fn put(&self, view: NodeView) {
        let mut nodes = self.nodes.write().expect("nobody panics while holding the board");
        // A renamed node is not there twice.
        nodes.retain(|name, old| old.node.id != view.node.id || *name == view.node.attributes.name);
        nodes.insert(view.node.attributes.name.clone(), view);
    }

    pub(super) fn remove(&self, node: NodeId) {
        let mut nodes = self.nodes.write().expect("nobody panics while holding the board");
        nodes.retain(|_, view| view.node.id != node);
    }

    pub(super) fn set_live_boots(&self, live: HashMap<Serial, BootNumber>) {
        self.live_boots.send_if_modified(|now| {
            let changed = **now != live;
            if changed {
                *now = Arc::new(live);
            }
            changed
        });
    }
}

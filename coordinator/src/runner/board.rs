//! What others may look at: every node as it is now. Written by the runner alone.

use super::calendar::Distrust;
use super::views::{Mark, Views};
use crate::bus::LiveBoots;
use crate::clock::UnixMs;
use crate::domain::boot_evidence::TokenHolder;
use crate::domain::node::{Node, NodeId};
use crate::domain::reservation::ReservationId;
use crate::machine::Live;
use crate::netboot::card_files::Owner;
use crate::netboot::view::{View, view};
use crate::store::{DiskTrouble, JournalId};
use piseduce_protocol::id::{BootNumber, DeploymentId, Serial};
use piseduce_protocol::report::Progress;
use piseduce_protocol::status::{DeploymentStatus, NodeStatus, SCHEMA};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
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
    nodes: Arc<RwLock<Views>>,
    distrust: Arc<RwLock<Option<Distrust>>>,
    live_boots: Arc<watch::Sender<LiveBoots>>,
    link_is_up: Arc<AtomicBool>,
    ended: Arc<watch::Sender<u64>>,
    recovery: Arc<RwLock<Option<String>>>,
    unsaved: Arc<watch::Sender<Option<DiskTrouble>>>,
}

impl Board {
    /// Why the runner waits: what it decided cannot be saved.
    pub fn unsaved(&self) -> watch::Receiver<Option<DiskTrouble>> {
        self.unsaved.subscribe()
    }

    pub(super) fn set_unsaved(&self, trouble: Option<DiskTrouble>) {
        self.unsaved.send_replace(trouble);
    }

    fn read(&self) -> RwLockReadGuard<'_, Views> {
        self.nodes.read().expect("nobody panics while holding the board")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Views> {
        self.nodes.write().expect("nobody panics while holding the board")
    }

    /// All nodes, by name.
    pub fn all(&self) -> Vec<Arc<NodeView>> {
        self.read().all()
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<Arc<NodeView>> {
        self.read().by_name(name)
    }

    /// The node with this serial number.
    pub fn by_serial(&self, serial: Serial) -> Option<Arc<NodeView>> {
        self.read().by(&Mark::Serial(serial))
    }

    /// The node whose serial number ends with these 8 digits, which is all that firmware shows of it.
    pub fn by_serial_end(&self, end: u32) -> Option<Arc<NodeView>> {
        self.read().by(&Mark::SerialEnd(end))
    }

    /// The node with this hardware address.
    pub fn by_mac(&self, mac: &str) -> Option<Arc<NodeView>> {
        self.read().by(&Mark::Mac(mac.into()))
    }

    /// The node that this IP address is registered for.
    pub fn by_ip(&self, ip: Ipv4Addr) -> Option<Arc<NodeView>> {
        self.read().by(&Mark::Ip(ip))
    }

    /// The node of this live deployment.
    pub fn by_deployment(&self, id: DeploymentId) -> Option<Arc<NodeView>> {
        self.read().by(&Mark::Deployment(id))
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

    /// Who fetched the last token that was given out for this node, in its present deployment. It is shown once it is saved.
    pub fn token_holder(&self, serial: Serial) -> Option<TokenHolder> {
        self.by_serial(serial)?.deployment.as_ref()?.live.deployment.token
    }

    /// How many deployments ended since the coordinator started.
    pub fn ended(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    pub(super) fn count_ended(&self) {
        self.ended.send_modify(|count| *count += 1);
    }

    pub(super) fn put(&self, view: NodeView) {
        self.write().put(view);
    }

    pub(super) fn remove(&self, node: NodeId) {
        self.write().remove(node);
    }

    /// These are all boots that may speak now.
    pub(super) fn set_live_boots(&self, live: HashMap<Serial, BootNumber>) {
        self.live_boots.send_if_modified(|now| {
            let changed = **now != live;
            if changed {
                *now = Arc::new(live);
            }
            changed
        });
    }

    /// Which boots of these nodes may speak now, if any.
    pub(super) fn change_live_boots(&self, mut changes: BTreeMap<Serial, Option<BootNumber>>) {
        self.live_boots.send_if_modified(|now| {
            changes.retain(|serial, boot| now.get(serial).copied() != *boot);
            if changes.is_empty() {
                return false;
            }
            let live = Arc::make_mut(now);
            for (serial, boot) in changes {
                match boot {
                    Some(boot) => live.insert(serial, boot),
                    None => live.remove(&serial),
                };
            }
            true
        });
    }
}

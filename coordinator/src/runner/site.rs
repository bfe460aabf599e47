//! Site recovery: when the coordinator starts, or a switch restarted, ports and nodes are compared with what is stored
//! and brought to it. Free nodes are switched off; deployed nodes that show no sign of life are powered off and on, as
//! admission lets them; deployments that lost their node to the dark go on. No budget is spent. One report tells what
//! was done.
//!
//! What a node needs is decided in [`super::recovery`]; who notices restarts is in [`super::uptime`].

use super::Runner;
use super::inbox::Message;
use super::recovery::{Expected, Need, Recovery, is_on, need};
use crate::clock::{self, Instant};
use crate::domain::deployment::Phase;
use crate::domain::node::{NodeId, SwitchId};
use crate::machine::Live;
use crate::machine::event::{Asked, Event, Powered, Sign};
use crate::power::{Job, Line, Port, Power, PowerError, Reading, Station};
use crate::store::Actor;
use piseduce_protocol::id::{DeploymentId, Seq};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// A port that is switched off shows it within this time.
const OFF_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at which addresses a switch has seen.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A switch whose ports cannot be read is asked again after this time, so often.
const SURVEY_AGAIN: Duration = Duration::from_secs(5);
const SURVEYS_MAX: usize = 24;
/// How long nobody is powered on at a switch because it was not read since the coordinator started.
const UNKNOWN_MAX: Duration = Duration::from_secs(60);
/// How long a switch may take to say whether it restarted.
const SAY_WITHIN: Duration = Duration::from_secs(10);

/// What each port of a switch shows; a blind board shows nothing.
pub(super) type Readings = HashMap<String, Option<Reading>>;

/// The recoveries under way, and what ended ones did.
#[derive(Default)]
pub(super) struct Site {
    recoveries: BTreeMap<SwitchId, Recovery>,
    /// Switches of which nothing is known since the coordinator started, and until when that is waited for.
    unknown: BTreeMap<SwitchId, Instant>,
    told: Vec<String>,
    /// Nodes whose firmware asked in the middle of an agent's work, until it is known whether the switch restarted.
    asked: BTreeSet<NodeId>,
}

/// Reads every port, until the switch answers or is given up.
async fn survey(line: Line, ports: Vec<Port>) -> Option<Readings> {
    let mut readings = Readings::new();
    let mut tries = 0;
    for port in ports {
        let reading = loop {
            if !line.driver().reads_back() {
                break None;
            }
            match line.ask(|switch| switch.read(&port)).await {
                Ok(reading) => break Some(reading),
                Err(PowerError::Refused(why)) => {
                    tracing::warn!(port = port.port, node = port.node, why, "the port cannot be read");
                    break None;
                }
                Err(PowerError::Unreachable(_)) if tries >= SURVEYS_MAX => return None,
                Err(PowerError::Unreachable(_)) => {
                    tries += 1;
                    tokio::time::sleep(SURVEY_AGAIN).await;
                }
            }
        };
        readings.insert(port.port, reading);
    }
    Some(readings)
}

impl Runner {
    /// A switch restarted, or is there when the coordinator starts.
    pub(super) fn switch_found(&mut self, switch: SwitchId, restarted: bool) {
        let (Some(line), Some(inbox)) = (self.outside.line(switch), self.handle.upgrade()) else { return };
        if self.outside.by_hand(switch) {
            // Nobody is asked to get up for every start of ours.
            return;
        }
        let ports: Vec<Port> = self.on_switch(switch).map(|node| self.port_of(node)).collect();
        let recovery = Recovery {
            restarted,
            is_read: false,
            before: self.on_switch(switch).map(|node| (node, self.request_of(node))).collect(),
            expected: BTreeMap::new(),
            looked: clock::now(),
            switched_off: BTreeSet::new(),
            again: BTreeSet::new(),
            unproven: BTreeSet::new(),
            nodes: ports.len(),
        };
        if restarted {
            tracing::warn!(switch = self.outside.name_of(switch), "the switch restarted");
        }
        self.site.recoveries.insert(switch, recovery);
        self.admissions.changed(switch);
        tokio::spawn(async move {
            let readings = survey(line, ports).await;
            let _ = inbox.send(Message::Surveyed(switch, readings)).await;
        });
    }

    /// The coordinator starts: what the ports are is not known yet.
    pub(super) fn know_no_ports(&mut self) {
        let until = clock::now() + UNKNOWN_MAX;
        let switches = self.outside.switches().filter(|switch| !self.outside.by_hand(*switch));
        self.site.unknown = switches.map(|switch| (switch, until)).collect();
    }

    /// Until when a switch that was not read yet is waited for.
    pub(super) fn is_read_or_given_up_at(&self, switch: SwitchId) -> Option<Instant> {
        self.site.unknown.get(&switch).copied().filter(|until| clock::now() < *until)
    }

    /// Whether the ports of a switch are to be read before anybody is powered on there: a port that a switch turned on by
    /// itself gives its node no token, and must be off first.
    pub(super) fn is_to_be_read(&self, switch: SwitchId) -> bool {
        self.is_read_or_given_up_at(switch).is_some()
            || self.site.recoveries.get(&switch).is_some_and(|recovery| !recovery.is_read)
    }

    fn port_of(&self, node: NodeId) -> Port {
        super::perform::port_of(&self.nodes[&node].node)
    }

    fn live_of(&self, node: NodeId) -> Option<&Live> {
        let id = self.nodes.get(&node)?.deployment?;
        self.lives.get(&id).map(|held| &held.live)
    }

    /// The present request of a node's deployment, which changes with whatever happens to it.
    fn request_of(&self, node: NodeId) -> Option<(DeploymentId, Seq)> {
        self.live_of(node).map(|live| (live.deployment.id, live.deployment.seq))
    }

    /// What the ports of a switch show.
    pub(super) fn surveyed(&mut self, switch: SwitchId, readings: Option<Readings>) {
        self.site.unknown.remove(&switch);
        self.admissions.changed(switch);
        let Some(recovery) = self.site.recoveries.get_mut(&switch) else { return };
        recovery.is_read = true;
        let (restarted, before) = (recovery.restarted, std::mem::take(&mut recovery.before));
        let Some(readings) = readings else {
            self.site.recoveries.remove(&switch);
            let told =
                format!("switch {} does not answer: nothing was done there", self.outside.name_of(switch));
            return self.site.told.push(told);
        };
        let sign_within = self.policy.env_boot_restart_after;
        for node in self.on_switch(switch).collect::<Vec<_>>() {
            let known = &self.nodes[&node];
            // Whose state changed since is in good hands, and what was read of it is old.
            if before.get(&node) != Some(&self.request_of(node)) {
                continue;
            }
            let Some(reading) = readings.get(&known.node.attributes.port).copied() else { continue };
            let need = match self.live_of(node) {
                // Whoever took it out of service switches its port.
                None if known.node.out.is_some() => Need::Nothing,
                live => need(live, reading, restarted, sign_within),
            };
            if let Some(reading) = reading {
                self.set_powered(node, Some(is_on(reading)));
            }
            match need {
                Need::Nothing => {}
                Need::Off => self.switch_off(switch, node),
                Need::Again => self.again(switch, node),
                Need::Sign(within) => self.expect(switch, node, false, within),
            }
            self.show(node);
        }
    }

    /// Reads the ports of nodes of which nothing is known yet: they count in their switch's budget.
    pub(super) fn read_unknown_ports(&self) {
        for switch in self.outside.switches().filter(|switch| !self.outside.by_hand(*switch)) {
            let (Some(line), Some(inbox)) = (self.outside.line(switch), self.handle.upgrade()) else {
                continue;
            };
            let unknown = self.on_switch(switch).filter(|node| self.nodes[node].powered.is_none());
            let ports: Vec<Port> = unknown.map(|node| self.port_of(node)).collect();
            if !ports.is_empty() {
                tokio::spawn(async move {
                    if let Some(readings) = survey(line, ports).await {
                        let _ = inbox.send(Message::PortsRead(switch, readings)).await;
                    }
                });
            }
        }
    }

    /// What ports of which nothing was known show.
    pub(super) fn ports_read(&mut self, switch: SwitchId, readings: &Readings) {
        for node in self.on_switch(switch).collect::<Vec<_>>() {
            let Some(known) = self.nodes.get(&node) else { continue };
            if let (None, Some(Some(reading))) = (known.powered, readings.get(&known.node.attributes.port)) {
                self.set_powered(node, Some(is_on(*reading)));
                self.show(node);
            }
        }
    }

    fn expect(&mut self, switch: SwitchId, node: NodeId, off: bool, within: Duration) {
        if let Some(recovery) = self.site.recoveries.get_mut(&switch) {
            recovery.expected.insert(node, Expected { off, until: clock::now() + within });
        }
    }

    fn switch_off(&mut self, switch: SwitchId, node: NodeId) {
        let (port, Some(inbox)) = (self.port_of(node), self.handle.upgrade()) else { return };
        self.expect(switch, node, true, OFF_WITHIN);
        self.outside.power(switch, Job { port, power: Power::Off, gap: Duration::ZERO }, move |powered| {
            tokio::spawn(async move {
                let _ = inbox.send(Message::SwitchedOff(node, powered)).await;
            });
        });
    }

    /// How switching off a node that nobody has went.
    pub(super) fn switched_off(&mut self, node: NodeId, powered: &Powered) {
        let Some(known) = self.nodes.get(&node) else { return };
        let (name, switch) = (known.node.attributes.name.clone(), known.node.switch);
        if *powered == Powered::Off {
            self.set_powered(node, Some(false));
        }
        let recovery = self.site.recoveries.get_mut(&switch);
        match powered {
            Powered::Off => {
                if let Some(recovery) = recovery {
                    recovery.expected.remove(&node);
                    recovery.switched_off.insert(name);
                }
            }
            Powered::On | Powered::Failed(_) => {
                tracing::warn!(node = name, ?powered, "a free node cannot be switched off");
                if let Some(recovery) = recovery {
                    recovery.expected.remove(&node);
                    recovery.unproven.insert(name);
                }
            }
        }
        self.show(node);
    }

    /// What a node did is lost: its deployment goes on from its registered state.
    fn again(&mut self, switch: SwitchId, node: NodeId) {
        let Some(known) = self.nodes.get(&node) else { return };
        let (name, id) = (known.node.attributes.name.clone(), known.deployment);
        if let Some(recovery) = self.site.recoveries.get_mut(&switch) {
            recovery.expected.remove(&node);
            recovery.again.insert(name);
        }
        if let Some(id) = id {
            self.step(id, &Event::PowerFailed, &Actor::Machine, Some("power failed at its switch".into()));
        }
    }

    /// A node showed that it lives.
    pub(super) fn shows_life(&mut self, node: NodeId) {
        let Some(switch) = self.nodes.get(&node).map(|known| known.node.switch) else { return };
        if let Some(recovery) = self.site.recoveries.get_mut(&switch)
            && recovery.expected.get(&node).is_some_and(|expected| !expected.off)
        {
            recovery.expected.remove(&node);
        }
    }

    /// A node's firmware asked. In the middle of an agent's work that is a reboot which nobody planned, and it is told
    /// apart from a switch that restarted; whether it is to be taken for what it is.
    pub(super) fn is_explained(&mut self, node: NodeId, asked: Asked) -> bool {
        let Some(switch) = self.nodes.get(&node).map(|known| known.node.switch) else { return true };
        let agent_works =
            self.live_of(node).and_then(|live| live.deployment.active()).is_some_and(|active| {
                active.state.is_agents()
                    && matches!(active.phase, Phase::Work | Phase::Stopping(_) | Phase::Leaving)
            });
        if !agent_works {
            self.shows_life(node);
            return true;
        }
        if let Some(recovery) = self.site.recoveries.get(&switch)
            && recovery.restarted
            && (!recovery.is_read || recovery.expected.contains_key(&node))
        {
            self.again(switch, node);
            return false;
        }
        let (Some(watch), Some(inbox)) = (self.watches.get(&switch), self.handle.upgrade()) else {
            return true;
        };
        if !self.site.asked.insert(node) {
            return false;
        }
        let look = watch.look(SAY_WITHIN);
        tokio::spawn(async move {
            let restarted = look.await;
            let _ = inbox.send(Message::Looked { switch, node, asked, restarted }).await;
        });
        false
    }

    /// Whether the switch restarted is known now.
    pub(super) fn looked(&mut self, switch: SwitchId, node: NodeId, asked: Asked, restarted: bool) {
        self.site.asked.remove(&node);
        if restarted {
            if self.site.recoveries.get(&switch).is_none_or(|recovery| !recovery.restarted) {
                self.switch_found(switch, true);
            }
            return self.again(switch, node);
        }
        if let Some(id) = self.nodes.get(&node).and_then(|known| known.deployment) {
            self.seen(id, Sign::BootAsked(asked), None);
        }
    }

    /// Which addresses a switch has seen.
    pub(super) fn stations(&mut self, switch: SwitchId, stations: &[Station]) {
        for node in self.on_switch(switch).collect::<Vec<_>>() {
            let mac = &self.nodes[&node].node.attributes.mac;
            let is_agents = self
                .live_of(node)
                .and_then(|live| live.deployment.active())
                .is_some_and(|active| active.state.is_agents());
            // An agent shows its life itself; its address says only that something has booted.
            if !is_agents && stations.iter().any(|station| station.mac == *mac) {
                self.shows_life(node);
            }
        }
    }

    /// When a recovery has something to do next.
    pub(super) fn recovery_wakes_at(&self) -> Option<Instant> {
        let waiting = self.site.recoveries.values().filter(|recovery| !recovery.expected.is_empty());
        waiting
            .flat_map(|recovery| {
                let deadlines = recovery.expected.values().map(|expected| expected.until);
                deadlines.chain([recovery.looked + LOOK_EVERY])
            })
            .min()
    }

    /// Ends what is over, and tells of it when nothing is left.
    pub(super) fn follow_recoveries(&mut self) {
        let now = clock::now();
        for switch in self.site.recoveries.keys().copied().collect::<Vec<_>>() {
            let Some(recovery) = self.site.recoveries.get_mut(&switch) else { continue };
            let late = recovery.expected.iter().filter(|(_, expected)| expected.until <= now);
            let late: Vec<(NodeId, bool)> = late.map(|(node, expected)| (*node, expected.off)).collect();
            let is_due =
                recovery.is_read && !recovery.expected.is_empty() && now >= recovery.looked + LOOK_EVERY;
            if is_due {
                recovery.looked = now;
            }
            if let (true, Some(line), Some(inbox)) =
                (is_due, self.outside.line(switch), self.handle.upgrade())
            {
                tokio::spawn(async move {
                    if let Ok(Some(table)) = line.ask(|switch| switch.stations()).await {
                        let _ = inbox.send(Message::Stations(switch, table.stations)).await;
                    }
                });
            }
            for (node, off) in late {
                match off {
                    false => self.again(switch, node),
                    true => self.unproven(switch, node),
                }
            }
            self.end_if_over(switch);
        }
        if self.site.recoveries.is_empty() && !self.site.told.is_empty() {
            let report = std::mem::take(&mut self.site.told).join("; ");
            tracing::info!(report, "site recovery is over");
            self.board.set_recovery(report.clone());
            self.turn.notes.push((Actor::Machine, "recovery", report));
        }
    }

    fn unproven(&mut self, switch: SwitchId, node: NodeId) {
        let name = self.nodes.get(&node).map(|known| known.node.attributes.name.clone());
        if let Some(recovery) = self.site.recoveries.get_mut(&switch) {
            recovery.expected.remove(&node);
            recovery.unproven.extend(name);
        }
    }

    fn end_if_over(&mut self, switch: SwitchId) {
        let is_over = |recovery: &Recovery| recovery.is_read && recovery.expected.is_empty();
        if self.site.recoveries.get(&switch).is_some_and(is_over)
            && let Some(recovery) = self.site.recoveries.remove(&switch)
        {
            self.site.told.push(recovery.told(&self.outside.name_of(switch)));
        }
    }
}

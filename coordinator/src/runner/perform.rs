//! Hands each effect to the one adapter that carries it out, and tells the world what changed.

use super::Runner;
use super::inbox::Message;
use crate::bus::link::Link;
use crate::clock::{self, UnixMs};
use crate::console::Consoles;
use crate::credentials::{Credentials, Proof};
use crate::domain::boot_evidence::{Place, PortProof, PortWitness};
use crate::domain::deployment::{Deployment, Form};
use crate::domain::driver::Driver;
use crate::domain::node::{Node, SwitchId};
use crate::domain::switch::Switch;
use crate::machine::Effect;
use crate::machine::effect::{Ask, outstanding};
use crate::machine::event::Powered;
use crate::power::{self, Job, Limits, Line, Lines, Places, Port, Power, PowerQueue};
use crate::store::{CardProofs, JournalId};
use piseduce_protocol::bundle::Bundle;
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::command::{Command, Order, Work};
use piseduce_protocol::id::{BootNumber, DeploymentId, Hash, Run, Seq, Serial};
use piseduce_protocol::state::State;
use piseduce_protocol::status::{NodeStatus, SCHEMA, StateEvent};
use std::collections::HashMap;

/// The adapters that carry effects out.
pub struct Outside {
    link: Link,
    credentials: Credentials,
    /// The address of the nodes' listener as nodes reach it.
    head: String,
    queues: HashMap<SwitchId, (Switch, PowerQueue)>,
    lines: Lines,
    consoles: Consoles,
    /// The bundle of each board's present boot, by its name.
    bundles: HashMap<Serial, (BootOfRun, Hash)>,
}

/// A boot of a run.
type BootOfRun = (DeploymentId, Run, BootNumber);

impl Outside {
    /// Adapters for the broker behind `link` and no switch yet; `lines` get to know the switches, `consoles` those of
    /// the nodes.
    pub fn new(link: Link, credentials: Credentials, head: String, lines: Lines, consoles: Consoles) -> Self {
        let (queues, bundles) = (HashMap::new(), HashMap::new());
        Outside { link, credentials, head, queues, lines, consoles, bundles }
    }

    pub(super) fn consoles(&self) -> &Consoles {
        &self.consoles
    }

    /// Takes up these switches; the queue of one that did not change goes on. Returns the others: what was in their
    /// queues is forgotten and must be asked again.
    pub(super) fn set_switches(&mut self, switches: Vec<Switch>) -> Vec<SwitchId> {
        let mut anew = Vec::new();
        let mut before = std::mem::take(&mut self.queues);
        for switch in switches {
            let queue = match before.remove(&switch.id) {
                Some((same, queue)) if same == switch => queue,
                _ => {
                    anew.push(switch.id);
                    let Switch { attributes, .. } = &switch;
                    let line = Line::new(power::open(&attributes.driver));
                    PowerQueue::new(
                        line,
                        attributes.off_time,
                        attributes.protected.clone(),
                        Limits::default(),
                    )
                }
            };
            self.queues.insert(switch.id, (switch, queue));
        }
        self.lines.set(self.queues.values().map(|(switch, queue)| (switch.clone(), queue.line().clone())));
        anew
    }

    /// Whether a person switches the outlets of this switch.
    pub(super) fn by_hand(&self, switch: SwitchId) -> bool {
        self.queues.get(&switch).is_some_and(|(switch, _)| switch.attributes.driver == Driver::Manual)
    }

    /// Tells each queue which node belongs at which outlet.
    pub(super) fn set_places<'a>(&mut self, nodes: impl Iterator<Item = &'a Node>) {
        let mut places: HashMap<SwitchId, Places> = HashMap::new();
        for node in nodes {
            places.entry(node.switch).or_default().insert(node.attributes.mac.clone(), port_of(node));
        }
        for (id, (_, queue)) in &mut self.queues {
            queue.set_places(places.remove(id).unwrap_or_default());
        }
    }

    /// The line to a switch.
    pub(super) fn line(&self, switch: SwitchId) -> Option<Line> {
        self.queues.get(&switch).map(|(_, queue)| queue.line().clone())
    }

    /// Why a switch does not answer for a port now, if it does not.
    pub(super) fn trouble(&self, switch: SwitchId, port: &str) -> Option<String> {
        self.queues.get(&switch).and_then(|(_, queue)| queue.trouble(port))
    }

    /// What is to be said of how a port was cut last, once.
    pub(super) fn take_remark(&self, switch: SwitchId, port: &str) -> Option<String> {
        self.queues.get(&switch).and_then(|(_, queue)| queue.take_remark(port))
    }

    /// What is known of a port whose job has just ended well.
    pub(super) fn port_proof(&self, node: &Node) -> PortProof {
        let queue = self.queues.get(&node.switch).map(|(_, queue)| queue);
        let witness = match queue {
            _ if self.by_hand(node.switch) => PortWitness::Person,
            Some(queue) if queue.line().driver().reads_back() => PortWitness::Switch,
            Some(_) | None => PortWitness::Nobody,
        };
        let place = queue.and_then(|queue| queue.place(&node.attributes.port)).unwrap_or(Place::NoTable);
        PortProof { witness, place }
    }

    /// The switch of this name.
    pub(super) fn switch_of(&self, name: &str) -> Option<SwitchId> {
        self.queues.values().find_map(|(switch, _)| (switch.attributes.name == name).then_some(switch.id))
    }

    /// Whether nobody may switch this outlet.
    pub(super) fn protects(&self, switch: SwitchId, port: &str) -> bool {
        self.queues.get(&switch).is_some_and(|(switch, _)| switch.attributes.protects(port))
    }

    /// The name of a switch.
    pub(super) fn name_of(&self, switch: SwitchId) -> String {
        self.queues.get(&switch).map_or_else(String::new, |(switch, _)| switch.attributes.name.clone())
    }

    /// Every switch.
    pub(super) fn switches(&self) -> impl Iterator<Item = SwitchId> {
        self.queues.keys().copied()
    }

    /// Starts a power job outside of any deployment.
    pub(super) fn power(&mut self, switch: SwitchId, job: Job, done: impl FnOnce(Powered) + Send + 'static) {
        if let Some((_, queue)) = self.queues.get_mut(&switch) {
            queue.start(job, done);
        }
    }

    /// What the outlets of a switch may deliver together.
    pub(super) fn budget_watts(&self, switch: SwitchId) -> Option<u32> {
        self.queues.get(&switch).and_then(|(switch, _)| switch.attributes.budget_watts)
    }

    pub(super) fn publish(&self, status: NodeStatus) {
        self.link.publish(status);
    }

    /// Nobody is told of this node any more.
    pub(super) fn unpublish(&self, node: &str) {
        self.link.unpublish(node);
    }

    /// Tells of a change of state, once it is saved.
    pub(super) fn tell(
        &mut self,
        node: &Node,
        now: &Deployment,
        from: State,
        journal: JournalId,
        at: UnixMs,
    ) {
        if now.state() != from {
            self.link.event(StateEvent {
                schema: SCHEMA,
                journal: journal.0,
                unix_ms: at.0,
                node: node.attributes.name.clone(),
                deployment: now.id,
                run: now.run,
                process: now.process(),
                from: Some(from),
                state: now.state(),
                cause: now.cause().cloned(),
            });
        }
        if now.live_boot().is_none() {
            self.link.forget(node.attributes.serial);
            self.bundles.remove(&node.attributes.serial);
        }
    }

    /// The name of what makes the image of `form` this user's node, in this boot. Made once a boot.
    fn bundle(&mut self, node: &Node, deployment: &Deployment, form: &Form) -> Hash {
        let (serial, of) = (node.attributes.serial, (deployment.id, deployment.run, deployment.boot));
        match self.bundles.get(&serial) {
            Some((known, name)) if *known == of => *name,
            _ => {
                let keys = self.credentials.boot_keys(serial, deployment.boot);
                let bundle = self.credentials.bundle(node, deployment, form, &self.head);
                let name = Bundle::name_of(&bundle.lock(&keys.bundle));
                self.bundles.insert(serial, (of, name));
                name
            }
        }
    }

    /// What the card of this run knows.
    pub(super) fn card_proofs(&self, now: &Deployment) -> CardProofs {
        card_proofs(&self.credentials, now)
    }

    /// `unix_ms` is the calendar time that the agent may rely on; 0 when there is none.
    fn command(&mut self, node: &Node, deployment: &Deployment, ask: Ask, unix_ms: u64) {
        let serial = node.attributes.serial;
        let order = match ask {
            Ask::Stop => Order::Stop,
            Ask::Reboot => Order::Reboot,
            Ask::Wipe(wipe) => Order::Wipe(wipe),
            Ask::Work { state, attempt, manifest, verify, recopy_boot } => {
                let Some(form) = &deployment.form else { return };
                Order::Perform(Work {
                    state,
                    attempt,
                    manifest,
                    bundle: self.bundle(node, deployment, form),
                    part_size: form.part_size,
                    verify,
                    recopy_boot,
                })
            }
        };
        let command = Command { ticket: deployment.ticket(), unix_ms, order };
        self.link.command(serial, deployment.boot, command);
    }
}

/// What the card of this run knows under these credentials.
pub fn card_proofs(credentials: &Credentials, now: &Deployment) -> CardProofs {
    let token = |proof| Hash::of(credentials.card_token(proof, now.id, now.run).as_bytes());
    CardProofs {
        deployment: now.id,
        run: now.run,
        host_key: credentials.host_key(now.id, now.run).0.public.clone(),
        booted: token(Proof::Booted),
        first_boot: token(Proof::FirstBoot),
    }
}

/// The outlet of a node.
pub(super) fn port_of(node: &Node) -> Port {
    Port { port: node.attributes.port.clone(), node: node.attributes.name.clone() }
}

impl Runner {
    pub(super) fn perform(&mut self, id: DeploymentId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::ServeView(seq) => self.turn.next.push_back(Message::ViewServed(id, seq)),
                Effect::PowerOff(seq) => self.power(id, seq, Power::Off),
                Effect::PowerOn(seq) => self.power(id, seq, Power::On),
                Effect::Command(seq, ask) => {
                    let Some(held) = self.lives.get(&id) else { continue };
                    let Some(known) = self.nodes.get(&held.node) else { continue };
                    debug_assert_eq!(held.live.deployment.seq, seq, "effects are those of the last change");
                    let unix_ms = if self.distrust.is_none() { clock::unix_ms().0 } else { 0 };
                    self.outside.command(&known.node, &held.live.deployment, ask, unix_ms);
                }
                Effect::Refuse(_) => unreachable!("refusals are answered in the turn that brings them"),
            }
        }
    }

    /// Asks again for what was in the queues of these switches when they were taken up anew: those jobs never answer.
    pub(super) fn power_again(&mut self, switches: &[SwitchId]) {
        let on_them = self.lives.iter().filter(|(_, held)| {
            self.nodes.get(&held.node).is_some_and(|known| switches.contains(&known.node.switch))
        });
        let asked = on_them.filter_map(|(id, held)| {
            let effect = outstanding(&held.live.deployment)?;
            matches!(effect, Effect::PowerOff(_) | Effect::PowerOn(_)).then_some((*id, effect))
        });
        // With the effects of this turn, so that what it changes is saved first; a change of the same turn has
        // effects of its own, which are later than these.
        for (id, effect) in asked.collect::<Vec<_>>() {
            self.turn.effects.entry(id).or_insert_with(|| vec![effect]);
        }
    }

    fn power(&mut self, id: DeploymentId, seq: Seq, power: Power) {
        if power == Power::On {
            // A node may be heard before its switch has shown that it is on.
            let node = self.lives.get(&id).map(|held| held.node);
            node.into_iter().for_each(|node| self.is_switched_on(node));
        }
        let node = self.lives.get(&id).and_then(|held| self.nodes.get(&held.node)).map(|known| &known.node);
        let (Some(node), Some(inbox)) = (node, self.handle.upgrade()) else { return };
        let Some((_, queue)) = self.outside.queues.get_mut(&node.switch) else {
            let cause = Cause::new(CauseKind::SwitchRefused, "the node's switch is not registered");
            self.turn.next.push_back(Message::Powered(id, seq, Powered::Failed(cause)));
            return;
        };
        let gap = self.policy.boot_spacing_of(node.attributes.is_pi3());
        queue.start(Job { port: port_of(node), power, gap }, move |powered| {
            tokio::spawn(async move {
                // A runner that is gone is told by its successor's own reading of the port.
                let _ = inbox.send(Message::Powered(id, seq, powered)).await;
            });
        });
    }
}

//! Ports that an operator has switched by hand: through the same queue and admission as everything else, never a
//! protected one, and never one whose node is being deployed.

use super::Runner;
use super::inbox::{Message, Powering, RequestError, answer_of};
use crate::clock::{self, Instant};
use crate::domain::node::{NodeAttributes, NodeId, SwitchId};
use crate::machine::admission::{Candidate, Who};
use crate::machine::event::Powered;
use crate::power::{Job, Port, Power};
use crate::store::{Actor, Conflict, StoreError};
use std::collections::BTreeMap;

/// What an operator wants of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Power.
    On,
    /// None.
    Off,
    /// None for a while, then power again.
    Cycle,
}

/// An operator's order.
#[derive(Clone, Debug)]
pub struct PortOrder {
    /// The switch's name.
    pub switch: String,
    /// The port in the switch's own words.
    pub port: String,
    /// What is wanted.
    pub wish: Wish,
    /// Whether also a port is switched whose node somebody has.
    pub force: bool,
    /// Who wants it.
    pub user: String,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchedPort {
    /// Whether the port is on.
    pub powered: Powered,
    /// What is to be known of how it was cut.
    pub remark: Option<String>,
}

/// An order under way.
struct Order {
    switch: SwitchId,
    port: Port,
    node: Option<NodeId>,
    wish: Wish,
    /// Since when it waits to be powered on.
    waits_since: Option<Instant>,
    /// What the queue is asked for now, unless it waits.
    power: Power,
    /// What is to be known of how it was cut.
    remark: Option<String>,
    reply: Powering,
}

/// The orders under way, and when the last of each switch was powered on.
#[derive(Default)]
pub(super) struct Orders {
    next: u64,
    under_way: BTreeMap<u64, Order>,
    powered_on: BTreeMap<SwitchId, Instant>,
}

impl Runner {
    /// Takes an order, or says why not.
    pub(super) async fn order(&mut self, order: PortOrder, reply: Powering) -> Result<(), StoreError> {
        match self.checked_order(&order) {
            Err(why) => drop(reply.send(Err(why))),
            Ok((switch, node)) => {
                let PortOrder { switch: name, port, wish, user, .. } = order;
                let detail = format!("port {port} of {name}: {wish:?}").to_lowercase();
                let noted = self.store.note(clock::unix_ms(), Actor::User(user), "switch", detail).await;
                if let Err(why) = answer_of(noted)? {
                    drop(reply.send(Err(why)));
                    return Ok(());
                }
                let node_name = node.map(|node| self.nodes[&node].node.attributes.name.clone());
                let port = Port { port, node: node_name.unwrap_or_default() };
                let number = self.orders.next;
                self.orders.next += 1;
                let waits_since = (wish == Wish::On).then(clock::now);
                let power = if wish == Wish::On { Power::On } else { Power::Off };
                let order = Order { switch, port, node, wish, waits_since, power, remark: None, reply };
                self.orders.under_way.insert(number, order);
                self.admissions.changed(switch);
                if wish != Wish::On {
                    self.switch_for(number);
                }
            }
        }
        Ok(())
    }

    fn checked_order(&self, order: &PortOrder) -> Result<(SwitchId, Option<NodeId>), RequestError> {
        let PortOrder { switch: name, port, .. } = order;
        let in_use =
            |by: String| Conflict::InUse { what: "port", name: format!("{port} of switch {name}"), by };
        let switch = self.outside.switch_of(name);
        let switch = switch.ok_or_else(|| Conflict::Missing { what: "switch", name: name.clone() })?;
        if self.outside.protects(switch, port) {
            return Err(in_use("nobody's to switch: it is one of the `protected_ports`".into()).into());
        }
        let on_port = self
            .nodes
            .values()
            .find(|known| known.node.switch == switch && known.node.attributes.port == *port);
        let Some(known) = on_port else { return Ok((switch, None)) };
        let node = &known.node.attributes.name;
        if let Some(held) = known.deployment.and_then(|id| self.lives.get(&id)) {
            let (state, owner) = (held.live.deployment.state(), &held.owner);
            if held.live.deployment.active().is_some() {
                let by = format!(
                    "node {node}, which is in {state}: `piseduce reboot {node}` powers it off and on"
                );
                return Err(in_use(by).into());
            }
            if !order.force {
                let by = format!("node {node}, {state} for {owner}; `--force` switches it all the same");
                return Err(in_use(by).into());
            }
        }
        Ok((switch, Some(known.node.id)))
    }

    /// Orders that wait for admission, and what those before have taken.
    pub(super) fn ordered(&self, switch: SwitchId) -> impl Iterator<Item = Candidate> {
        let there = self.orders.under_way.iter().filter(move |(_, order)| order.switch == switch);
        there.map(|(number, order)| {
            let node = order.node.and_then(|node| self.nodes.get(&node)).map(|known| &known.node.attributes);
            Candidate {
                switch: order.switch.0,
                who: Who::Order(*number),
                waits_since: order.waits_since,
                is_in_flight: false,
                powered_on: self.orders.powered_on.get(&order.switch).copied(),
                is_slow: node.is_some_and(NodeAttributes::is_pi3),
                watts: node.map_or(0, NodeAttributes::watts_max),
            }
        })
    }

    /// Whether an order has this node powered on now.
    pub(super) fn is_ordered_on(&self, node: NodeId) -> bool {
        let mut orders = self.orders.under_way.values();
        orders
            .any(|order| order.node == Some(node) && order.power == Power::On && order.waits_since.is_none())
    }

    /// An order's turn to be powered on.
    pub(super) fn begin_order(&mut self, number: u64) {
        if let Some(order) = self.orders.under_way.get_mut(&number) {
            (order.waits_since, order.power) = (None, Power::On);
            self.orders.powered_on.insert(order.switch, clock::now());
            order.node.into_iter().for_each(|node| self.is_switched_on(node));
            self.switch_for(number);
        }
    }

    /// The queues of these switches are new and know of no order.
    pub(super) fn order_again(&mut self, switches: &[SwitchId]) {
        let under_way = self.orders.under_way.iter();
        let lost =
            under_way.filter(|(_, order)| order.waits_since.is_none() && switches.contains(&order.switch));
        let lost: Vec<u64> = lost.map(|(number, _)| *number).collect();
        lost.into_iter().for_each(|number| self.switch_for(number));
    }

    fn switch_for(&mut self, number: u64) {
        let (Some(order), Some(inbox)) = (self.orders.under_way.get(&number), self.handle.upgrade()) else {
            return;
        };
        let (switch, port, power) = (order.switch, order.port.clone(), order.power);
        let node = order.node.and_then(|node| self.nodes.get(&node));
        let gap = self.policy.boot_spacing_of(node.is_some_and(|known| known.node.attributes.is_pi3()));
        self.outside.power(switch, Job { port, power, gap }, move |powered| {
            tokio::spawn(async move {
                let _ = inbox.send(Message::Ordered(number, powered)).await;
            });
        });
    }

    /// How an order's power job ended.
    pub(super) fn ordered_ended(&mut self, number: u64, powered: Powered) {
        let Some(order) = self.orders.under_way.get(&number) else { return };
        let (node, switch, port) = (order.node, order.switch, order.port.port.clone());
        let remark = self.note_remark(switch, &port);
        node.into_iter().for_each(|node| self.set_powered(node, powered.is_on()));
        self.admissions.changed(switch);
        let Some(order) = self.orders.under_way.get_mut(&number) else { return };
        order.remark = order.remark.take().or(remark);
        if order.wish == Wish::Cycle && powered == Powered::Off {
            order.waits_since = Some(clock::now());
        } else if let Some(order) = self.orders.under_way.remove(&number) {
            // Whoever asked may be gone; what was asked is done all the same.
            let _ = order.reply.send(Ok(SwitchedPort { powered, remark: order.remark }));
        }
        node.into_iter().for_each(|node| self.show(node));
    }

    /// Writes down what is to be known of how a port was cut; returns it for whoever ordered that.
    pub(super) fn note_remark(&mut self, switch: SwitchId, port: &str) -> Option<String> {
        let remark = self.outside.take_remark(switch, port);
        if let Some(remark) = &remark {
            let detail = format!("port {port} of {}: {remark}", self.outside.name_of(switch));
            self.turn.notes.push((Actor::Machine, "switch", detail));
        }
        remark
    }
}

//! What each deployment waits for, told anew when that changes without an event of its own: a heartbeat
//! that stays away, a neighbour that came up. The words are in [`crate::machine::waiting`].

use super::{Held, Runner};
use crate::clock;
use crate::domain::deployment::Phase;
use crate::domain::node::{Node, NodeId};
use crate::machine::admission::{Lack, Who, is_in_flight};
use crate::machine::waiting::{Around, waiting};
use std::time::Duration;

/// Waits are looked at at most this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Runner {
    /// What `held` on `node` waits for.
    pub(super) fn waiting(&self, held: &Held, node: &Node) -> Option<String> {
        let in_line = held.live.deployment.active().is_some_and(|active| active.phase == Phase::Admission);
        let attributes = &node.attributes;
        let trouble = self.outside.trouble(node.switch, &attributes.port);
        let around = Around {
            node: &attributes.name,
            switch: &attributes.switch,
            port: &attributes.port,
            by_hand: self.outside.by_hand(node.switch),
            trouble: trouble.as_deref(),
            form_until: held.form_until.min(held.until),
            lack: if in_line { self.lack(held, node) } else { Lack::Turn },
            booting: if in_line { self.booting_beside(node) } else { vec![] },
        };
        waiting(&held.live, self.moment(), &self.policy, &around)
    }

    /// What the node of `held` has to wait for before it is powered on.
    fn lack(&self, held: &Held, node: &Node) -> Lack {
        let who = Who::Deployment(held.live.deployment.id);
        self.admissions.lack(node.switch, who).unwrap_or(Lack::Turn)
    }

    /// The names of the nodes that take up the places of the node's switch.
    fn booting_beside(&self, node: &Node) -> Vec<&str> {
        let beside = self.on_switch(node.switch).filter_map(|id| {
            let other = self.nodes.get(&id)?;
            let held = self.lives.get(&other.deployment?)?;
            is_in_flight(&held.live).then_some(other.node.attributes.name.as_str())
        });
        let mut names: Vec<&str> = beside.collect();
        names.sort_unstable();
        names
    }

    /// Shows every node whose wait has changed since it was shown.
    pub(super) fn show_waits(&mut self) {
        if clock::now() < self.waits_seen + LOOK_EVERY {
            return;
        }
        self.waits_seen = clock::now();
        // What rests waits for a person, and its words change with an event only.
        let active = self.lives.values().filter(|held| held.live.deployment.active().is_some());
        let changed = active.filter(|held| {
            let known = self.nodes.get(&held.node);
            known.is_some_and(|known| self.waiting(held, &known.node) != held.waiting)
        });
        let changed: Vec<NodeId> = changed.map(|held| held.node).collect();
        changed.into_iter().for_each(|node| self.show(node));
    }
}

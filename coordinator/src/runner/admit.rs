//! Lets nodes be powered on, as [`crate::machine::admission`] decides from what is known of switches and nodes. Each
//! switch is looked at when something changed there, or when a pause is over, and no other.

use super::timetable::Timetable;
use super::{Held, Runner};
use crate::clock::{self, Instant};
use crate::domain::deployment::Condition;
use crate::domain::node::{NodeId, SwitchId};
use crate::machine::admission::{self, Admission, Budget, Candidate, Lack, Who};
use crate::machine::event::{Event, Sign};
use crate::store::Actor;
use std::collections::{BTreeSet, HashMap};

/// Which switches are to be looked at, and what those who wait there are waiting for.
#[derive(Default)]
pub(super) struct Admissions {
    changed: BTreeSet<SwitchId>,
    pauses: Timetable<SwitchId, Instant>,
    lacks: HashMap<SwitchId, HashMap<Who, Lack>>,
}

impl Admissions {
    /// Something changed on this switch: what is on it, what waits there, or what it draws.
    pub(super) fn changed(&mut self, switch: SwitchId) {
        self.changed.insert(switch);
    }

    /// When a switch is to be looked at although nothing changes there.
    pub(super) fn next(&self) -> Option<Instant> {
        self.pauses.next()
    }

    /// What somebody who waits at this switch is waiting for.
    pub(super) fn lack(&self, switch: SwitchId, who: Who) -> Option<Lack> {
        self.lacks.get(&switch)?.get(&who).copied()
    }

    /// A switch to look at now.
    fn take(&mut self, now: Instant) -> Option<SwitchId> {
        for switch in self.pauses.due(now) {
            self.pauses.set(switch, None);
            self.changed.insert(switch);
        }
        self.changed.pop_first()
    }
}

/// What of a deployment matters to its switch.
#[derive(PartialEq, Eq)]
pub(super) struct Standing {
    waits_since: Option<Instant>,
    is_in_flight: bool,
    powered_on: Option<Instant>,
    is_open: bool,
}

impl Standing {
    pub(super) fn of(held: &Held) -> Self {
        let Candidate { waits_since, is_in_flight, powered_on, .. } = Candidate::of(&held.live, 0, false, 0);
        let is_open = held.live.deployment.condition == Condition::Open;
        Standing { waits_since, is_in_flight, powered_on, is_open }
    }
}

impl Runner {
    /// Lets everybody go who may now.
    pub(super) fn admit(&mut self) {
        while let Some(switch) = self.admissions.take(clock::now()) {
            let Admission { admitted, lacking, look_again } = self.admission_at(switch);
            self.admissions.lacks.insert(switch, lacking.into_iter().collect());
            self.admissions.pauses.set(switch, look_again);
            for who in admitted {
                match who {
                    Who::Deployment(id) => {
                        self.step(id, &Event::Seen(Sign::Admitted), &Actor::Machine, None);
                    }
                    Who::Order(number) => self.begin_order(number),
                }
                self.admissions.changed(switch);
            }
        }
    }

    /// Who may be powered on at a switch now.
    fn admission_at(&self, switch: SwitchId) -> Admission {
        let candidates = self.on_switch(switch).filter_map(|id| {
            let known = self.nodes.get(&id)?;
            let held = self.lives.get(&known.deployment?)?;
            let attributes = &known.node.attributes;
            Some(Candidate::of(&held.live, switch.0, attributes.is_pi3(), attributes.watts_max()))
        });
        // A switch that is to be read first is looked at again when that is done, or given up.
        let is_to_be_read = self.is_to_be_read(switch);
        let candidates = candidates.filter(|_| !is_to_be_read);
        let budgets = HashMap::from([(switch.0, self.budget(switch))]);
        let now = clock::now();
        let mut admission =
            admission::admit(candidates.chain(self.ordered(switch)), &budgets, now, &self.policy);
        let read = self.is_read_or_given_up_at(switch);
        admission.look_again = admission.look_again.into_iter().chain(read).min();
        admission
    }

    /// What a switch has to give. A node that is used and not known to be off counts as on.
    fn budget(&self, switch: SwitchId) -> Budget {
        let mut budget = Budget { watts: self.outside.budget_watts(switch), drawn_watts: 0 };
        for known in self.on_switch(switch).filter_map(|id| self.nodes.get(&id)) {
            let held = known.deployment.and_then(|id| self.lives.get(&id));
            let is_used = held.is_some_and(|held| held.live.deployment.condition != Condition::Open);
            let may_draw = known.powered.unwrap_or(is_used || self.is_ordered_on(known.node.id));
            if may_draw || held.is_some_and(|held| admission::is_in_flight(&held.live)) {
                budget.drawn_watts = budget.drawn_watts.saturating_add(known.node.attributes.watts_max());
            }
        }
        budget
    }

    /// The nodes on a switch.
    pub(super) fn on_switch(&self, switch: SwitchId) -> impl Iterator<Item = NodeId> {
        self.switches.get(&switch).into_iter().flatten().copied()
    }

    /// It is known anew whether a node's port is on.
    pub(super) fn set_powered(&mut self, node: NodeId, powered: Option<bool>) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        let is_new = known.powered != powered;
        known.powered = powered;
        self.admissions.changed(known.node.switch);
        // Also at a deployment that rests: a card that boots fast reports before its port was read.
        if is_new {
            self.show(node);
        }
    }

    /// A node's port is being switched on: whatever it does now is expected.
    pub(super) fn is_switched_on(&mut self, node: NodeId) {
        self.set_powered(node, None);
        if let Some(known) = self.nodes.get_mut(&node) {
            known.alarm = None;
        }
    }
}

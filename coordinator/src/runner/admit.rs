//! Lets nodes be powered on, as [`crate::machine::admission`] decides from what is known of switches and nodes.

use super::Runner;
use crate::clock;
use crate::domain::deployment::Condition;
use crate::machine::admission::{self, Admission, Budget, Candidate, Who};
use crate::machine::event::{Event, Sign};
use crate::store::Actor;
use std::collections::HashMap;

impl Runner {
    /// Lets everybody go who may now.
    pub(super) fn admit(&mut self) {
        loop {
            let Admission { admitted, lacking, .. } = self.admission();
            if admitted.is_empty() {
                self.lacks = lacking.into_iter().collect();
                return;
            }
            for who in admitted {
                match who {
                    Who::Deployment(id) => {
                        self.step(id, &Event::Seen(Sign::Admitted), &Actor::Machine, None);
                    }
                    Who::Order(number) => self.begin_order(number),
                }
            }
        }
    }

    /// Who may be powered on now.
    pub(super) fn admission(&self) -> Admission {
        let candidates = self.lives.values().filter_map(|held| {
            let node = &self.nodes.get(&held.node)?.node;
            if self.is_to_be_read(node.switch) {
                return None;
            }
            let (is_slow, watts) = (node.attributes.is_pi3(), node.attributes.watts_max());
            Some(Candidate::of(&held.live, node.switch.0, is_slow, watts))
        });
        admission::admit(candidates.chain(self.ordered()), &self.budgets(), clock::now(), &self.policy)
    }

    /// What each switch has to give. A node that is used and not known to be off counts as on.
    fn budgets(&self) -> HashMap<u64, Budget> {
        let mut budgets: HashMap<u64, Budget> = HashMap::new();
        for known in self.nodes.values() {
            let budget = budgets.entry(known.node.switch.0).or_insert_with(|| Budget {
                watts: self.outside.budget_watts(known.node.switch),
                drawn_watts: 0,
            });
            let held = known.deployment.and_then(|id| self.lives.get(&id));
            let is_used = held.is_some_and(|held| held.live.deployment.condition != Condition::Open);
            let may_draw = known.powered.unwrap_or(is_used || self.is_ordered_on(known.node.id));
            if may_draw || held.is_some_and(|held| admission::is_in_flight(&held.live)) {
                budget.drawn_watts = budget.drawn_watts.saturating_add(known.node.attributes.watts_max());
            }
        }
        budgets
    }
}

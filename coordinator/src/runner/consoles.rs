//! What becomes of the consoles of nodes: their ends are kept when a run comes to a bad end, and forgotten when the
//! node passes to somebody else.

use super::Runner;
use crate::clock::UnixMs;
use crate::console::Consoles;
use crate::domain::deployment::Condition;
use crate::domain::node::Node;
use crate::store::{Change, ConsoleEnd};
use piseduce_protocol::state::State;

/// Whether somebody will ask why a deployment is there.
fn is_bad(state: State) -> bool {
    matches!(state, State::Lost | State::Failed | State::Quarantined)
}

/// The consoles of these nodes are open from now on.
pub(super) fn set<'a>(consoles: &Consoles, nodes: impl Iterator<Item = &'a Node>) {
    let settings = |node: &'a Node| Some((node.attributes.name.clone(), node.attributes.console.clone()?));
    consoles.set(nodes.filter_map(settings));
}

impl Runner {
    /// The consoles of runs that come to a bad end; `left` are the states that they left.
    pub(super) fn console_ends(&self, changes: &[Change], left: &[State], at: UnixMs) -> Vec<ConsoleEnd> {
        let ended = changes.iter().zip(left).filter(|(change, from)| {
            let state = change.deployment.state();
            is_bad(state) && state != **from
        });
        ended
            .filter_map(|(change, _)| {
                let node = &self.nodes.get(&change.node)?.node;
                let said = self.outside.consoles().get(&node.attributes.name)?.kept();
                let now = &change.deployment;
                (!said.is_empty()).then_some(ConsoleEnd { deployment: now.id, run: now.run, said, at })
            })
            .collect()
    }

    /// Forgets the consoles of nodes that are free now: what one user saw there is not for the next.
    pub(super) fn forget_consoles(&self, changes: &[Change]) {
        for change in changes.iter().filter(|it| matches!(it.deployment.condition, Condition::Ended(_))) {
            let node = self.nodes.get(&change.node);
            if let Some(console) = node.and_then(|it| self.outside.consoles().get(&it.node.attributes.name)) {
                console.forget();
            }
        }
    }
}

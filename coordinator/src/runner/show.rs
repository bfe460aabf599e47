//! Shows how nodes stand to those who look, and to the world: the board, the retained statuses, the boots that may
//! speak at the broker.

use super::Runner;
use super::board::{DeploymentView, NodeView};
use crate::domain::node::NodeId;

impl Runner {
    fn view(&self, node: NodeId) -> Option<NodeView> {
        let known = self.nodes.get(&node)?;
        let held = known.deployment.and_then(|id| self.lives.get(&id));
        Some(NodeView {
            node: known.node.clone(),
            journal: known.journal,
            powered: known.powered,
            alarm: known.alarm.clone(),
            deployment: held.map(|held| DeploymentView {
                live: held.live.clone(),
                owner: held.owner.clone(),
                reservation: held.reservation,
                form_until: held.form_until,
                until: held.until,
                since: held.since,
                progress: held.progress,
                waiting: self.waiting(held, &known.node),
            }),
        })
    }

    /// Shows a node to those who look, and to the world.
    pub(super) fn show(&mut self, node: NodeId) {
        let Some(view) = self.view(node) else { return };
        if let Some(deployment) = &view.deployment
            && let Some(held) = self.lives.get_mut(&deployment.live.deployment.id)
        {
            held.waiting.clone_from(&deployment.waiting);
        }
        self.outside.publish(view.status());
        self.board.put(view);
    }

    pub(super) fn show_all(&mut self) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.show(node));
        self.show_live_boots();
    }

    pub(super) fn show_live_boots(&self) {
        let live = self.lives.values().filter_map(|held| {
            let serial = self.nodes.get(&held.node)?.node.attributes.serial;
            Some((serial, held.live.deployment.live_boot()?))
        });
        self.board.set_live_boots(live.collect());
    }
}

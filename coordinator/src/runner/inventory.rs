//! What there is: nodes and switches as the store has them, and the live deployments on them.

use super::uptime::{Watch, Watched};
use super::{Held, Known, Runner, consoles};
use crate::clock;
use crate::domain::node::NodeId;
use crate::machine::Live;
use crate::store::{JournalId, StoreError, StoredDeployment};
use std::collections::{BTreeSet, HashMap};

impl Runner {
    pub(super) async fn load_inventory(&mut self) -> Result<(), StoreError> {
        let anew = self.outside.set_switches(self.store.switches().await?);
        let nodes = self.store.nodes().await?;
        let mut cards = self.store.cards_in_nodes().await?;
        consoles::set(self.outside.consoles(), nodes.iter());
        self.forget_all_but(&nodes.iter().map(|node| node.id).collect());
        self.serials = nodes.iter().map(|node| (node.attributes.serial, node.id)).collect();
        self.switches = HashMap::new();
        for node in nodes {
            self.switches.entry(node.switch).or_default().insert(node.id);
            match self.nodes.get_mut(&node.id) {
                Some(known) => {
                    if let Some(held) = known.deployment.and_then(|id| self.lives.get_mut(&id)) {
                        held.live.deployment.count_boots_from(node.boot);
                    }
                    known.node = node;
                }
                None => {
                    let fresh = Known {
                        card: cards.remove(&node.attributes.name),
                        node,
                        deployment: None,
                        powered: None,
                        alarm: None,
                        hello: None,
                        journal: JournalId::default(),
                    };
                    self.nodes.insert(fresh.node.id, fresh);
                }
            }
        }
        self.outside.set_places(self.nodes.values().map(|known| &known.node));
        self.power_again(&anew);
        self.order_again(&anew);
        for switch in self.outside.switches() {
            self.admissions.changed(switch);
        }
        Ok(())
    }

    /// Nodes that were retired are shown no more.
    fn forget_all_but(&mut self, kept: &BTreeSet<NodeId>) {
        for (_, gone) in self.nodes.extract_if(|node, _| !kept.contains(node)) {
            self.outside.unpublish(&gone.node.attributes.name);
            self.board.remove(gone.node.id);
        }
    }

    /// Begins to watch switches that are not watched yet.
    pub(super) fn watch_switches(&mut self, at_start: bool) {
        self.watches
            .retain(|switch, watch| self.outside.line(*switch).is_some_and(|line| watch.is_over(&line)));
        for switch in self.outside.switches().collect::<Vec<_>>() {
            let Some(line) = self.outside.line(switch) else { continue };
            let (store, inbox, is_trusted) =
                (self.store.clone(), self.handle.clone(), self.distrust.is_none());
            let watched = Watched { switch, line, store, inbox, at_start, is_trusted };
            self.watches.entry(switch).or_insert_with(|| Watch::begin(watched));
        }
    }

    /// A deployment is ours to drive from now on.
    pub(super) fn take_up(&mut self, mut stored: StoredDeployment) {
        stored.deployment.count_boots_from(stored.node.boot);
        let id = stored.deployment.id;
        self.calendar.seen(stored.since);
        if let Some(known) = self.nodes.get_mut(&stored.node.id) {
            known.deployment = Some(id);
            known.journal = stored.journal;
            self.admissions.changed(known.node.switch);
        }
        let held = Held {
            live: Live::new(stored.deployment, clock::now()),
            node: stored.node.id,
            owner: stored.owner,
            reservation: stored.reservation,
            form_until: stored.form_until,
            until: stored.until,
            since: stored.since,
            journal: stored.journal,
            progress: None,
            card: None,
            waiting: None,
        };
        self.lives.insert(id, held);
        self.set_times(id);
    }
}

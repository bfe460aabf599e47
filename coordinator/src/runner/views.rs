//! The views of all nodes, found by whatever somebody knows of one: no look-up and no change walks over the others.

use super::board::NodeView;
use crate::domain::node::NodeId;
use piseduce_protocol::id::{DeploymentId, Serial};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What no two nodes have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    /// Its serial number.
    Serial(Serial),
    /// The last 8 digits of that.
    SerialEnd(u32),
    /// Its hardware address.
    Mac(String),
    /// Its own IP address.
    Ip(Ipv4Addr),
    /// Its live deployment.
    Deployment(DeploymentId),
}

/// The views of all nodes.
#[derive(Default)]
pub(super) struct Views {
    views: HashMap<NodeId, Arc<NodeView>>,
    names: BTreeMap<String, NodeId>,
    marks: HashMap<Mark, NodeId>,
}

fn marks(view: &NodeView) -> impl Iterator<Item = Mark> {
    let attributes = &view.node.attributes;
    let serial = attributes.serial;
    let always = [Mark::Serial(serial), Mark::SerialEnd(serial.short()), Mark::Mac(attributes.mac.clone())];
    let deployment = view.deployment.as_ref().map(|deployment| deployment.live.deployment.id);
    always.into_iter().chain(attributes.ip.map(Mark::Ip)).chain(deployment.map(Mark::Deployment))
}

impl Views {
    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<Arc<NodeView>> {
        self.names.values().filter_map(|node| self.views.get(node).cloned()).collect()
    }

    /// That of the node of this name.
    pub(super) fn by_name(&self, name: &str) -> Option<Arc<NodeView>> {
        self.views.get(self.names.get(name)?).cloned()
    }

    /// That of the node with this mark.
    pub(super) fn by(&self, mark: &Mark) -> Option<Arc<NodeView>> {
        self.views.get(self.marks.get(mark)?).cloned()
    }

    /// Puts a view in place of the one before of the same node.
    pub(super) fn put(&mut self, view: NodeView) {
        let node = view.node.id;
        self.remove(node);
        self.names.insert(view.node.attributes.name.clone(), node);
        self.marks.extend(marks(&view).map(|mark| (mark, node)));
        self.views.insert(node, Arc::new(view));
    }

    /// Forgets a node.
    pub(super) fn remove(&mut self, node: NodeId) {
        let Some(old) = self.views.remove(&node) else { return };
        // What another node has taken over meanwhile is that node's.
        if self.names.get(&old.node.attributes.name) == Some(&node) {
            self.names.remove(&old.node.attributes.name);
        }
        for mark in marks(&old) {
            if self.marks.get(&mark) == Some(&node) {
                self.marks.remove(&mark);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::node::{Node, NodeAttributes, SwitchId};
    use crate::store::JournalId;
    use piseduce_protocol::id::BootNumber;

    fn view(id: u64, name: &str, serial: u64, mac: &str) -> NodeView {
        let attributes = NodeAttributes {
            name: name.into(),
            serial: Serial(serial),
            mac: mac.into(),
            model: "Raspberry Pi 4 Model B".into(),
            switch: "poe".into(),
            port: id.to_string(),
            watts: None,
            ip: None,
            console: None,
            labels: vec![],
        };
        let (switch, boot) = (SwitchId(1), BootNumber(0));
        let node = Node { id: NodeId(id), attributes, switch, boot, owes: None, out: None };
        NodeView { node, journal: JournalId(0), powered: None, alarm: None, deployment: None }
    }

    fn named(found: Option<Arc<NodeView>>) -> Option<String> {
        found.map(|view| view.node.attributes.name.clone())
    }

    #[test]
    fn a_node_is_found_by_what_it_has_now_and_not_by_what_it_had() {
        let mut views = Views::default();
        views.put(view(1, "pi-1", 0x1000_0000_0000_00a1, "aa"));
        views.put(view(2, "pi-2", 0x1000_0000_0000_00a2, "bb"));
        assert_eq!(named(views.by(&Mark::SerialEnd(0xa2))).as_deref(), Some("pi-2"));
        views.put(view(2, "pi-two", 0x1000_0000_0000_00a3, "bb"));
        assert_eq!(named(views.by(&Mark::Mac("bb".into()))).as_deref(), Some("pi-two"));
        assert_eq!(named(views.by(&Mark::Serial(Serial(0x1000_0000_0000_00a2)))), None);
        assert!(views.by_name("pi-2").is_none() && views.all().len() == 2);
        views.remove(NodeId(2));
        assert!(views.by_name("pi-two").is_none() && views.marks.len() == 3 && views.names.len() == 1);
    }

    #[test]
    fn two_nodes_exchange_their_addresses_and_names() {
        let mut views = Views::default();
        views.put(view(1, "pi-1", 1, "aa"));
        views.put(view(2, "pi-2", 2, "bb"));
        views.put(view(1, "pi-2", 1, "bb"));
        views.put(view(2, "pi-1", 2, "aa"));
        assert_eq!(named(views.by(&Mark::Mac("aa".into()))).as_deref(), Some("pi-1"));
        assert_eq!(named(views.by(&Mark::Serial(Serial(1)))).as_deref(), Some("pi-2"));
        let all = views.all();
        assert_eq!(all.iter().map(|view| view.node.id).collect::<Vec<_>>(), [NodeId(2), NodeId(1)]);
    }
}

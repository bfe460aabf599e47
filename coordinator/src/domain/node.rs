//! Nodes: one Raspberry Pi each. The id stays when the board, its place or its name changes.

use super::console::{ConsoleSettings, ConsoleSettingsError};
use super::deployment::{Deployment, Owed};
use crate::clock::UnixMs;
use piseduce_protocol::command::Wipe;
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::topic::check_level;
use std::net::Ipv4Addr;

/// A node's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// A switch's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwitchId(pub u64);

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// What is known of it.
    pub attributes: NodeAttributes,
    /// The switch that powers it.
    pub switch: SwitchId,
    /// The last boot number given out.
    pub boot: BootNumber,
    /// The wipe that its card owes.
    pub owes: Option<Owes>,
    /// Why nobody gets it, if so.
    pub out: Option<OutOfService>,
}

/// A node that nobody gets: who has it keeps it until it is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfService {
    /// Why, in an administrator's words.
    pub reason: String,
    /// Which administrator.
    pub by: String,
    /// Since when.
    pub since: UnixMs,
}

/// A wipe that was recorded instead of carried out, to be done before anybody else uses the card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owes {
    /// How thorough it is.
    pub wipe: Wipe,
    /// The user whose content is on the card.
    pub used_by: String,
}

impl Node {
    /// What a deployment for `owner` has to do about the card's old content.
    pub fn owed(&self, owner: &str) -> Option<Owed> {
        self.owes.as_ref().map(|owes| Owed { wipe: owes.wipe, due: owes.used_by != owner })
    }

    /// What the card owes after `deployment` for `owner` has ended.
    pub fn owes_after(&self, deployment: &Deployment, owner: &str) -> Option<Owes> {
        let Owed { wipe, due } = deployment.owes?;
        // What was due from the beginning was never carried out: it is still owed to who was there before.
        let before = self.owes.as_ref().filter(|_| due).map(|owes| owes.used_by.clone());
        Some(Owes { wipe, used_by: before.unwrap_or_else(|| owner.into()) })
    }
}

/// What an operator registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAttributes {
    /// Its name; also its host name and a level of its status topic.
    pub name: String,
    /// The board's serial number.
    pub serial: Serial,
    /// The board's address, lower case with colons.
    pub mac: String,
    /// The model, for people and for limits that depend on it.
    pub model: String,
    /// The name of the switch that powers it.
    pub switch: String,
    /// The switch's outlet, in the switch's own words.
    pub port: String,
    /// What it may draw with everything on it, in watts; none: what its model may.
    pub watts: Option<u32>,
    /// Its own IP address on the nodes' network, if it has one.
    pub ip: Option<Ipv4Addr>,
    /// The serial device at its UART, if there is one.
    pub console: Option<ConsoleSettings>,
    /// What it has in common with others, such as a row or a class of students.
    pub labels: Vec<String>,
}

/// What a powered device of IEEE 802.3af may draw, in watts: the HATs of most models are such devices.
const WATTS_802_3AF: u32 = 13;
/// What the HAT of a Pi 5 may draw by IEEE 802.3at, in watts.
const WATTS_802_3AT: u32 = 26;

/// What cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The name is a host name and a topic level.
    #[error("node name `{0}` is not allowed: 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end")]
    Name(String),
    /// Six pairs of hex digits.
    #[error(
        "MAC address `{0}` of node {1} is not allowed: six pairs of hex digits such as dc:a6:32:01:36:c2"
    )]
    Mac(String, String),
    /// An outlet must be named.
    #[error("node {0} has no port: name the outlet of its switch, such as 1")]
    Port(String),
    /// A label is typed after an `@`.
    #[error("label `{0}` of node {1} is not allowed: 1 to 63 characters of a-z, 0-9, `-` and `_`")]
    Label(String, String),
    /// The console cannot be one.
    #[error("console of node {node} is not allowed: {why}")]
    Console {
        /// The node.
        node: String,
        /// What is wrong with it.
        why: ConsoleSettingsError,
    },
}

impl NodeAttributes {
    /// Whether it is a Pi 3, whose boot ROM loads slowly, gives up early, and does not try again.
    pub fn is_pi3(&self) -> bool {
        self.model.contains("Pi 3")
    }

    /// What it may draw at most, in watts.
    pub fn watts_max(&self) -> u32 {
        self.watts.unwrap_or(if self.model.contains("Pi 5") { WATTS_802_3AT } else { WATTS_802_3AF })
    }

    /// Checks name, address and port; writes the address in its one form.
    ///
    /// # Errors
    /// Every [`NodeError`].
    pub fn checked(mut self) -> Result<Self, NodeError> {
        let dashes = self.name.starts_with('-') || self.name.ends_with('-') || self.name.contains('_');
        if check_level(&self.name).is_err() || dashes {
            return Err(NodeError::Name(self.name));
        }
        let mac = self.mac.to_ascii_lowercase().replace('-', ":");
        let pairs: Vec<&str> = mac.split(':').collect();
        let pair = |text: &&str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if pairs.len() != 6 || !pairs.iter().all(pair) {
            return Err(NodeError::Mac(self.mac, self.name));
        }
        if self.port.trim().is_empty() {
            return Err(NodeError::Port(self.name));
        }
        if let Some(label) = self.labels.iter().find(|label| check_level(label).is_err()) {
            return Err(NodeError::Label(label.clone(), self.name));
        }
        self.labels.sort();
        self.labels.dedup();
        if let Some(Err(why)) = self.console.as_ref().map(ConsoleSettings::check) {
            return Err(NodeError::Console { node: self.name, why });
        }
        self.mac = mac;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, mac: &str) -> Result<NodeAttributes, NodeError> {
        let attributes = NodeAttributes {
            name: name.into(),
            serial: Serial(1),
            mac: mac.into(),
            model: String::new(),
            switch: "sw".into(),
            port: "1".into(),
            watts: None,
            ip: None,
            console: None,
            labels: vec![],
        };
        attributes.checked()
    }

    #[test]
    fn labels_are_words_and_come_once_each() {
        let labelled = |labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            NodeAttributes { labels, ..node("pi", "dc:a6:32:01:36:c2").unwrap() }.checked()
        };
        assert_eq!(labelled(&["row-2", "blue", "row-2"]).unwrap().labels, ["blue", "row-2"]);
        for label in ["", "@blue", "row 2", "a/b"] {
            assert!(matches!(labelled(&[label]), Err(NodeError::Label(..))), "{label}");
        }
    }

    #[test]
    fn names_are_host_names_and_addresses_have_one_form() {
        assert_eq!(node("pi-1", "DC-A6-32-01-36-C2").unwrap().mac, "dc:a6:32:01:36:c2");
        for name in ["", "-pi", "pi-", "pi_1", "Pi", "pi.1"] {
            assert!(matches!(node(name, "dc:a6:32:01:36:c2"), Err(NodeError::Name(_))), "{name}");
        }
        for mac in ["", "dc:a6:32:01:36", "dc:a6:32:01:36:c2:00", "dc:a6:32:01:36:zz", "dca6320136c2"] {
            assert!(matches!(node("pi", mac), Err(NodeError::Mac(..))), "{mac}");
        }
    }
}

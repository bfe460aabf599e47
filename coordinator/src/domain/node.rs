//! Nodes: one Raspberry Pi each. The id stays when the board, its place or its name changes.

use super::console::{ConsoleSettings, ConsoleSettingsError};
use super::deployment::{Deployment, Owed};
use crate::clock::UnixMs;
use piseduce_protocol::command::Wipe;
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::model::{Generation, Model, ModelUnknown};
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
    /// No board has it.
    #[error("MAC address `{mac}` of node {node} is not allowed: it is {what}, which no board has")]
    MacOfNobody {
        /// The address.
        mac: String,
        /// The node.
        node: String,
        /// What it is instead.
        what: &'static str,
    },
    /// A board's serial number is never zero.
    #[error(
        "node {0} has the serial number 0: `cat /proc/device-tree/serial-number` on the board, or its label, tells it"
    )]
    Serial(String),
    /// Not in the list.
    #[error("model `{model}` of node {node} is not known: {source}")]
    Model {
        /// What was given.
        model: String,
        /// The node.
        node: String,
        /// What is allowed.
        source: ModelUnknown,
    },
    /// No board can have it.
    #[error("IP address {ip} of node {node} is not allowed: it is {what}")]
    Ip {
        /// The address.
        ip: Ipv4Addr,
        /// The node.
        node: String,
        /// What it is instead.
        what: &'static str,
    },
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
    /// Its model.
    pub fn model(&self) -> Model {
        Model::of(&self.model)
    }

    /// Whether it is a Pi 3, whose boot ROM loads slowly, gives up early, and does not try again.
    pub fn is_pi3(&self) -> bool {
        self.model().generation() == Generation::Three
    }

    /// What it may draw at most, in watts.
    pub fn watts_max(&self) -> u32 {
        let is_pi5 = self.model().generation() == Generation::Five;
        self.watts.unwrap_or(if is_pi5 { WATTS_802_3AT } else { WATTS_802_3AF })
    }

    /// Checks every attribute; writes address and model in their one form.
    ///
    /// # Errors
    /// Every [`NodeError`].
    pub fn checked(mut self) -> Result<Self, NodeError> {
        let dashes = self.name.starts_with('-') || self.name.ends_with('-') || self.name.contains('_');
        if check_level(&self.name).is_err() || dashes {
            return Err(NodeError::Name(self.name));
        }
        self.mac = checked_mac(&self.mac, &self.name)?;
        if self.serial == Serial(0) {
            return Err(NodeError::Serial(self.name));
        }
        self.model = checked_model(self.model, &self.name)?;
        if let Some((ip, what)) = self.ip.and_then(|ip| Some((ip, not_a_board(ip)?))) {
            return Err(NodeError::Ip { ip, node: self.name, what });
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
        Ok(self)
    }
}

/// A hardware address in its one form, lower case with colons.
fn checked_mac(given: &str, node: &str) -> Result<String, NodeError> {
    let mac = given.to_ascii_lowercase().replace('-', ":");
    let pairs: Vec<&str> = mac.split(':').collect();
    let byte = |pair: &&str| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2);
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    let is_hex = mac.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    let bytes = bytes.filter(|bytes| bytes.len() == 6 && is_hex);
    let bytes = bytes.ok_or_else(|| NodeError::Mac(given.into(), node.into()))?;
    let what = if bytes.iter().all(|byte| *byte == 0) {
        "zero"
    } else if bytes.iter().all(|byte| *byte == 0xff) {
        "that of everybody"
    } else if bytes[0] & 1 == 1 {
        // The lowest bit of the first byte: a group's address (IEEE 802).
        "that of a group (multicast)"
    } else {
        return Ok(mac);
    };
    Err(NodeError::MacOfNobody { mac, node: node.into(), what })
}

/// The name of a model: as a device tree has it, whatever was typed.
fn checked_model(given: String, node: &str) -> Result<String, NodeError> {
    match given.parse::<Model>() {
        // With its revision, if there is one.
        Ok(model) if given.starts_with(model.name()) => Ok(given),
        Ok(model) => Ok(model.name().into()),
        Err(source) => Err(NodeError::Model { model: given, node: node.into(), source }),
    }
}

/// What an address is that no board can have on any network.
fn not_a_board(ip: Ipv4Addr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => Some("no address"),
        _ if ip.is_broadcast() => Some("that of everybody"),
        _ if ip.is_loopback() => Some("each machine's own"),
        _ if ip.is_multicast() => Some("that of a group (multicast)"),
        _ => None,
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
            model: "4B".into(),
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

    #[test]
    fn addresses_serial_numbers_and_models_that_no_board_has_are_refused() {
        let good = node("pi", "dc:a6:32:01:36:c2").unwrap();
        assert_eq!(good.model, "Raspberry Pi 4 Model B", "however it is typed");
        for mac in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"] {
            assert!(matches!(node("pi", mac), Err(NodeError::MacOfNobody { .. })), "{mac}");
        }
        assert!(node("pi", "02:13:37:00:00:04").is_ok(), "an address of somebody's own choice");
        let of_serial = NodeAttributes { serial: Serial(0), ..good.clone() };
        assert_eq!(of_serial.checked(), Err(NodeError::Serial("pi".into())));
        for ip in ["0.0.0.0", "255.255.255.255", "127.0.0.1", "224.0.0.1"] {
            let of_ip = NodeAttributes { ip: Some(ip.parse().unwrap()), ..good.clone() };
            assert!(matches!(of_ip.checked(), Err(NodeError::Ip { .. })), "{ip}");
        }
        let of_model = |model: &str| NodeAttributes { model: model.into(), ..good.clone() }.checked();
        assert_eq!(of_model("3b+").unwrap().model, "Raspberry Pi 3 Model B Plus");
        assert!(of_model("Raspberry Pi 3 Model B Plus Rev 1.3").unwrap().model.ends_with("Rev 1.3"));
        assert_eq!(of_model("OTHER").unwrap().model, "other");
        let error = of_model("Jetson").unwrap_err().to_string();
        assert!(error.contains("`Jetson` of node pi") && error.contains("3B+, CM3"), "{error}");
    }
}

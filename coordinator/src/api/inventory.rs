//! Nodes and switches: as they are, and as they are registered.

use super::node_check::CardView;
use crate::domain::console::ConsoleSettings;
use crate::domain::driver::Driver;
use piseduce_protocol::command::Wipe;
use piseduce_protocol::id::Serial;
use piseduce_protocol::status::DeploymentStatus;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A node and its deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its serial number.
    pub serial: Serial,
    /// Its network address.
    pub mac: String,
    /// Its own IP address, if it has one.
    #[serde(default)]
    pub ip: Option<Ipv4Addr>,
    /// Its model.
    pub model: String,
    /// The switch that powers it.
    pub switch: String,
    /// The outlet there.
    pub port: String,
    /// Whether its port was last proven on or off.
    pub power: Option<bool>,
    /// What nobody can explain of it, such as a question of its firmware while its port is off.
    #[serde(default)]
    pub alarm: Option<String>,
    /// The wipe that its card owes before another user's deployment.
    #[serde(default)]
    pub owes: Option<OwesView>,
    /// Its console, if it has one.
    #[serde(default)]
    pub console: Option<ConsoleView>,
    /// Its deployment; none when it is free.
    pub deployment: Option<DeploymentStatus>,
    /// Until when it is held.
    pub until_unix_ms: Option<u64>,
    /// What it has in common with others.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Why nobody gets it, if so.
    #[serde(default)]
    pub out_of_service: Option<OutOfServiceView>,
}

/// Why nobody gets a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutOfServiceView {
    /// Why, in an administrator's words.
    pub reason: String,
    /// Which administrator.
    pub by: String,
    /// Since when.
    pub since_unix_ms: u64,
}

/// Takes a node out of service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Why.
    pub reason: String,
}

/// What is another board, or hangs in another place, now; what is not named stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// The new board's serial number.
    pub serial: Option<Serial>,
    /// Its network address.
    pub mac: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// The switch that powers it now.
    pub switch: Option<String>,
    /// The outlet there.
    pub port: Option<String>,
}

/// A board that asks what to boot and is not registered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiscoveredView {
    /// Its network address; none: it is on no network of the head node.
    pub mac: Option<String>,
    /// The last 8 hex digits of its serial number, once its firmware showed them.
    pub serial_end: Option<String>,
    /// What board it may be; a guess.
    pub model: Option<String>,
    /// The IP address that it last asked from.
    pub address: String,
    /// The switch that has seen it, if one has.
    pub switch: Option<String>,
    /// The port there.
    pub port: Option<String>,
    /// What it last asked for.
    pub file: String,
    /// When it first asked, in milliseconds since 1970.
    pub first_unix_ms: u64,
    /// When it last asked, in milliseconds since 1970.
    pub last_unix_ms: u64,
    /// How often it asked.
    pub questions: u64,
    /// What it is, once it was invited into the boot root and told.
    pub inventory: Option<BoardView>,
}

/// A board, as its agent in the boot root sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BoardView {
    /// Its whole serial number.
    pub serial: Serial,
    /// Its model as its device tree names it.
    pub model: String,
    /// What its kernel has of its memory, in bytes.
    pub memory_bytes: u64,
    /// Its card, if there is one.
    pub card: Option<CardView>,
    /// What the agent read of its bootloader and of what is plugged in, by name.
    pub facts: Vec<(String, String)>,
}

/// A node is not to be answered by TFTP for a while, as if the head were away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SilenceRequest {
    /// For so many seconds; 0: from now on again.
    pub seconds: u64,
}

/// A board was invited into the boot root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InvitedView {
    /// Its network address.
    pub mac: String,
}

/// The serial device at a node's UART.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsoleView {
    /// The device on the head node.
    pub device: String,
    /// Its speed in baud.
    pub speed: u32,
    /// Whether people may type.
    pub write: bool,
    /// What is wrong with the device now.
    pub trouble: Option<String>,
}

/// A wipe that was recorded and not carried out yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwesView {
    /// How thorough it is.
    pub wipe: Wipe,
    /// Whose content is on the card.
    pub used_by: String,
}

/// Switches and nodes to add or change by name; also the format of `piseduce node import`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// The switches.
    #[serde(default, rename = "switch")]
    pub switches: Vec<SwitchEntry>,
    /// The nodes.
    #[serde(default, rename = "node")]
    pub nodes: Vec<NodeEntry>,
}

/// A switch in an inventory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchEntry {
    /// Its name.
    pub name: String,
    /// How to speak to it.
    pub driver: Driver,
    /// How long a port stays off between off and on, in milliseconds.
    #[serde(default)]
    pub off_time_ms: Option<u64>,
    /// Outlets that nobody switches: the head node's, uplinks.
    #[serde(default)]
    pub protected_ports: Vec<String>,
    /// What all its outlets together may deliver, in watts.
    #[serde(default)]
    pub budget_watts: Option<u32>,
}

/// A node in an inventory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeEntry {
    /// Its name; also its host name.
    pub name: String,
    /// The board's serial number, 16 hex digits.
    pub serial: Serial,
    /// The board's network address.
    pub mac: String,
    /// The model, such as `Raspberry Pi 4 Model B`.
    pub model: String,
    /// The switch that powers it, by name.
    pub switch: String,
    /// The outlet there.
    pub port: String,
    /// What it may draw with everything on it, in watts, if that is not what its model may.
    #[serde(default)]
    pub watts: Option<u32>,
    /// Its own IP address on the nodes' network; without one it gets any of the network's range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// The serial device at its UART.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<ConsoleSettings>,
    /// What it has in common with others: commands take `@LABEL` for all that have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// What an import did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImportedView {
    /// New nodes.
    pub added: usize,
    /// Nodes with new attributes.
    pub changed: usize,
    /// Nodes that were as the import has them.
    pub unchanged: usize,
    /// The same of switches.
    #[serde(default)]
    pub switches: ImportCountView,
    /// Registered nodes that the import does not name; they stay.
    #[serde(default)]
    pub unnamed_nodes: Vec<String>,
    /// Registered switches that the import does not name; they stay.
    #[serde(default)]
    pub unnamed_switches: Vec<String>,
}

/// How many of a kind an import added, changed and found as it has them.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ImportCountView {
    /// New ones.
    pub added: usize,
    /// With new attributes.
    pub changed: usize,
    /// As they were.
    pub unchanged: usize,
}

/// Another name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameRequest {
    /// The name.
    pub name: String,
}

//! Switches: what is registered, and what they show.

use crate::domain::driver::SnmpSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A registered switch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SwitchView {
    /// Its name.
    pub name: String,
    /// Its driver's name.
    pub driver: String,
    /// How many nodes are on it.
    pub nodes: usize,
    /// How long a port stays off between off and on, in milliseconds.
    pub off_time_ms: u64,
    /// Outlets that nobody switches.
    pub protected_ports: Vec<String>,
    /// What all its outlets together may deliver, in watts.
    pub budget_watts: Option<u32>,
    /// Whether it shows what its ports do; if not, they are believed to do what they were told.
    pub reads_back: bool,
}

/// A switch and everything that it shows now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SwitchDetails {
    /// What is registered.
    pub switch: SwitchView,
    /// For how long it has been running, in seconds.
    pub uptime_seconds: Option<u64>,
    /// Its power supplies.
    pub supplies: Vec<SupplyView>,
    /// Why nobody can be sure who is at which port before it is cut; none: the switch shows all addresses.
    #[serde(default)]
    pub place_gap: Option<String>,
    /// Its ports: all, or those of nodes where it cannot list them.
    pub ports: Vec<SwitchPortView>,
    /// What the last site recovery did, at all switches.
    pub recovery: Option<String>,
}

/// A power supply of a switch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SupplyView {
    /// What it can deliver, in watts.
    pub nominal_watts: u32,
    /// What it delivers now, in milliwatts.
    pub used_milliwatts: u64,
}

/// A port of a switch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SwitchPortView {
    /// The port in the switch's own words.
    pub port: String,
    /// Whether it is switched on.
    pub on: Option<bool>,
    /// Whether it delivers power.
    pub delivering: Option<bool>,
    /// What the switch says of the device on it.
    pub detection: Option<String>,
    /// The device's power class.
    pub class: Option<u8>,
    /// What it delivers now, in milliwatts.
    pub milliwatts: Option<u64>,
    /// Whether nobody may switch it.
    pub protected: bool,
    /// The network addresses that the switch has seen there.
    pub macs: Vec<String>,
    /// The node that is registered there.
    pub node: Option<String>,
    /// Why it could not be read.
    pub error: Option<String>,
}

/// Whether a port is switched although somebody has its node.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct SwitchPortQuery {
    /// Whether it is.
    #[serde(default)]
    pub force: bool,
}

/// How a port is to be spoken to that is not registered yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectRequest {
    /// What would be its driver's settings; preset and group need not be right.
    pub snmp: SnmpSettings,
}

/// What a switch turned out to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DetectedView {
    /// What it says of itself.
    pub description: String,
    /// The preset that fits, as the inventory calls it.
    pub preset: String,
    /// Why that one.
    pub preset_evidence: String,
    /// Its groups, and the outlets of each.
    pub groups: BTreeMap<u32, Vec<u32>>,
    /// What is added to an outlet's number to get its bridge port, by group; a group without a clear answer is not there.
    pub bridge_offsets: BTreeMap<u32, i32>,
    /// VLANs whose addresses it shows only in a context of their own.
    pub vlans: Vec<u16>,
    /// Why so much.
    pub offset_evidence: String,
    /// What its supplies can deliver, in watts.
    pub budget_watts: Option<u32>,
    /// What costs boots or forbids switching.
    pub warnings: Vec<String>,
    /// The entry that registers it; the name is to be chosen.
    pub entry: String,
}

/// How a port is switched now that somebody has said so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SwitchedView {
    /// The switch's name.
    pub switch: String,
    /// The port in its own words.
    pub port: String,
    /// Whether it is on.
    pub on: bool,
    /// What is to be known of how that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

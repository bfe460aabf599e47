//! What nobody can explain, as JSON.

use serde::{Deserialize, Serialize};

/// Something that should not be on the nodes' networks, or at a port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlarmView {
    /// `foreign_dhcp`, `address_conflict`, `stranger_refused`, `token_leaked` or `wrong_port_or_spoofed`.
    pub name: String,
    /// What was seen, as a sentence.
    pub seen: String,
    /// The hardware address of who did it, if it was heard.
    pub mac: Option<String>,
    /// The IP address that it is about.
    pub address: Option<String>,
    /// The node that it is about.
    pub node: Option<String>,
    /// The switch that has seen the hardware address, or that powers the node.
    pub switch: Option<String>,
    /// The port there.
    pub port: Option<String>,
    /// When it was first seen, in milliseconds since 1970.
    pub first_unix_ms: Option<u64>,
    /// When it was last seen, in milliseconds since 1970.
    pub last_unix_ms: Option<u64>,
    /// How often it was seen.
    pub times: Option<u64>,
}

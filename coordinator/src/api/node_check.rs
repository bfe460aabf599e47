//! What guards find at a node, as the API shows it.

use serde::{Deserialize, Serialize};

/// A node's bootloader and what is plugged into it, when its agent last said hello.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeCheckView {
    /// The node.
    pub node: String,
    /// When its agent last said hello in the boot root; none if nobody remembers.
    pub heard_unix_ms: Option<u64>,
    /// The model as its device tree names it.
    pub model: Option<String>,
    /// The card that it had then.
    pub card: Option<CardView>,
    /// What the agent read, by name.
    pub facts: Vec<(String, String)>,
    /// What is wrong with it.
    pub findings: Vec<FindingView>,
}

/// A card, as its kernel shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CardView {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its identification register in hex, if it shows one.
    pub cid: Option<String>,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FindingView {
    /// Its name.
    pub name: String,
    /// `refuse`, `warn` or `ignore`: what is done about it here.
    pub action: String,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    pub remedy: String,
}

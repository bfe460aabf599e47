//! The boot files of a card, as the API shows them.

use serde::{Deserialize, Serialize};

/// What a node boots its card with over the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootFilesView {
    /// The node.
    pub node: String,
    /// Since when these are served.
    pub since_unix_ms: u64,
    /// Who brought them: `agent`, or a user's name.
    pub by: String,
    /// The files, by name.
    pub files: Vec<BootFileView>,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootFileView {
    /// Its path on the boot partition.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

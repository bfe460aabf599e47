//! Environments and the images that they are.

use piseduce_protocol::id::Hash;
use serde::{Deserialize, Serialize};

/// An environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvironmentView {
    /// Its name.
    pub name: String,
    /// Its image.
    pub manifest: Hash,
    /// The image's length in bytes.
    pub image_bytes: u64,
    /// How its system is configured; `opaque` is not.
    pub family: String,
    /// What the family was recognised by.
    pub family_evidence: String,
    /// The architecture of its programs, when known.
    pub architecture: Option<String>,
    /// When it was added.
    pub added_unix_ms: u64,
    /// What its image consists of; where one environment is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageView>,
}

/// An image, as its manifest describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageView {
    /// Its length in bytes.
    pub image_bytes: u64,
    /// How its system is configured; `opaque` is not.
    pub family: String,
    /// What the family was recognised by.
    pub family_evidence: String,
    /// The architecture of its programs, when known.
    pub architecture: Option<String>,
    /// How much of it is in use and is written to cards, in bytes.
    pub defined_bytes: u64,
    /// How much space that takes on the head node, in bytes.
    pub stored_bytes: u64,
    /// Its partitions in the order of their numbers.
    pub partitions: Vec<PartitionView>,
}

/// One partition of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartitionView {
    /// Its number.
    pub number: u8,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// What it holds: `fat`, `ext4` or `unknown`.
    pub file_system: String,
    /// The file system's label.
    pub label: Option<String>,
    /// Whether the firmware boots from it.
    pub is_boot: bool,
    /// Whether it becomes `/`.
    pub is_root: bool,
}

/// What was left of an environment that was removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemovedView {
    /// The environment's name.
    pub name: String,
    /// How many deployments keep its image until they end.
    pub kept_for_deployments: usize,
    /// Which environments have the same image.
    pub kept_for_environments: Vec<String>,
}

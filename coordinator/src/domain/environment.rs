//! Environments: images under a name.

use crate::clock::UnixMs;
use piseduce_protocol::id::Hash;
use piseduce_protocol::topic::{LevelError, check_level};

/// A registered environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
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
    pub added: UnixMs,
}

/// The family of images that are written and booted, but not configured.
pub const OPAQUE: &str = "opaque";

impl Environment {
    /// Whether its first boot reports.
    pub fn reports(&self) -> bool {
        self.family != OPAQUE
    }
}

/// Checks a name for an environment.
///
/// # Errors
/// When it is not 1 to 63 characters of a-z, 0-9, `-` and `_`.
pub fn check_name(name: &str) -> Result<(), LevelError> {
    check_level(name)
}

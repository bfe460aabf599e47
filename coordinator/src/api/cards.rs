//! Memory cards and their histories, as the API shows them.

use serde::{Deserialize, Serialize};

/// A memory card's passport.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PassportView {
    /// Its identification register in hex.
    pub cid: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The node that it was last seen in.
    pub node: String,
    /// When it was first seen, in milliseconds since 1970.
    pub first_unix_ms: u64,
    /// When it was last seen, in milliseconds since 1970.
    pub last_unix_ms: u64,
    /// What copies wrote to it, in bytes.
    pub written: u64,
    /// How fast it wrote at the beginning and lately, in bytes a second; none until there are copies enough.
    pub trend: Option<(u64, u64)>,
    /// `new`, `good`, `slower`, `suspect` or `bad`.
    pub verdict: String,
    /// What to do; empty when nothing is to be done.
    pub advice: String,
    /// The copies to it, oldest first.
    pub copies: Vec<CopyView>,
    /// Its failures, oldest first.
    pub failures: Vec<FailureView>,
}

/// A copy to a card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyView {
    /// When it ended, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Bytes a second while the card was busy with them.
    pub rate: u64,
}

/// A failure of a card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailureView {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The node that it was in.
    pub node: String,
    /// The name of the cause.
    pub cause: String,
    /// What was seen.
    pub seen: String,
}

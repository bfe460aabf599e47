//! Users and their tokens.

use serde::{Deserialize, Serialize};

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserView {
    /// The name.
    pub name: String,
    /// `admin`, `user` or `monitor`.
    pub role: String,
}

/// Asks to add a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The name: 1 to 63 of a-z, 0-9, `-` and `_`.
    pub name: String,
    /// `admin`, `user` or `monitor`.
    pub role: String,
}

/// A token that was just made; it is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenView {
    /// Whose it is.
    pub name: String,
    /// What the user proves itself by.
    pub token: String,
}

//! Users and what proves that somebody is one: a token of 256 random bits, of which only a hash is kept.

use piseduce_protocol::id::Hash;
use piseduce_protocol::topic::check_level;

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Reserve, deploy, and do with its own nodes what it likes.
    User,
    /// Read the monitoring topics; nothing else.
    Monitor,
}

impl Role {
    /// The roles by name.
    pub const NAMES: [(&'static str, Role); 3] =
        [("admin", Role::Admin), ("user", Role::User), ("monitor", Role::Monitor)];

    /// The role's name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::User => "user",
            Role::Monitor => "monitor",
        }
    }

    /// The role of this name.
    pub fn from_name(name: &str) -> Option<Role> {
        Role::NAMES.into_iter().find_map(|(known, role)| (known == name).then_some(role))
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// A user name that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("user name `{0}` is not allowed: 1 to 63 of a-z, 0-9, `-` and `_`")]
pub struct UserNameError(String);

/// Checks a name for a user.
///
/// # Errors
/// [`UserNameError`].
pub fn check_name(name: &str) -> Result<(), UserNameError> {
    check_level(name).map_err(|_| UserNameError(name.into()))
}

/// What proves that somebody is a user: shown once, kept by the user.
pub struct Token(String);

impl Token {
    /// A token of these random bits.
    pub fn new(random: [u8; 32]) -> Self {
        Token(Hash(random).to_string())
    }

    /// What the user keeps.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored of it. Random bits need no slow hash.
    pub fn hash(text: &str) -> Hash {
        Hash::of(text.as_bytes())
    }
}

//! Families of systems that are configured alike: one file each, one table of them.
//!
//! The family of an image is recognised at its import and named in its manifest. Anything else is
//! `opaque`: written and booted, but neither grown nor configured.

mod debian;

use crate::card::fat::{Fat, FatError};
use crate::tree::{Tree, TreeError};
use piseduce_protocol::bundle::Bundle;
use piseduce_protocol::id::Ticket;

/// The name of what is not configured.
pub const OPAQUE: &str = "opaque";

/// What an environment's configuration is made from. It holds secrets and is never printed.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// Names, keys and script of the run.
    pub bundle: &'a Bundle,
    /// The run.
    pub ticket: Ticket,
    /// The head node's calendar time in milliseconds since 1970.
    pub unix_ms: u64,
}

/// Why an environment could not be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// A file of the root could not be used.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The boot partition could not be used.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// The environment lacks something that every system of its family has.
    #[error("the environment has {0}")]
    Lacks(&'static str),
    /// The bundle says something that cannot be written. Its value may be a secret and is not repeated.
    #[error("the configuration has an impossible {0}")]
    Impossible(&'static str),
}

/// How systems of one family are configured. Everything may be done again on what was configured before.
pub trait Family: Sync {
    /// Host name, host keys, clock, and what must not run at the first boot.
    ///
    /// # Errors
    /// [`ConfigureError`].
    fn configure_system(&self, root: &Tree, settings: Settings<'_>) -> Result<(), ConfigureError>;

    /// The same, as far as it lies on the boot partition.
    ///
    /// # Errors
    /// [`ConfigureError`].
    fn configure_boot(&self, boot: &Fat<'_, '_>, settings: Settings<'_>) -> Result<(), ConfigureError>;

    /// Password, SSH keys, script and reports of the first boot.
    ///
    /// # Errors
    /// [`ConfigureError`].
    fn configure_user(&self, root: &Tree, settings: Settings<'_>) -> Result<(), ConfigureError>;
}

static FAMILIES: [(&str, &dyn Family); 1] = [("debian", &debian::Debian)];

/// A family that this agent does not know; a newer one may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this agent does not know how to configure systems of the family `{0}`")]
pub struct UnknownFamily(pub String);

/// The family of this name; none for what is not configured.
///
/// # Errors
/// [`UnknownFamily`].
pub fn find(name: &str) -> Result<Option<&'static dyn Family>, UnknownFamily> {
    if name == OPAQUE {
        return Ok(None);
    }
    let found = FAMILIES.iter().find(|(known, _)| *known == name);
    found.map(|(_, family)| Some(*family)).ok_or_else(|| UnknownFamily(name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_found_by_name_and_opaque_is_none() {
        assert!(find("debian").is_ok_and(|family| family.is_some()));
        assert!(find("opaque").is_ok_and(|family| family.is_none()));
        assert_eq!(find("alpine").err(), Some(UnknownFamily("alpine".into())));
    }
}

//! What a board that nobody registered tells about itself: it is invited into the boot root, once, by whoever has it powered, and gets
//! no credentials there.

use crate::boot::BootError;
use crate::id::Serial;
use crate::report::CardInfo;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

const HEAD: &str = "piseduce.head";
const INVITATION: &str = "piseduce.invitation";

/// The longest inventory that is taken, in bytes.
pub const INVENTORY_BYTES_MAX: usize = 16 * 1024;

/// What stands on the kernel command line of an invited board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The coordinator's nodes' listener: host and TCP port, plain HTTP.
    pub head: String,
    /// Proves which board tells: only the one that fetched this line knows it.
    pub ticket: String,
}

impl Invitation {
    /// The parameters as words of a kernel command line.
    pub fn render(&self) -> String {
        format!("{HEAD}={} {INVITATION}={}", self.head, self.ticket)
    }

    /// The parameters among the words of `command_line`; none: it invites nobody.
    ///
    /// # Errors
    /// [`BootError::Missing`] when it does not say where the head is.
    pub fn parse(command_line: &str) -> Result<Option<Self>, BootError> {
        let value = |name: &'static str| {
            let mut words = command_line.split_ascii_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let Some(ticket) = value(INVITATION) else { return Ok(None) };
        let head = value(HEAD).ok_or(BootError::Missing(HEAD))?;
        Ok(Some(Invitation { head: head.to_string(), ticket: ticket.to_string() }))
    }
}

/// A board, as its agent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardInventory {
    /// Its serial number as its device tree gives it.
    pub serial: Serial,
    /// Its network interface's address, lower case with colons.
    pub mac: String,
    /// Its model as its device tree names it.
    pub model: String,
    /// What its kernel has of its memory, in KiB.
    pub memory_kib: u64,
    /// Its card, if there is one.
    pub card: Option<CardInfo>,
    /// Its bootloader's settings as far as the boot root can read them.
    pub bootloader: Vec<(String, String)>,
}

impl BoardInventory {
    /// Its bytes, as they are posted.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("growing a vector cannot fail")
    }

    /// The inventory with these bytes, if it is one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_found_among_other_words() {
        let invitation = Invitation { head: "10.0.0.1:8070".into(), ticket: "00ff".into() };
        let line = format!("console=ttyAMA0 {} panic=10", invitation.render());
        assert_eq!(Invitation::parse(&line), Ok(Some(invitation)));
        assert_eq!(Invitation::parse("panic=10 piseduce.head=10.0.0.1:1"), Ok(None));
        assert!(Invitation::parse("piseduce.invitation=00").is_err());
    }
}

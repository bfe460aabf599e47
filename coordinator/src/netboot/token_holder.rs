//! Who gets the command line with the token of a boot: the node's own board, at one address, once that is on disk. Whoever
//! else asks is refused and told of.
//!
//! The questions come from `desk.rs`, which knows whose hardware address asks.

use super::alarm::Wanted;
use super::desk::{Answer, Desk, House, Known};
use super::question::{Question, Whose};
use super::view::View;
use crate::domain::boot_evidence::TokenHolder;
use std::net::IpAddr;

/// The file of the kernel command line.
pub(super) const COMMAND_LINE: &str = "cmdline.txt";

/// What a question that is refused was for.
pub(super) fn wanted(question: &Question) -> Wanted {
    if question.file == COMMAND_LINE { Wanted::CommandLine } else { Wanted::BootFile }
}

impl<H: House> Desk<H> {
    /// The answer to the node's own board at `address` while it is not to get what it asks for; none: nothing stands
    /// against it.
    pub(super) fn withheld(&self, known: &Known, question: &Question, address: IpAddr) -> Option<Answer> {
        if question.file != COMMAND_LINE || question.whose == Whose::Asker {
            return None;
        }
        let boot = match known.view {
            View::BootRoot(boot) => boot,
            // A port that nobody has seen on yet powers no board.
            View::Starting => return Some(Answer::Later),
            View::Card | View::Hold => return None,
        };
        match self.house().token_holder(known.serial).filter(|holder| holder.boot == boot) {
            Some(holder) if holder.address == address => None,
            Some(holder) => {
                tracing::warn!(
                    node = %known.serial, %boot, %address, holder = %holder.address,
                    "the token of this boot was fetched at another address, and is given out once"
                );
                self.house().refused(known, address, Some(&known.mac), Wanted::CommandLine);
                Some(Answer::NotFound)
            }
            None => {
                self.house().token_asked(known.serial, TokenHolder { boot, address });
                Some(Answer::Later)
            }
        }
    }
}

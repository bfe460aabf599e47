//! What an invited board does: tells what it is, once it is heard, and nothing else.

use crate::card;
use crate::identity::Identity;
use crate::vitals;
use piseduce_protocol::enrolment::{BoardInventory, Invitation};
use piseduce_protocol::path;
use std::path::Path;
use std::time::Duration;

/// An answer takes no longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// This board, whose identity is read below `root`.
pub fn inventory(identity: &Identity, root: &Path, card: &Path) -> BoardInventory {
    BoardInventory {
        serial: identity.serial,
        mac: identity.mac.clone(),
        model: identity.model.clone(),
        memory_kib: vitals::memory_kib(),
        card: card::describe(root, card),
        bootloader: identity.bootloader.clone(),
    }
}

/// Tells the head that invited. Waits for its answer: asynchronous callers give it a thread.
///
/// # Errors
/// When the head cannot be reached, or the invitation is no longer good.
pub fn tell(invitation: &Invitation, inventory: &BoardInventory) -> Result<(), Box<ureq::Error>> {
    let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_MAX)).proxy(None).max_redirects(0);
    let agent = ureq::Agent::from(config.build());
    let url = format!("http://{}{}", invitation.head, path::enrolment(&invitation.ticket));
    agent.post(&url).send(inventory.encode().as_slice())?;
    Ok(())
}

//! `wipe`: the old content of the card goes. Needs no image and knows no run.

use super::Node;
use super::cause::StepError;
use crate::cancel::Cancel;
use crate::card::device::{Device, Sharing};
use crate::card::partition::{self, while_busy};
use crate::card::{Card as _, wipe as card_wipe};
use piseduce_protocol::command::Wipe;

/// Makes the card of `node` unbootable and wipes it; returns a sentence about it.
///
/// # Errors
/// [`StepError`].
pub fn wipe(
    node: &Node,
    wipe: Wipe,
    cancel: &Cancel,
    advance: &(dyn Fn(u64, u64) + Sync),
) -> Result<String, StepError> {
    let card = while_busy(cancel, || Device::open(&node.card, Sharing::Exclusive))?;
    partition::agree(&card, &[], cancel)?;
    let done = card_wipe::wipe(&card, wipe, cancel, advance)?;
    let instead = if done == wipe { "" } else { ": the card cannot discard" };
    Ok(format!("{} wiped, {done}{instead}", card.name()))
}

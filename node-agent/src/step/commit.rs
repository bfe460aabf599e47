//! The last write of a deployment: sector 0, after which the card boots.

use super::Step;
use super::cause::{StepError, failed};
use crate::card::{Card as _, partition, sector};
use piseduce_protocol::cause::CauseKind;

impl Step<'_> {
    /// Writes the table with the grown root as sector 0, after everything else is safe on the card.
    pub(super) fn commit(&self) -> Result<(), StepError> {
        // Nobody may hold a partition any more, or hold back what is still to be written to it.
        partition::agree(self.card, &[], self.task.cancel)?;
        self.task.cancel.check()?;
        match sector::commit(self.card, &self.growth.sector0(&self.session.sector0))? {
            true => Ok(()),
            false => {
                let seen = format!("sector 0 of {} is not what was written there", self.card.name());
                Err(failed(CauseKind::HashMismatch, seen))
            }
        }
    }
}

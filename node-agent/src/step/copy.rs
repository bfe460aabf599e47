//! `env_copy` and `env_check`: the card becomes the image, and is proven to be.

use super::Step;
use super::cause::StepError;
use crate::card::partition;
use crate::image::{check, copy};

impl Step<'_> {
    pub(super) fn env_copy(&self) -> Result<String, StepError> {
        // Partitions of the card's earlier content would let others mount what is being overwritten.
        partition::agree(self.card, &[], self.task.cancel)?;
        let copied = copy::copy(self.scene(self.task.advance), self.head, &self.session.written)?;
        (self.task.wrote)(copied.moved, copied.busy);
        Ok(format!("{} bytes written, {} were there already", copied.written, copied.kept))
    }

    pub(super) fn env_check(&self) -> Result<String, StepError> {
        let chunks = self.session.to_verify(self.task.work.verify);
        let bytes = check::check(self.scene(self.task.advance), &chunks)?;
        Ok(format!("{bytes} bytes in {} chunks read back and right", chunks.len()))
    }
}

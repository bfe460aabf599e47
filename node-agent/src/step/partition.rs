//! `delete_partition` and `create_partition`: the root's entry goes, and comes back larger.
//!
//! The table itself lives in memory until the commit: it follows from the image's sector 0 and the size
//! asked for. What changes here is the kernel's view, by which the tools see the partition.

use super::Step;
use super::cause::{StepError, failed};
use super::growth::Growth;
use crate::card::partition::{self, KernelPartition};
use piseduce_protocol::cause::CauseKind;

impl Step<'_> {
    pub(super) fn delete_partition(&self) -> Result<String, StepError> {
        let entry = match &self.growth {
            Growth::Nothing(why) => return Ok(format!("nothing to grow: {why}")),
            Growth::Entry(entry) => entry,
        };
        let mut rest = self.growth.partitions(&self.session.manifest);
        rest.retain(|partition| partition.number != entry.number);
        partition::agree(self.card, &rest, self.task.cancel)?;
        Ok(format!("partition {} is out of the table", entry.number))
    }

    pub(super) fn create_partition(&self) -> Result<String, StepError> {
        let shown = self.show_partitions()?;
        let entry = match &self.growth {
            Growth::Nothing(why) => return Ok(format!("nothing to grow: {why}")),
            Growth::Entry(entry) => entry,
        };
        let bytes =
            shown.iter().find(|partition| partition.number == entry.number).map_or(0, |root| root.bytes);
        Ok(format!("partition {} has {bytes} bytes", entry.number))
    }

    /// Makes the kernel show the partitions as they become, and reads back that it does.
    pub(super) fn show_partitions(&self) -> Result<Vec<KernelPartition>, StepError> {
        let mut wanted = self.growth.partitions(&self.session.manifest);
        partition::agree(self.card, &wanted, self.task.cancel)?;
        let shown = partition::list(self.card)?;
        wanted.sort_by_key(|partition| partition.number);
        match shown == wanted {
            true => Ok(shown),
            false => {
                Err(failed(CauseKind::TableInvalid, "the kernel shows other partitions than it was told"))
            }
        }
    }
}

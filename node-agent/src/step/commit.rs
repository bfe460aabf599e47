//! The last writes of a deployment: the partition table, after whose sector 0 the card boots.

use super::Step;
use super::cause::StepError;
use crate::card::{Card, CardError, partition, sector};
use crate::image::withheld::Withheld;
use piseduce_protocol::table::{SECTOR_BYTES, Table};

impl Step<'_> {
    /// Writes the table with the grown root, after everything else is safe on the card.
    pub(super) fn commit(&self) -> Result<(), StepError> {
        // Nobody may hold a partition any more, or hold back what is still to be written to it.
        partition::agree(self.card, &[], self.task.cancel)?;
        self.task.cancel.check()?;
        let table = self.growth.table(&self.session.table);
        Ok(put_table(self.card, &table, &self.session.withheld)?)
    }
}

/// Puts on the card what was held back of the image, and the table as it became: its sector 0 last.
pub(super) fn put_table(card: &dyn Card, table: &Table, withheld: &Withheld) -> Result<(), CardError> {
    let areas = table.areas();
    let areas: Vec<(u64, &[u8])> =
        areas.iter().map(|area| (area.start * SECTOR_BYTES, &area.bytes[..])).collect();
    let is_in_table =
        |at: u64| areas.iter().any(|(start, bytes)| (*start..start + bytes.len() as u64).contains(&at));
    // What only looked like the header of a GPT belongs to something else, and comes back as it was.
    let rest = withheld.sectors().iter().filter(|(at, _)| !is_in_table(*at));
    let rest = rest.map(|(at, bytes)| (*at, &bytes[..]));
    sector::commit(card, rest.chain(areas.iter().copied()))
}

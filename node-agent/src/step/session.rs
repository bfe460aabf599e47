//! What this process knows about one run on one card: the image's manifest, its table as it fits the card,
//! and what was written.
//!
//! Nothing of it survives the process. Whatever is missing is fetched again, so that every step can be
//! the first one that a fresh agent is asked for.

use super::cause::{StepError, failed};
use crate::card::{self, Card, CardError};
use crate::image::chunk::ChunkSet;
use crate::image::fetch::Head;
use crate::image::original::Original;
use crate::image::plan;
use crate::image::withheld::Withheld;
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::command::{Verify, Work};
use piseduce_protocol::id::{DeploymentId, Hash, Run, Ticket};
use piseduce_protocol::manifest::Manifest;
use piseduce_protocol::table::{ReadError, SECTOR_BYTES, Table};
use std::path::Path;

/// One run with one image on one card.
#[derive(Debug)]
pub struct Session {
    deployment: DeploymentId,
    run: Run,
    name: Hash,
    card_bytes: u64,
    /// The image.
    pub manifest: Manifest,
    /// The image's partition table as one of this card, nothing grown yet.
    pub table: Table,
    /// What of the image is not on the card before the commit.
    pub withheld: Withheld,
    /// The chunks that this process wrote.
    pub written: ChunkSet,
    /// Whether this process made the whole card equal, so that [`Session::written`] is all that is new.
    pub is_copied: bool,
}

impl Session {
    /// The session of the run with `ticket` on `card` in `slot`, begun anew if another one or none is there.
    ///
    /// # Errors
    /// When the manifest or the table's chunks cannot be fetched, and when the image does not fit the card.
    pub fn resume<'s>(
        slot: &'s mut Option<Session>,
        ticket: Ticket,
        work: &Work,
        card: &dyn Card,
        head: &Head,
    ) -> Result<&'s mut Self, StepError> {
        let wanted = (ticket.deployment, ticket.run, work.manifest, card.bytes());
        let is_same =
            |session: &Session| (session.deployment, session.run, session.name, session.card_bytes) == wanted;
        let session = match slot.take().filter(is_same) {
            Some(session) => session,
            None => Self::begin(ticket, work, card, head)?,
        };
        Ok(slot.insert(session))
    }

    fn begin(ticket: Ticket, work: &Work, card: &dyn Card, head: &Head) -> Result<Self, StepError> {
        let manifest = head.manifest(work.manifest)?;
        let (image_bytes, card_bytes) = (manifest.image_bytes, card.bytes());
        if card_bytes < image_bytes {
            let seen = format!("the image has {image_bytes} bytes, {} has {card_bytes}", card.name());
            return Err(failed(CauseKind::CardTooSmall, seen));
        }
        let mut image = Original::new(&manifest, head);
        let mut table =
            Table::read(image_bytes / SECTOR_BYTES, |at, into| image.read(at, into)).map_err(|error| {
                match error {
                    ReadError::Disk(error) => StepError::from(error),
                    ReadError::Table(error) => error.into(),
                }
            })?;
        table.fit(card_bytes / SECTOR_BYTES)?;
        let withheld = Withheld::of(image_bytes, card_bytes, |at, into| image.read(at, into))?;
        Ok(Session {
            deployment: ticket.deployment,
            run: ticket.run,
            name: work.manifest,
            card_bytes,
            table,
            withheld,
            written: ChunkSet::new(manifest.chunks.len()),
            is_copied: false,
            manifest,
        })
    }

    /// Refuses another card than this session's at `path`, or none.
    pub(super) fn is_on_card(&self, path: &Path) -> Result<(), StepError> {
        let left = card::bytes(path).unwrap_or(0);
        if left == self.card_bytes {
            return Ok(());
        }
        let gone = CardError::Gone { card: path.display().to_string(), bytes: self.card_bytes, left };
        Err(gone.into())
    }

    /// The chunks to read back: what this process wrote, or everything when it cannot know.
    pub fn to_verify(&self, verify: Verify) -> Vec<usize> {
        match verify {
            Verify::Written if self.is_copied => self.written.indices(),
            Verify::Written | Verify::Full => plan::defined(&self.manifest),
        }
    }
}

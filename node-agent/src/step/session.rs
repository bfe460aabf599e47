//! What this process knows about one run: the image's manifest, its sector 0, and what was written.
//!
//! Nothing of it survives the process. Whatever is missing is fetched again, so that every step can be
//! the first one that a fresh agent is asked for.

use super::cause::StepError;
use crate::image::chunk::{self, ChunkSet};
use crate::image::fetch::Head;
use crate::image::{Source as _, plan};
use piseduce_protocol::command::{Verify, Work};
use piseduce_protocol::id::{DeploymentId, Hash, Run, Ticket};
use piseduce_protocol::manifest::{ChunkKind, Manifest};

/// One run with one image.
#[derive(Debug)]
pub struct Session {
    deployment: DeploymentId,
    run: Run,
    name: Hash,
    /// The image.
    pub manifest: Manifest,
    /// The image's sector 0, which is not on the card before the commit.
    pub sector0: [u8; 512],
    /// The chunks that this process wrote.
    pub written: ChunkSet,
    /// Whether this process made the whole card equal, so that [`Session::written`] is all that is new.
    pub is_copied: bool,
}

impl Session {
    /// The session of the run with `ticket` in `slot`, begun anew if another one or none is there.
    ///
    /// # Errors
    /// When the manifest or the first chunk cannot be fetched.
    pub fn resume<'s>(
        slot: &'s mut Option<Session>,
        ticket: Ticket,
        work: &Work,
        head: &Head,
    ) -> Result<&'s mut Self, StepError> {
        let is_same = |session: &Session| {
            (session.deployment, session.run, session.name) == (ticket.deployment, ticket.run, work.manifest)
        };
        let session = match slot.take().filter(is_same) {
            Some(session) => session,
            None => Self::begin(ticket, work, head)?,
        };
        Ok(slot.insert(session))
    }

    fn begin(ticket: Ticket, work: &Work, head: &Head) -> Result<Self, StepError> {
        let manifest = head.manifest(work.manifest)?;
        Ok(Session {
            deployment: ticket.deployment,
            run: ticket.run,
            name: work.manifest,
            sector0: first_sector(&manifest, head)?,
            written: ChunkSet::new(manifest.chunks.len()),
            is_copied: false,
            manifest,
        })
    }

    /// The chunks to read back: what this process wrote, or everything when it cannot know.
    pub fn to_verify(&self, verify: Verify) -> Vec<usize> {
        match verify {
            Verify::Written if self.is_copied => self.written.indices(),
            Verify::Written | Verify::Full => plan::defined(&self.manifest),
        }
    }
}

fn first_sector(manifest: &Manifest, head: &Head) -> Result<[u8; 512], StepError> {
    let mut sector = [0; 512];
    if let Some(first) = manifest.chunks.first().filter(|chunk| chunk.kind == ChunkKind::Data) {
        let mut buffer = chunk::buffer();
        let raw = &mut buffer[..manifest.chunk_bytes(0) as usize];
        head.chunk(first.hash, raw)?;
        sector.copy_from_slice(&raw[..512]);
    }
    Ok(sector)
}

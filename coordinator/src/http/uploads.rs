//! What bodies that become files may take: one at a time for each run, room on the disk, a length that was told before.

use super::Shared;
use super::error::ApiError;
use crate::image::FreeSpace;
use crate::netboot::card_files::Owner;
use axum::body::Body;
use futures_util::StreamExt as _;
use piseduce_protocol::id::Hash;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

/// The runs that something is received for.
#[derive(Clone, Debug, Default)]
pub(super) struct Uploads {
    under_way: Arc<Mutex<HashSet<Owner>>>,
}

/// One of them; over when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    owner: Owner,
    uploads: Uploads,
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashSet<Owner>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to receive for this run; one upload at a time.
    pub(super) fn begin(&self, owner: Owner) -> Result<Turn, ApiError> {
        if !self.lock().insert(owner) {
            let message = format!("another upload for deployment {} is under way", owner.deployment);
            return Err(ApiError::busy(message, "try again when it has ended"));
        }
        Ok(Turn { owner, uploads: self.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.uploads.lock().remove(&self.owner);
    }
}

/// Refuses what would leave less on the disk than must stay free.
pub(super) fn check_room(shared: &Shared, bytes: u64) -> Result<(), ApiError> {
    let floor = shared.library.free_space().map_err(|error| ApiError::ours(&error))?.floor;
    let directory = shared.cards.directory().map_err(|error| ApiError::ours(&error))?;
    let space = FreeSpace::of(directory, floor).map_err(|error| ApiError::ours(&error))?;
    if space.free < space.floor.saturating_add(bytes) {
        return Err(ApiError::no_space(format!(
            "the head's disk has {} MB free: {} MB would come, and {} MB must stay free",
            space.free >> 20,
            bytes.div_ceil(1 << 20),
            space.floor >> 20
        )));
    }
    Ok(())
}

/// Writes a body of at most `bytes_max` bytes to `file`; its length and hash.
pub(super) async fn receive(body: Body, file: &mut File, bytes_max: u64) -> Result<(u64, Hash), ApiError> {
    let (mut hasher, mut bytes, mut pieces) = (blake3::Hasher::new(), 0, body.into_data_stream());
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| ApiError::body(&error))?;
        bytes += piece.len() as u64;
        if bytes > bytes_max {
            let message = format!("more than {bytes_max} bytes came");
            return Err(ApiError::too_large(message, "nothing was changed"));
        }
        hasher.update(&piece);
        file.write_all(&piece).await.map_err(|error| ApiError::ours(&error))?;
    }
    file.flush().await.map_err(|error| ApiError::ours(&error))?;
    Ok((bytes, Hash(*hasher.finalize().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use piseduce_protocol::id::{DeploymentId, Run, Serial};

    #[test]
    fn a_run_receives_one_upload_at_a_time() {
        let uploads = Uploads::default();
        let owner = Owner { serial: Serial(1), deployment: DeploymentId(1), run: Run(1) };
        let turn = uploads.begin(owner).unwrap();
        assert!(uploads.begin(owner).is_err());
        assert!(uploads.begin(Owner { run: Run(2), ..owner }).is_ok());
        drop(turn);
        assert!(uploads.begin(owner).is_ok());
    }
}

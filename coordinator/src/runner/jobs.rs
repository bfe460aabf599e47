//! Work that no deployment waits for.

use crate::image::{Library, LibraryError, Swept};
use crate::store::{Store, StoreError};

/// Why a job did not end well.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The store failed.
    #[error("failed to read which images are in use")]
    Store(#[from] StoreError),
    /// The library failed.
    #[error("failed to sweep the images")]
    Library(#[from] LibraryError),
}

/// Removes images that no environment and no live deployment names; none when an import is just being
/// recorded, after which the next sweep does it.
///
/// # Errors
/// When store or library fails.
pub async fn sweep(library: &Library, store: &Store) -> Result<Option<Swept>, JobError> {
    let Some(sweep) = library.begin_sweep()? else { return Ok(None) };
    let keep = store.pinned_images().await?;
    Ok(Some(tokio::task::block_in_place(|| sweep.finish(&keep))?))
}

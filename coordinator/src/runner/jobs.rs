//! Work that no deployment waits for.

use crate::clock;
use crate::image::{Library, LibraryError, Swept};
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a sweep waits for an import that is just being recorded.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

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

/// Sweeps as soon as no import is just being recorded. What fails is logged: the next sweep does it.
pub async fn sweep_soon(library: Arc<Library>, store: Store) {
    loop {
        match sweep(&library, &store).await {
            Ok(None) => clock::sleep_until(clock::now() + SWEEP_AGAIN).await,
            Ok(Some(swept)) if swept == Swept::default() => return,
            Ok(Some(swept)) => return tracing::info!(?swept, "images swept"),
            Err(error) => return tracing::warn!(%error, "images could not be swept"),
        }
    }
}

/// Sweeps when deployments have ended, which may have been the last that used an image; until `ended` does.
pub async fn sweep_after_deployments(library: Arc<Library>, store: Store, mut ended: watch::Receiver<u64>) {
    while ended.changed().await.is_ok() {
        sweep_soon(library.clone(), store.clone()).await;
    }
}

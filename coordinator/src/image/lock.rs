//! Locks on files, which hold between processes. The kernel releases those of the dead.

use super::error::LibraryError;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;

/// A lock, until it is dropped.
#[derive(Debug)]
pub struct FileLock(File);

impl Drop for FileLock {
    /// Closing would not do: a program that another thread starts has a copy of the file for a moment.
    fn drop(&mut self) {
        if let Err(error) = flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(%error, "failed to release a lock of the image library");
        }
    }
}

/// Locks the file at `path`.
pub(super) fn lock(path: &Path, operation: FlockOperation) -> Result<FileLock, LibraryError> {
    let file = File::open(path).map_err(LibraryError::io("open", path))?;
    rustix::io::retry_on_intr(|| flock(&file, operation))
        .map_err(|error| LibraryError::io("lock", path)(error.into()))?;
    Ok(FileLock(file))
}

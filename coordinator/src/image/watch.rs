//! What an import keeps an eye on while it works: the caller's wish to stop, the free space, the progress bar.
//! Asked after every megabyte by `fetch.rs`, `decode.rs`, `pack.rs` …; knows nothing of what they do.

use super::error::{ImportError, LibraryError};
use super::origin::Origin;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportProgress {
    /// What is being done.
    pub stage: Stage,
    /// How much of it is done, in bytes; of the image while packing, of the file before.
    pub done: u64,
    /// How much there is to do, in bytes, when that is known.
    pub total: Option<u64>,
}

/// What an import does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Fetches the file from its address. Left out for files of this machine.
    Fetching,
    /// Adds up the file's checksum. Left out without one to compare with, and for what was just fetched.
    Checking,
    /// Unpacks the file. Left out for files that are not compressed.
    Decoding,
    /// Cuts the image into chunks and compresses them.
    Packing,
}

/// The eye on one import.
pub(super) struct Watch<'a> {
    /// The image file, for errors.
    origin: Origin,
    directory: PathBuf,
    floor: u64,
    progress: &'a mut dyn FnMut(ImportProgress),
    stop: &'a AtomicBool,
}

impl<'a> Watch<'a> {
    /// Watches the import of `origin` into `directory`, where `floor` bytes must stay free.
    pub(super) fn new(
        origin: &Origin,
        directory: &Path,
        floor: u64,
        progress: &'a mut dyn FnMut(ImportProgress),
        stop: &'a AtomicBool,
    ) -> Self {
        Watch { origin: origin.clone(), directory: directory.to_owned(), floor, progress, stop }
    }

    /// Reports `progress`, unless the import has to end.
    pub(super) fn report(&mut self, progress: ImportProgress) -> Result<(), ImportError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(ImportError::Stopped { origin: self.origin.clone() });
        }
        (self.progress)(progress);
        Ok(())
    }

    /// Fails when writing `bytes` would leave less free than must stay.
    pub(super) fn room_for(&self, bytes: u64) -> Result<(), ImportError> {
        let FreeSpace { free, floor } = FreeSpace::of(&self.directory, self.floor)?;
        if free < bytes.saturating_add(floor) {
            let directory = self.directory.clone();
            return Err(ImportError::Space { directory, free, needed: bytes, floor });
        }
        Ok(())
    }
}

/// How much room a file system has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// What is free for everybody, without what is kept back for root.
    pub free: u64,
    /// What must stay free.
    pub floor: u64,
}

impl FreeSpace {
    /// The room on the file system of `directory`, where `floor` bytes must stay free.
    ///
    /// # Errors
    /// When it cannot be measured.
    pub fn of(directory: &Path, floor: u64) -> Result<Self, LibraryError> {
        let space = rustix::fs::statvfs(directory)
            .map_err(|error| LibraryError::io("measure the free space of", directory)(error.into()))?;
        Ok(FreeSpace { free: space.f_bavail.saturating_mul(space.f_frsize), floor })
    }

    /// Whether less is free than must be.
    pub fn is_short(self) -> bool {
        self.free < self.floor
    }
}

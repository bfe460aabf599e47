//! Removes what is no longer wanted: leftovers of dead imports, images that nobody keeps, packs without image.
//!
//! Manifests go before packs, durably, so that no power cut leaves a manifest without its pack.

use super::error::LibraryError;
use super::incoming::sync;
use super::library::{Library, Places};
use super::lock::{FileLock, lock};
use piseduce_protocol::id::Hash;
use rustix::fs::FlockOperation;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

/// The library, held still: images may be read, none becomes part of it.
#[derive(Debug)]
#[must_use = "images wait outside until it is finished or dropped"]
pub struct Sweep<'a> {
    library: &'a Library,
    _lock: FileLock,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Directories of imports that died.
    pub imports: usize,
    /// Manifests.
    pub manifests: usize,
    /// Packs.
    pub packs: usize,
}

impl Library {
    /// Begins a sweep; none while an import has an image that is not recorded yet, which lasts moments.
    ///
    /// Only when it has begun may the caller read which images are to be kept: every image that became part of
    /// the library is recorded by then. The same thread must not import before it is finished or dropped.
    ///
    /// # Errors
    /// When the library's lock cannot be taken.
    pub fn begin_sweep(&self) -> Result<Option<Sweep<'_>>, LibraryError> {
        match unless_held(&self.places.lock())? {
            Some(lock) => Ok(Some(Sweep { library: self, _lock: lock })),
            None => Ok(None),
        }
    }
}

impl Sweep<'_> {
    /// Removes everything but the images `keep` and the work of living imports.
    ///
    /// # Errors
    /// When a kept manifest cannot be read, before anything of an image is removed; when something cannot be
    /// removed.
    pub fn finish(self, keep: &HashSet<Hash>) -> Result<Swept, LibraryError> {
        let places = &self.library.places;
        let mut kept_packs = HashSet::new();
        for name in keep {
            kept_packs.extend(places.manifest(*name)?.into_iter().flat_map(|manifest| manifest.packs));
        }
        let swept = Swept {
            imports: remove_dead_imports(&places.incoming())?,
            manifests: remove_all_but(keep, &places.manifests())?,
            packs: remove_all_but(&kept_packs, &places.packs())?,
        };
        self.library.forget_removed()?;
        Ok(swept)
    }
}

fn remove_dead_imports(incoming: &Path) -> Result<usize, LibraryError> {
    let list = fs::read_dir(incoming).map_err(LibraryError::io("list", incoming))?;
    let mut removed = 0;
    for entry in list {
        let directory = entry.map_err(LibraryError::io("list", incoming))?.path();
        let _dead = match unless_held(&directory.join("lock")) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => continue,
            // The import died between creating the directory and the file.
            Err(LibraryError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match fs::remove_dir_all(&directory) {
            Ok(()) => removed += 1,
            // Its import ended and removed it at the same time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(LibraryError::io("remove directory", &directory)(error)),
        }
    }
    Ok(removed)
}

fn remove_all_but(keep: &HashSet<Hash>, directory: &Path) -> Result<usize, LibraryError> {
    let names = Places::names(directory)?;
    let unwanted: Vec<Hash> = names.into_iter().filter(|name| !keep.contains(name)).collect();
    for name in &unwanted {
        let path = directory.join(name.to_string());
        fs::remove_file(&path).map_err(LibraryError::io("remove", &path))?;
    }
    sync(directory)?;
    Ok(unwanted.len())
}

/// Locks the file at `path`, unless somebody holds it.
fn unless_held(path: &Path) -> Result<Option<FileLock>, LibraryError> {
    match lock(path, FlockOperation::NonBlockingLockExclusive) {
        Ok(lock) => Ok(Some(lock)),
        Err(LibraryError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

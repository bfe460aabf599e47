//! Looks at a library without becoming its user: which files an image consists of, and whether they are whole.
//! Creates nothing, so that the doctor may look at a directory that is not there.

use super::error::LibraryError;
use super::index::Index;
use super::library::Places;
use super::lock::{FileLock, lock};
use piseduce_protocol::id::Hash;
use rustix::fs::FlockOperation;
use std::path::{Path, PathBuf};

/// The files of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFiles {
    /// The manifest, whose name is the hash of what is in it.
    pub manifest: PathBuf,
    /// The packs, whose names are the hashes of what is in them.
    pub packs: Vec<PathBuf>,
}

impl ImageFiles {
    /// The files of the image `name` in the library below `root`; none when it is not there. Packs have been
    /// found to be long enough, which does not prove every byte.
    ///
    /// # Errors
    /// When the image is damaged, or cannot be read.
    pub fn find(root: &Path, name: Hash) -> Result<Option<Self>, LibraryError> {
        let places = Places::at(root);
        let Some(manifest) = places.manifest(name)? else { return Ok(None) };
        let packs = Index::packs_of(&manifest, &places)?;
        Ok(Some(ImageFiles { manifest: places.manifest_file(name), packs }))
    }

    /// Keeps every image of the library below `root` from being swept until the returned lock is dropped.
    /// Imports go on.
    ///
    /// # Errors
    /// When the library's lock cannot be taken.
    pub fn hold(root: &Path) -> Result<FileLock, LibraryError> {
        lock(&Places::at(root).lock(), FlockOperation::LockShared)
    }
}

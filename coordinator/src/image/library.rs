//! The directory of images: who opens it finds manifests and chunks in it by their names.
//!
//! Below its root: `manifests/` and `packs/`, whose files are named by the hash of what is in them and never
//! change, `incoming/` for imports under way, and `lock` (see `incoming.rs`). Several processes may use it at
//! once. Its functions wait for the disk: asynchronous callers give them a thread. Next: `import.rs` for the
//! way in, `index.rs` for the way out, `sweep.rs` for what is no longer wanted.

use super::error::LibraryError;
use super::incoming::sync;
use super::index::{Index, StoredChunk};
use super::watch::FreeSpace;
use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::{IMAGE_BYTES_MAX, Manifest};
use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many manifests are kept in memory, decoded. One of a 4 GB image takes about 300 KB.
const RECENT_MANIFESTS: usize = 8;

/// What bounds the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest image that is imported, in bytes; never more than [`IMAGE_BYTES_MAX`].
    pub image_bytes: u64,
    /// How much must stay free on the library's file system, in bytes.
    pub free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { image_bytes: IMAGE_BYTES_MAX, free_bytes: 1 << 30 }
    }
}

/// The directory of images.
#[derive(Debug)]
pub struct Library {
    pub(super) places: Places,
    pub(super) limits: Limits,
    index: Mutex<Index>,
    recent: Mutex<VecDeque<(Hash, Arc<Manifest>)>>,
}

impl Library {
    /// Opens the library below `root`; creates directories, for their owner only, where they are missing.
    ///
    /// # Errors
    /// When a directory or the lock file cannot be created.
    pub fn open(root: &Path, limits: Limits) -> Result<Self, LibraryError> {
        let places = Places::at(root);
        for directory in [root, &places.packs(), &places.manifests(), &places.incoming()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(LibraryError::io("create directory", directory))?;
        }
        File::options()
            .create(true)
            .append(true)
            .open(places.lock())
            .map_err(LibraryError::io("create", &places.lock()))?;
        // Everything below can be durable only if the directories themselves are.
        sync(root)?;
        let limits = Limits { image_bytes: limits.image_bytes.min(IMAGE_BYTES_MAX), ..limits };
        Ok(Library { places, limits, index: Mutex::default(), recent: Mutex::default() })
    }

    /// The bytes of the manifest `name`, or none when there is no such image.
    ///
    /// # Errors
    /// When it cannot be read, or its bytes are not what they were.
    pub fn manifest_bytes(&self, name: Hash) -> Result<Option<Vec<u8>>, LibraryError> {
        self.places.manifest_bytes(name)
    }

    /// The manifest `name`, or none when there is no such image.
    ///
    /// # Errors
    /// As [`Library::manifest_bytes`], and when it is of a version that is not known here.
    pub fn manifest(&self, name: Hash) -> Result<Option<Arc<Manifest>>, LibraryError> {
        let mut recent = lock(&self.recent);
        if let Some(at) = recent.iter().position(|(known, _)| *known == name) {
            let found = recent.remove(at).expect("just found there");
            let manifest = found.1.clone();
            recent.push_front(found);
            return Ok(Some(manifest));
        }
        let Some(manifest) = self.places.manifest(name)? else { return Ok(None) };
        let manifest = Arc::new(manifest);
        recent.push_front((name, manifest.clone()));
        recent.truncate(RECENT_MANIFESTS);
        Ok(Some(manifest))
    }

    /// Where the data chunk `hash` lies; none when no image has it. Chunks of zeros lie nowhere.
    ///
    /// # Errors
    /// When its pack is missing or cut off, or the manifests cannot be listed.
    pub fn chunk(&self, hash: Hash) -> Result<Option<StoredChunk>, LibraryError> {
        lock(&self.index).find(&self.places, hash)
    }

    /// How much room there is for more images.
    ///
    /// # Errors
    /// When it cannot be measured.
    pub fn free_space(&self) -> Result<FreeSpace, LibraryError> {
        FreeSpace::of(self.places.root(), self.limits.free_bytes)
    }

    /// Forgets images that are no longer there.
    pub(super) fn forget_removed(&self) -> Result<(), LibraryError> {
        lock(&self.recent).clear();
        lock(&self.index).refresh(&self.places)
    }
}

/// What is in a mutex of the library holds after every statement, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where things are in the library.
#[derive(Clone, Debug)]
pub(super) struct Places {
    root: PathBuf,
}

impl Places {
    pub(super) fn at(root: &Path) -> Self {
        Places { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    pub(super) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn pack(&self, name: Hash) -> PathBuf {
        self.packs().join(name.to_string())
    }

    pub(super) fn manifest_file(&self, name: Hash) -> PathBuf {
        self.manifests().join(name.to_string())
    }

    pub(super) fn manifest_bytes(&self, name: Hash) -> Result<Option<Vec<u8>>, LibraryError> {
        let path = self.manifest_file(name);
        match fs::read(&path) {
            Ok(bytes) if Hash::of(&bytes) == name => Ok(Some(bytes)),
            Ok(_) => Err(LibraryError::ManifestChanged { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LibraryError::io("read", &path)(error)),
        }
    }

    pub(super) fn manifest(&self, name: Hash) -> Result<Option<Manifest>, LibraryError> {
        let Some(bytes) = self.manifest_bytes(name)? else { return Ok(None) };
        let manifest = Manifest::decode(&bytes);
        let path = self.manifest_file(name);
        manifest.map(Some).map_err(|source| LibraryError::Manifest { path, source })
    }

    /// The hashes by which files in `directory` are named. Other files are not the library's.
    pub(super) fn names(directory: &Path) -> Result<Vec<Hash>, LibraryError> {
        let read = LibraryError::io("list", directory);
        let list = || -> io::Result<Vec<Hash>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(directory)? {
                names.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Hash>().ok()));
            }
            Ok(names)
        };
        list().map_err(read)
    }
}

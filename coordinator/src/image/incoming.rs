//! The place where one import works, and the way its results become part of the library.
//!
//! Two locks keep sweeps away from living imports, whatever process they are in and however it dies. The
//! import's own `incoming/<n>/lock` is held as long as it lives: a directory whose lock is free was left by a
//! dead one. The library's `lock` is held, shared, from before an image becomes visible until the caller has
//! recorded it; a sweep holds it exclusively, so no sweep meets an image that nobody has recorded yet.
//!
//! Results are durable in an order that a power cut cannot turn around: the pack, then the manifest.

use super::error::LibraryError;
use super::library::Places;
use super::lock::{FileLock, lock};
use piseduce_protocol::id::Hash;
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The directory of one import. Removed with everything in it when dropped.
#[derive(Debug)]
pub(super) struct Incoming {
    places: Places,
    path: PathBuf,
    _lock: FileLock,
}

impl Incoming {
    /// Creates a directory that no other import has.
    pub(super) fn create(places: &Places) -> Result<Self, LibraryError> {
        // Until its own lock is held, the directory looks like a dead import's.
        let _no_sweep = lock(&places.lock(), FlockOperation::LockShared)?;
        for number in 0_u64.. {
            let path = places.incoming().join(number.to_string());
            match fs::create_dir(&path) {
                Ok(()) => {
                    let lock = create_locked(&path.join("lock"))?;
                    return Ok(Incoming { places: places.clone(), path, _lock: lock });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(LibraryError::io("create directory", &path)(error)),
            }
        }
        unreachable!("a directory has fewer than 2^64 entries")
    }

    /// The path of a file of this import.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the finished pack file `pack` and the manifest part of the library, durably.
    pub(super) fn publish(
        self,
        pack: &Path,
        pack_name: Hash,
        manifest: &[u8],
    ) -> Result<Published, LibraryError> {
        sync(pack)?;
        let lock = lock(&self.places.lock(), FlockOperation::LockShared)?;
        // A pack that is already there is replaced by its equal: it may have lost its end since.
        move_to(pack, &self.places.pack(pack_name), &self.places.packs())?;
        let draft = self.file("manifest");
        fs::write(&draft, manifest).map_err(LibraryError::io("write", &draft))?;
        sync(&draft)?;
        let name = Hash::of(manifest);
        move_to(&draft, &self.places.manifest_file(name), &self.places.manifests())?;
        Ok(Published { name, _lock: lock })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // What cannot be removed now is swept later.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "an import left files behind");
        }
    }
}

/// An image that is part of the library and not yet recorded by the caller; no sweep begins until it is.
#[derive(Debug)]
pub(super) struct Published {
    /// The manifest's name.
    pub(super) name: Hash,
    _lock: FileLock,
}

fn create_locked(path: &Path) -> Result<FileLock, LibraryError> {
    File::create_new(path).map_err(LibraryError::io("create", path))?;
    lock(path, FlockOperation::NonBlockingLockExclusive)
}

fn move_to(from: &Path, to: &Path, directory: &Path) -> Result<(), LibraryError> {
    fs::rename(from, to).map_err(LibraryError::io("rename a finished file to", to))?;
    sync(directory)
}

/// Makes the contents of a file, or the names in a directory, durable.
pub(super) fn sync(path: &Path) -> Result<(), LibraryError> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(LibraryError::io("flush", path))
}

//! What was read from files, kept until the file changes: firmware asks some thirty questions a boot, and each one rests on a
//! description on disk.
//!
//! Nobody waits here for somebody else's disk: the lock is not held while a file is read.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many files are remembered; above it those that nobody uses are forgotten.
const FILES_MAX: usize = 256;

/// What tells one content of a path from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed_s: i64,
    changed_ns: i64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let about = fs::metadata(path).ok()?;
        Some(Stamp {
            inode: about.ino(),
            bytes: about.len(),
            changed_s: about.ctime(),
            changed_ns: about.ctime_nsec(),
        })
    }
}

/// Contents of files, by path.
#[derive(Debug)]
pub(super) struct ReadOnce<T> {
    known: Mutex<HashMap<PathBuf, (Stamp, Arc<T>)>>,
}

impl<T> Default for ReadOnce<T> {
    fn default() -> Self {
        ReadOnce { known: Mutex::default() }
    }
}

impl<T> ReadOnce<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, (Stamp, Arc<T>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `read` makes of the file at `path`, or made of it while it has not changed since.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn get<E>(&self, path: &Path, read: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let stamp = Stamp::of(path);
        if let Some((known, content)) = self.lock().get(path)
            && Some(*known) == stamp
        {
            return Ok(content.clone());
        }
        let content = Arc::new(read()?);
        let Some(stamp) = stamp else { return Ok(content) };
        let mut known = self.lock();
        if known.len() >= FILES_MAX {
            known.retain(|_, (_, content)| Arc::strong_count(content) > 1);
        }
        if known.len() < FILES_MAX {
            known.insert(path.to_owned(), (stamp, content.clone()));
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io;

    #[test]
    fn a_file_is_read_once_until_it_changes() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("list");
        let (cache, reads) = (ReadOnce::default(), Cell::new(0));
        let get = || {
            let read = || {
                reads.set(reads.get() + 1);
                fs::read_to_string(&path)
            };
            cache.get(&path, read).map(|text| text.to_string())
        };
        assert!(get().is_err(), "there is none yet");
        fs::write(&path, "one").unwrap();
        assert_eq!([get().unwrap(), get().unwrap()], ["one", "one"]);
        assert_eq!(reads.get(), 2);
        fs::write(scratch.path().join("new"), "two").unwrap();
        fs::rename(scratch.path().join("new"), &path).unwrap();
        assert_eq!(get().unwrap(), "two");
        fs::remove_file(&path).unwrap();
        assert!(get().is_err(), "what is gone is not remembered");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let scratch = tempfile::tempdir().unwrap();
        let cache = ReadOnce::default();
        for number in 0..FILES_MAX + 10 {
            let path = scratch.path().join(number.to_string());
            fs::write(&path, "").unwrap();
            cache.get(&path, || Ok::<_, io::Error>(number)).unwrap();
        }
        assert!(cache.lock().len() <= FILES_MAX);
    }
}

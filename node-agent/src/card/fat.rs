//! The files of a FAT partition, read and written in userspace: the kernel of a boot root may lack vfat.
//!
//! A FAT has no journal: a power cut inside an edit can break it. Whoever edits again after a cut copies
//! the partition's chunks again first.

use super::window::Window;
use super::{Card, CardError};
use fatfs::{FileSystem, FsOptions};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Files here are small texts; a larger one is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Directories below this depth are not looked into.
const DEPTH_MAX: usize = 4;
/// So many may wait to be looked into: a broken FAT may have circles.
const DIRECTORIES_MAX: usize = 256;

/// Why a FAT file system could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum FatError {
    /// The card failed below it.
    #[error("failed to use the boot partition")]
    Card(#[source] CardError),
    /// It is no FAT, broken, full, or the file cannot be used.
    #[error("failed to {action} {name} on the boot partition")]
    Use {
        /// What was tried.
        action: &'static str,
        /// The file, or what else.
        name: String,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}

impl FatError {
    /// Reading the open file `name` failed.
    pub fn reading(name: &str, error: io::Error) -> FatError {
        failed("read", name)(error)
    }
}

/// The open root directory of a FAT file system.
pub struct Fat<'w, 'c> {
    file_system: FileSystem<&'w mut Window<'c>>,
}

/// Opens the FAT of `bytes` bytes at `start` of `card`, lets `edit` work on it, and writes it back. The
/// card is not flushed.
///
/// # Errors
/// What `edit` returns, and [`FatError`] when opening or closing fails.
pub fn edit<T>(
    card: &dyn Card,
    start: u64,
    bytes: u64,
    edit: impl FnOnce(&Fat<'_, '_>) -> Result<T, FatError>,
) -> Result<T, FatError> {
    let mut window = Window::new(card, start, bytes);
    let edited = {
        let window = &mut window;
        // The library computes with what it reads; on a broken FAT it may panic where it should refuse.
        catch_unwind(AssertUnwindSafe(|| {
            let file_system = FileSystem::new(window, FsOptions::new()).map_err(failed("open", "the FAT"))?;
            let fat = Fat { file_system };
            let result = edit(&fat)?;
            fat.file_system.unmount().map_err(failed("close", "the FAT"))?;
            Ok(result)
        }))
    };
    let broken = || failed("use", "the FAT")(io::Error::other("it is broken"));
    let result = edited.unwrap_or_else(|_| Err(broken()))?;
    window.flush().map_err(failed("close", "the FAT"))?;
    Ok(result)
}

impl Fat<'_, '_> {
    /// The content of the file `name` in the root directory; none when there is no such file.
    ///
    /// # Errors
    /// [`FatError`], also when the file is larger than 1 MiB.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FatError> {
        let file = match self.file_system.root_dir().open_file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", name)(error)),
        };
        let mut content = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(failed("read", name))?;
        match content.len() as u64 > FILE_BYTES_MAX {
            true => Err(failed("read", name)(io::Error::other("it is larger than 1 MiB"))),
            false => Ok(Some(content)),
        }
    }

    /// The paths of all files that `is_wanted`, and their sizes; at most `count_max` and one.
    ///
    /// # Errors
    /// [`FatError`].
    pub fn files(
        &self,
        is_wanted: impl Fn(&str) -> bool,
        count_max: usize,
    ) -> Result<Vec<(String, u64)>, FatError> {
        let mut found = Vec::new();
        let mut directories = vec![(String::new(), self.file_system.root_dir())];
        while let Some((path, directory)) = directories.pop() {
            for entry in directory.iter() {
                let entry =
                    entry.map_err(failed("list", if path.is_empty() { "the root" } else { &path }))?;
                let name = entry.file_name();
                if name == "." || name == ".." {
                    continue;
                }
                let inner = if path.is_empty() { name } else { format!("{path}/{name}") };
                if entry.is_dir() && inner.matches('/').count() < DEPTH_MAX {
                    directories.push((inner, entry.to_dir()));
                } else if entry.is_file() && is_wanted(&inner) {
                    found.push((inner, entry.len()));
                }
                if found.len() > count_max || directories.len() > DIRECTORIES_MAX {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// The file `path`, to be read from its beginning.
    ///
    /// # Errors
    /// [`FatError`], also when there is none.
    pub fn reader(&self, path: &str) -> Result<impl Read, FatError> {
        self.file_system.root_dir().open_file(path).map_err(failed("open", path))
    }

    /// Removes the file `name` from the root directory; one that is not there is gone already.
    ///
    /// # Errors
    /// [`FatError`].
    pub fn remove(&self, name: &str) -> Result<(), FatError> {
        match self.file_system.root_dir().remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", name)(error)),
            _ => Ok(()),
        }
    }

    /// Makes `content` the content of the file `name` in the root directory; what is so already is not
    /// written.
    ///
    /// # Errors
    /// [`FatError`].
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), FatError> {
        if self.read(name)?.as_deref() == Some(content) {
            return Ok(());
        }
        let write = || {
            let mut file = self.file_system.root_dir().create_file(name)?;
            file.truncate()?;
            file.write_all(content)?;
            file.flush()
        };
        write().map_err(failed("write", name))
    }
}

/// Wraps what the file system said; an error of the card below is brought to light again.
fn failed(action: &'static str, name: &str) -> impl Fn(io::Error) -> FatError {
    let name = name.to_owned();
    move |source| match source.downcast::<CardError>() {
        Ok(error) => FatError::Card(error),
        Err(source) => FatError::Use { action, name: name.clone(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::memory::MemoryCard;

    const START: u64 = 1 << 20;
    const BYTES: u64 = 8 << 20;

    fn formatted() -> MemoryCard {
        let card = MemoryCard::new(10 << 20);
        let mut window = Window::new(&card, START, BYTES);
        let sectors = u32::try_from(BYTES / 512).unwrap();
        let options = fatfs::FormatVolumeOptions::new().total_sectors(sectors);
        fatfs::format_volume(&mut window, options).unwrap();
        window.flush().unwrap();
        card.flush().unwrap();
        card
    }

    #[test]
    fn files_are_created_replaced_and_read_back_by_another_opening() {
        let card = formatted();
        let long = vec![b'x'; 100_000];
        for content in [b"one".as_slice(), &long, b"three"] {
            edit(&card, START, BYTES, |fat| fat.write("cmdline.txt", content)).unwrap();
            let found = edit(&card, START, BYTES, |fat| fat.read("cmdline.txt")).unwrap();
            assert_eq!(found.as_deref(), Some(content));
        }
        let writes = card.writes();
        edit(&card, START, BYTES, |fat| fat.write("cmdline.txt", b"three")).unwrap();
        assert_eq!(card.writes(), writes, "what is there already is not written");
        assert!(edit(&card, START, BYTES, |fat| fat.read("no such file")).unwrap().is_none());
    }

    #[test]
    fn a_failing_card_and_a_missing_file_system_are_told_apart() {
        let card = formatted();
        card.fail(0, rustix::io::Errno::IO);
        let error = edit(&card, START, BYTES, |fat| fat.read("a")).unwrap_err();
        assert!(matches!(error, FatError::Card(CardError::Io { .. })), "{error:?}");
        let empty = MemoryCard::new(10 << 20);
        let error = edit(&empty, START, BYTES, |fat| fat.read("a")).unwrap_err();
        assert!(matches!(error, FatError::Use { .. }), "{error:?}");
    }

    #[test]
    fn garbage_instead_of_a_fat_is_an_error_and_no_crash() {
        let card = formatted();
        let sound = card.durable();
        let start = START as usize;
        for byte in 11..64 {
            for value in [0, 0x01, 0x7f, 0xff] {
                card.put(start, &sound[start..start + 512]);
                card.put(start + byte, &[value]);
                // Whether it still opens depends on the byte; it must only come back.
                let _ = edit(&card, START, BYTES, |fat| fat.write("a.txt", b"text"));
            }
        }
    }
}

//! What a disk can refuse, in words, and the ballast: a file that only takes up room. It is given up when the disk is
//! full, so that what must be written still is, and taken again when there is room.

use rusqlite::ErrorCode;
use rustix::fs::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The file of the ballast, beside the store.
pub const BALLAST: &str = "ballast";
/// How long it is: room for the write-ahead log and for some thousand deployments at 5 KB each.
pub const BALLAST_BYTES: u64 = 16 << 20;
/// What the index of a write-ahead log takes at least, and the log's beginning, in bytes.
const INDEX_BYTES: u64 = 64 << 10;

/// Why the disk takes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskTrouble {
    /// Nothing has room any more.
    #[error(
        "the file system of {directory} is full: {} KiB are free, {} KiB are needed",
        free >> 10, needed >> 10
    )]
    Full {
        /// Where the store is.
        directory: PathBuf,
        /// What is free there, in bytes.
        free: u64,
        /// What must be free before requests are taken again, in bytes.
        needed: u64,
    },
    /// It may only be read.
    #[error("the store {file} cannot be written: its file system is read-only")]
    ReadOnly {
        /// The store.
        file: PathBuf,
    },
    /// The disk fails, or somebody keeps the store locked.
    #[error("the store {file} cannot be written: {seen}")]
    Failed {
        /// The store.
        file: PathBuf,
        /// What the database saw.
        seen: String,
    },
}

impl DiskTrouble {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            DiskTrouble::Full { .. } => {
                "make room, for example by `piseduce environment remove NAME`; deployments that are under way go on, and \
                 requests are taken again as soon as there is room"
            }
            DiskTrouble::ReadOnly { .. } => {
                "see `dmesg` for why, check the file system and mount it writable; nothing is lost, and work goes on by itself"
            }
            DiskTrouble::Failed { .. } => {
                "see `dmesg` and check the disk; nothing is lost, and work goes on by itself when it can be written again"
            }
        }
    }

    /// The file system of the store `file` has no room.
    pub(super) fn full(file: &Path) -> DiskTrouble {
        let directory = directory_of(file);
        let free = free_bytes(directory).unwrap_or(0);
        DiskTrouble::Full { directory: directory.into(), free, needed: 2 * BALLAST_BYTES }
    }

    /// What the database's error says of the disk; none where it is not the disk's.
    pub(super) fn of(error: &rusqlite::Error, file: &Path) -> Option<DiskTrouble> {
        let found = error.sqlite_error()?;
        // A full disk is no error of writing only: the index of the write-ahead log is a file as well.
        let is_full = || free_bytes(directory_of(file)).is_ok_and(|free| free < INDEX_BYTES);
        let failed = || DiskTrouble::Failed { file: file.into(), seen: found.to_string() };
        match found.code {
            ErrorCode::DiskFull => Some(DiskTrouble::full(file)),
            ErrorCode::SystemIoFailure | ErrorCode::CannotOpen if is_full() => Some(DiskTrouble::full(file)),
            ErrorCode::ReadOnly => Some(DiskTrouble::ReadOnly { file: file.into() }),
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OutOfMemory => Some(failed()),
            _ => None,
        }
    }
}

fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(directory)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// The file that takes up room, as the one who owns it sees it.
pub(super) struct Ballast {
    file: PathBuf,
    is_held: bool,
}

impl Ballast {
    /// The ballast beside the store, as it was left.
    pub(super) fn beside(store: &Path) -> Ballast {
        let file = store.with_file_name(BALLAST);
        let is_held = file.metadata().is_ok_and(|it| it.len() == BALLAST_BYTES);
        Ballast { file, is_held }
    }

    fn directory(&self) -> &Path {
        directory_of(&self.file)
    }

    /// Gives the room up; whether there was any to give.
    pub(super) fn release(&mut self) -> bool {
        let was_held = std::mem::take(&mut self.is_held);
        match std::fs::remove_file(&self.file) {
            Ok(()) => {
                tracing::error!(
                    directory = %self.directory().display(),
                    "the disk is full: no new requests are taken, deployments that are under way go on; make room"
                );
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::error!(%error, "the ballast cannot be given up");
                was_held
            }
        }
    }

    /// Takes the room if there is enough and it is not held; whether it is held then.
    pub(super) fn take(&mut self) -> bool {
        if self.is_held {
            return true;
        }
        // As much again stays free, or the next request would only fill the disk once more.
        if free_bytes(self.directory()).is_ok_and(|free| free >= 2 * BALLAST_BYTES) {
            match self.fill(BALLAST_BYTES) {
                Ok(()) => self.is_held = true,
                Err(error) => {
                    tracing::warn!(%error, "no room can be kept back on the disk");
                    let _ = std::fs::remove_file(&self.file);
                }
            }
        }
        self.is_held
    }

    /// Takes what there is, if that is worth anything: at the end, so that the next start has room for its
    /// write-ahead log.
    pub(super) fn take_rest(&mut self) {
        let free = free_bytes(self.directory()).unwrap_or(0);
        if !self.is_held && free >= 2 * INDEX_BYTES {
            let _ = self.fill(free.min(BALLAST_BYTES));
        }
    }

    fn fill(&self, bytes: u64) -> io::Result<()> {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&self.file)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(&mut file, bytes),
            other => Ok(other?),
        }
    }
}

/// For file systems that cannot set room aside otherwise.
fn write_zeros(file: &mut File, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), bytes), file).map(drop)
}

/// Whether the ballast beside the store in `directory` is there; none before a coordinator has served.
pub fn ballast_is_held(directory: &Path) -> bool {
    directory.join(BALLAST).metadata().is_ok_and(|it| it.len() == BALLAST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ballast_takes_real_room_and_gives_it_up_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut ballast = Ballast::beside(&directory.path().join("store.sqlite"));
        assert!(ballast.take() && ballast_is_held(directory.path()));
        let blocks =
            std::os::unix::fs::MetadataExt::blocks(&directory.path().join(BALLAST).metadata().unwrap());
        assert!(blocks * 512 >= BALLAST_BYTES, "{blocks} blocks are no room");
        assert!(
            Ballast::beside(&directory.path().join("store.sqlite")).is_held,
            "it is known after a restart"
        );
        assert!(ballast.release() && !ballast_is_held(directory.path()));
        assert!(!ballast.release());
    }
}

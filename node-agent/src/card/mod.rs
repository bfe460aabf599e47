//! A card: bytes that are read, written and flushed at offsets, past every cache.
//!
//! The real one is `device.rs`, a faulty fake for tests is `memory.rs`. On top of a card lie its
//! partitions: as kernel devices (`partition.rs`, `mount.rs`) and as byte ranges (`window.rs`, `fat.rs`).
//! Nothing here knows images or deployments.

pub mod activity;
pub mod device;
pub mod ext4;
pub mod fat;
mod ioctl;
#[cfg(test)]
pub mod memory;
pub mod mount;
pub mod partition;
pub mod sector;
pub mod window;
pub mod wipe;

use piseduce_protocol::report::CardInfo;
use std::fmt;
use std::fs;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

/// Offsets and lengths of reads and writes are multiples of this; so are image lengths.
pub const SECTOR_BYTES: usize = 512;

/// Buffers begin at a multiple of this, which is enough for O_DIRECT on every device.
const BUFFER_ALIGNMENT: usize = 4096;

/// A block device, or something that behaves like one.
///
/// Buffers are [`Buffer`]s or whole sectors of one; offsets are multiples of [`SECTOR_BYTES`].
pub trait Card: Sync {
    /// What messages call it.
    fn name(&self) -> &str;

    /// Its size in bytes.
    fn bytes(&self) -> u64;

    /// Fills `buffer` with what is at `offset`.
    ///
    /// # Errors
    /// [`CardError::Io`].
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), CardError>;

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// [`CardError::Io`].
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), CardError>;

    /// Makes everything that was written safe against a power cut.
    ///
    /// # Errors
    /// [`CardError::Io`].
    fn flush(&self) -> Result<(), CardError>;

    /// Makes sure that what is read next comes from the card and not from memory.
    ///
    /// # Errors
    /// [`CardError::Io`].
    fn drop_cache(&self) -> Result<(), CardError>;

    /// Tells the card that `bytes` at `offset` need not be kept; returns whether it can be told.
    ///
    /// # Errors
    /// [`CardError::Io`].
    fn discard(&self, offset: u64, bytes: u64) -> Result<bool, CardError>;
}

/// What was done when a card failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Flushing.
    Flush,
    /// Discarding.
    Discard,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Flush => "flush",
            Access::Discard => "discard",
        })
    }
}

/// What can be wrong with a card.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// There is no such block device, or no medium in it.
    #[error("there is no card at {0}")]
    Missing(PathBuf),
    /// Somebody else uses it, or a partition of it is mounted.
    #[error("{0} is in use by another program or mounted")]
    Busy(PathBuf),
    /// It is write protected.
    #[error("{0} is read-only")]
    ReadOnly(PathBuf),
    /// Opening it failed for another reason.
    #[error("failed to open {path}")]
    Open {
        /// The device.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Reading, writing or flushing failed.
    #[error("failed to {access} {card} at {offset} of {bytes} bytes")]
    Io {
        /// What was tried.
        access: Access,
        /// The card.
        card: String,
        /// The first byte of the request.
        offset: u64,
        /// The size of the card.
        bytes: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not the card any more that was opened.
    #[error("{card} was taken out or exchanged: it had {bytes} bytes and has {left}")]
    Gone {
        /// The card.
        card: String,
        /// Its size when it was opened.
        bytes: u64,
        /// Its size now.
        left: u64,
    },
    /// What was written is not there, although no error was reported.
    #[error("{card} does not keep what is written to it: byte {offset} reads back wrong")]
    Forgets {
        /// The card.
        card: String,
        /// Where.
        offset: u64,
    },
    /// The kernel did not change its view of the partitions.
    #[error("failed to {action} partition {number} of {card}")]
    Partition {
        /// What was tried.
        action: &'static str,
        /// The partition.
        number: u8,
        /// The card.
        card: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Mounting, unmounting or preparing a place for it failed.
    #[error("failed to {action} {path}")]
    Mount {
        /// What was tried.
        action: &'static str,
        /// The device or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Memory that devices can read into and write from without copying.
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// A buffer of `length` zero bytes.
    pub fn new(length: usize) -> Self {
        // A vector that never grows stays where it is; inside it lies an aligned range of the length.
        let bytes = vec![0; length + BUFFER_ALIGNMENT];
        let start = bytes.as_ptr().align_offset(BUFFER_ALIGNMENT);
        Buffer { bytes, start, length }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("length", &self.length).finish_non_exhaustive()
    }
}

/// The card at `path` as the hello shows it; none when there is none. Its identification is read below `root`, which is `/` on a
/// node.
pub fn describe(root: &Path, path: &Path) -> Option<CardInfo> {
    let bytes = bytes(path)?;
    let name = path.file_name().unwrap_or_default();
    let cid = fs::read_to_string(root.join("sys/class/block").join(name).join("device/cid"))
        .ok()
        .map(|text| text.trim().to_owned());
    Some(CardInfo { device: path.display().to_string(), bytes, cid })
}

/// The size of the card at `path` in bytes; none when there is none.
pub fn bytes(path: &Path) -> Option<u64> {
    let sysfs = activity::sysfs(path)?;
    let sectors: u64 = fs::read_to_string(sysfs.join("size")).ok()?.trim().parse().ok()?;
    (sectors > 0).then_some(sectors * SECTOR_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zero() {
        for length in [512, 4096, 1 << 20] {
            let buffer = Buffer::new(length);
            assert_eq!(buffer.as_ptr().align_offset(BUFFER_ALIGNMENT), 0);
            assert!(buffer.len() == length && buffer.iter().all(|byte| *byte == 0));
        }
    }
}

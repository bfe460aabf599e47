//! The bytes of one partition, for the readers of file systems in `fat.rs` and `ext4.rs`.
//!
//! Images come from anywhere, so every read is checked against the partition's end and paid from a budget:
//! structures that point at each other in circles end in an error instead of never.

use super::raw::Raw;
use std::cell::Cell;
use std::io;

/// How much is read of one partition to find out what is in it. A Debian of 1.7 GB was seen to need 0.2 MB.
const READ_BYTES_MAX: u64 = 256 << 20;

/// What one read costs at least, so that tiny reads end, too.
const READ_COST_BYTES: u64 = 512;

/// A partition that is read.
#[derive(Debug)]
pub(super) struct Volume<'a> {
    raw: &'a Raw,
    start: u64,
    bytes: u64,
    budget: Cell<u64>,
}

/// Why a file system cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    /// The image's file cannot be read.
    #[error("its byte {at} cannot be read: {error}")]
    Read { at: u64, error: io::Error },
    /// Something lies behind the partition's end.
    #[error("it refers to byte {at}, which lies behind its end")]
    Beyond { at: u64 },
    /// More was read than any sound file system needs.
    #[error("its structures run in circles: more than {READ_BYTES_MAX} bytes were read")]
    Circles,
    /// A structure contradicts itself.
    #[error("{0}")]
    Damaged(&'static str),
    /// There is no reader for it.
    #[error("its file system is not known")]
    Unknown,
    /// Something that this reader does not know.
    #[error("it uses {0}, which is not supported")]
    Unsupported(&'static str),
}

impl<'a> Volume<'a> {
    /// The `bytes` of `raw` from `start` on.
    pub(super) fn new(raw: &'a Raw, start: u64, bytes: u64) -> Self {
        Volume { raw, start, bytes, budget: Cell::new(READ_BYTES_MAX) }
    }

    /// Its length.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `into` with the bytes from `at` on.
    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> Result<(), VolumeError> {
        let bytes = into.len() as u64;
        if at.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(VolumeError::Beyond { at });
        }
        let left = self.budget.get().checked_sub(bytes.max(READ_COST_BYTES)).ok_or(VolumeError::Circles)?;
        self.budget.set(left);
        self.raw.read(self.start + at, into).map_err(|error| VolumeError::Read { at, error })
    }

    /// The `N` bytes from `at` on.
    pub(super) fn array<const N: usize>(&self, at: u64) -> Result<[u8; N], VolumeError> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes).map(|()| bytes)
    }
}

/// The little-endian number at `at` of a structure.
///
/// # Panics
/// When the structure ends before it: callers know how long their structures are.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// As [`u16_at`].
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// A label as text: what is before the padding, or none when that is nothing.
pub(super) fn label(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text: String = String::from_utf8_lossy(&bytes[..end]).chars().filter(|c| !c.is_control()).collect();
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(bytes: u64) -> Raw {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        Raw::new(file).unwrap()
    }

    #[test]
    fn reads_end_at_the_partition_and_at_the_budget() {
        let raw = raw(4096);
        let volume = Volume::new(&raw, 1024, 1024);
        assert!(volume.array::<512>(512).is_ok());
        assert!(matches!(volume.array::<512>(513), Err(VolumeError::Beyond { at: 513 })));
        assert!(matches!(volume.array::<1>(u64::MAX), Err(VolumeError::Beyond { .. })));
        let reads = (0..).find(|_| volume.array::<1>(0).is_err());
        assert_eq!(reads, Some(READ_BYTES_MAX / READ_COST_BYTES - 1));
        assert!(matches!(volume.array::<1>(0), Err(VolumeError::Circles)));
    }

    #[test]
    fn a_label_ends_at_its_padding() {
        assert_eq!(label(b"rootfs\0\0garbage"), Some("rootfs".into()));
        assert_eq!(label(b"BOOT FS    "), Some("BOOT FS".into()));
        assert_eq!(label(b"a\x1b[2Jb\0"), Some("a[2Jb".into()));
        assert_eq!(label(b"           "), None);
    }
}

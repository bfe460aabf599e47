//! `resize_partition` plans the grow of the root file system, `wait_resizing` performs it.
//!
//! resize2fs works on the unmounted file system and cannot be taken up where it was cut off: a repeated
//! `wait_resizing` repairs first, see `filesystem.rs`, and grows again.

use super::Step;
use super::cause::{StepError, failed};
use super::filesystem::tool_failed;
use super::growth::Growth;
use crate::card::ext4::{self, SUPERBLOCK_AT, SUPERBLOCK_BYTES};
use crate::card::{Buffer, Card as _};
use crate::tool::RESIZE2FS;
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::manifest::Partition;
use piseduce_protocol::table::SECTOR_BYTES;

impl Step<'_> {
    pub(super) fn resize_partition(&self) -> Result<String, StepError> {
        let (root, bytes) = match self.to_grow() {
            Ok(to_grow) => to_grow,
            Err(why) => return Ok(format!("not grown: {why}")),
        };
        self.show_partitions()?;
        let now = self.file_system_bytes(root)?;
        match now > bytes {
            false => Ok(format!("the root file system has {now} bytes and grows into {bytes}")),
            true => {
                let seen = format!("the root file system has {now} bytes, its partition {bytes}");
                Err(failed(CauseKind::FilesystemBroken, seen))
            }
        }
    }

    pub(super) fn wait_resizing(&self) -> Result<String, StepError> {
        let (root, bytes) = match self.to_grow() {
            Ok(to_grow) => to_grow,
            Err(why) => return Ok(format!("not grown: {why}")),
        };
        let device = self.root_device(root)?;
        let before = self.file_system_bytes(root)?;
        // resize2fs refuses a file system that was mounted after its last full check.
        self.check_file_system(&device.path)?;
        let finished = self.run(RESIZE2FS, &[device.path.as_os_str()])?;
        if finished.code != 0 {
            return Err(tool_failed(RESIZE2FS, &finished));
        }
        self.card.flush()?;
        let after = self.file_system_bytes(root)?;
        match (before..=bytes).contains(&after) {
            true => Ok(format!("the root file system grew from {before} to {after} bytes")),
            false => {
                let seen = format!("resize2fs made the root file system {after} bytes long, not {bytes}");
                Err(failed(CauseKind::ToolFailed, seen))
            }
        }
    }

    /// The root partition and the bytes that it has in the end, or why nothing grows.
    fn to_grow(&self) -> Result<(&Partition, u64), &str> {
        match (&self.growth, self.ext4_root()) {
            (Growth::Entry(entry), Some(root)) => Ok((root, entry.sectors * SECTOR_BYTES)),
            (Growth::Nothing(why), _) => Err(why),
            (Growth::Entry(_), None) => unreachable!("only an ext4 root gets a new entry"),
        }
    }

    fn file_system_bytes(&self, root: &Partition) -> Result<u64, StepError> {
        self.card.drop_cache()?;
        let mut superblock = Buffer::new(SUPERBLOCK_BYTES);
        self.card.read_at(&mut superblock, root.start + SUPERBLOCK_AT)?;
        let superblock: &[u8; SUPERBLOCK_BYTES] = superblock[..].try_into().expect("a buffer of that length");
        let none = || failed(CauseKind::FilesystemBroken, "the root has no ext4 superblock");
        ext4::file_system_bytes(superblock).ok_or_else(none)
    }
}

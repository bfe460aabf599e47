//! Reads files of an ext2, ext3 or ext4 file system: paths, symbolic links, contents. Never writes.
//!
//! Written for bytes from anywhere (see `volume.rs`): no length in the image decides how much memory or time
//! is used. (The `ext4-view` crate ends the process on a link that claims 8 TiB.) A journal is not replayed, as
//! with the mount option `noload`; checksums are not compared. Next: `ext4/blocks.rs`, which finds the blocks
//! of one inode, and `ext4/free.rs`, which finds those of none. Source: Documentation/filesystems/ext4 of Linux.

mod blocks;
mod free;
#[cfg(test)]
mod tests;

use super::family::{Kind, Tree};
use super::volume::{Volume, VolumeError, label, u16_at, u32_at};
use std::ops::Range;

/// The longest directory that is searched.
const DIRECTORY_BYTES_MAX: u64 = 64 << 20;
/// The longest target of a symbolic link (`PATH_MAX`).
const TARGET_BYTES_MAX: usize = 4096;
/// How many symbolic links a path may lead over, as in Linux.
const LINKS_MAX: u32 = 40;
/// Targets shorter than this lie in the inode.
const FAST_TARGET_BYTES: u64 = 60;

const SUPERBLOCK_AT: u64 = 1024;
const MAGIC: u16 = 0xef53;
const ROOT_INODE: u32 = 2;

const WIDE_DESCRIPTORS: u32 = 0x80;
/// Features without which blocks or directories are found otherwise than here.
const UNSUPPORTED: [(u32, &str); 4] =
    [(0x1, "compression"), (0x8, "an external journal"), (0x10, "meta block groups"), (0x1000, "dirdata")];

const EXTENTS: u32 = 0x0008_0000;
const ENCRYPTED: u32 = 0x800;
const INLINE_DATA: u32 = 0x1000_0000;

const KIND_MASK: u16 = 0xf000;
const DIRECTORY: u16 = 0x4000;
const REGULAR: u16 = 0x8000;
const LINK: u16 = 0xa000;

/// An ext2, ext3 or ext4 file system.
#[derive(Debug)]
pub(super) struct Ext4<'a> {
    volume: &'a Volume<'a>,
    block_bytes: u64,
    label: Option<String>,
    uuid: [u8; 16],
    features: u32,
    descriptors_at: u64,
    descriptor_bytes: u64,
    inode_bytes: u64,
    inodes: u32,
    inodes_per_group: u32,
}

/// One file, directory or link.
#[derive(Debug)]
struct Inode {
    mode: u16,
    flags: u32,
    bytes: u64,
    /// Where the blocks are, or a short link's target.
    map: [u8; 60],
}

impl Inode {
    fn is(&self, kind: u16) -> bool {
        self.mode & KIND_MASK == kind
    }

    /// Whether `map` is a tree of extents and not a list of blocks.
    fn has_extents(&self) -> bool {
        self.flags & EXTENTS != 0
    }
}

impl<'a> Ext4<'a> {
    /// The file system on `volume`, if its superblock describes one.
    pub(super) fn recognise(volume: &'a Volume<'a>) -> Option<Self> {
        let superblock: [u8; 1024] = volume.array(SUPERBLOCK_AT).ok()?;
        let scale = u32_at(&superblock, 0x18);
        let inodes_per_group = u32_at(&superblock, 0x28);
        // Revision 0 has inodes of a fixed length.
        let inode_bytes = if u32_at(&superblock, 0x4c) == 0 { 128 } else { u16_at(&superblock, 0x58) };
        if u16_at(&superblock, 0x38) != MAGIC || scale > 6 || inodes_per_group == 0 || inode_bytes < 128 {
            return None;
        }
        let block_bytes = 1024 << scale;
        let features = u32_at(&superblock, 0x60);
        let descriptor_bytes = match features & WIDE_DESCRIPTORS {
            0 => 32,
            _ => u64::from(u16_at(&superblock, 0xfe)).max(64),
        };
        Some(Ext4 {
            volume,
            block_bytes,
            label: label(&superblock[0x78..0x88]),
            uuid: superblock[0x68..0x78].try_into().expect("sixteen bytes"),
            features,
            // In the block behind the one that holds the superblock.
            descriptors_at: (SUPERBLOCK_AT / block_bytes + 1) * block_bytes,
            descriptor_bytes,
            inode_bytes: u64::from(inode_bytes),
            inodes: u32_at(&superblock, 0),
            inodes_per_group,
        })
    }

    /// Its label.
    pub(super) fn label(&self) -> Option<String> {
        self.label.clone()
    }

    /// Its UUID as blkid prints it.
    pub(super) fn uuid(&self) -> String {
        let digits =
            |range: Range<usize>| self.uuid[range].iter().map(|byte| format!("{byte:02x}")).collect();
        let groups: [String; 5] = [0..4, 4..6, 6..8, 8..10, 10..16].map(digits);
        groups.join("-")
    }

    /// What `path` leads to, links followed as by a system whose root this is.
    fn find(&self, path: &str) -> Result<Option<Inode>, VolumeError> {
        if let Some((_, feature)) = UNSUPPORTED.iter().find(|(bit, _)| self.features & bit != 0) {
            return Err(VolumeError::Unsupported(feature));
        }
        let root = || self.inode(ROOT_INODE);
        let mut links = 0;
        let mut here = root()?;
        let mut ahead: Vec<Vec<u8>> = components(path.as_bytes());
        while let Some(name) = ahead.pop() {
            if !here.is(DIRECTORY) {
                return Ok(None);
            }
            let Some(number) = self.entry(&here, &name)? else { return Ok(None) };
            let inode = self.inode(number)?;
            if !inode.is(LINK) {
                here = inode;
                continue;
            }
            links += 1;
            let target = self.target(&inode)?;
            if links > LINKS_MAX {
                return Ok(None);
            }
            if target.starts_with(b"/") {
                here = root()?;
            }
            ahead.extend(components(&target));
        }
        Ok(Some(here))
    }

    fn inode(&self, number: u32) -> Result<Inode, VolumeError> {
        if number == 0 || number > self.inodes {
            return Err(VolumeError::Damaged("a directory has an entry without file"));
        }
        let (group, index) = ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        let descriptor_at = self.descriptors_at + u64::from(group) * self.descriptor_bytes;
        let low: [u8; 32] = self.volume.array(descriptor_at)?;
        let high = match self.features & WIDE_DESCRIPTORS {
            0 => [0; 4],
            _ => self.volume.array(descriptor_at + 0x28)?,
        };
        let table = u64::from(u32_at(&low, 8)) | u64::from(u32::from_le_bytes(high)) << 32;
        let at = self.block_at(table)?.saturating_add(u64::from(index) * self.inode_bytes);
        let raw: [u8; 128] = self.volume.array(at)?;
        let bytes = u64::from(u32_at(&raw, 4)) | u64::from(u32_at(&raw, 0x6c)) << 32;
        let map = raw[0x28..0x64].try_into().expect("sixty bytes");
        Ok(Inode { mode: u16_at(&raw, 0), flags: u32_at(&raw, 0x20), bytes, map })
    }

    /// The inode number of `name` in `directory`. Index blocks of large directories look like blocks of
    /// unused entries, so searching all blocks in order finds everything.
    fn entry(&self, directory: &Inode, name: &[u8]) -> Result<Option<u32>, VolumeError> {
        if directory.bytes > DIRECTORY_BYTES_MAX {
            return Err(VolumeError::Damaged("a directory is longer than 64 MiB"));
        }
        self.readable(directory)?;
        let mut block = vec![0; usize::try_from(self.block_bytes).expect("at most 64 KiB")];
        for index in 0..directory.bytes.div_ceil(self.block_bytes) {
            self.read_block(directory, index, &mut block)?;
            let mut rest = block.as_slice();
            while rest.len() >= 8 {
                let length = usize::from(u16_at(rest, 4));
                if length < 8 || length > rest.len() {
                    return Err(VolumeError::Damaged("a directory has an entry of impossible length"));
                }
                let (entry, behind) = rest.split_at(length);
                let found = entry.get(8..8 + usize::from(entry[6]));
                let number = u32_at(entry, 0);
                if number != 0 && found == Some(name) {
                    return Ok(Some(number));
                }
                rest = behind;
            }
        }
        Ok(None)
    }

    fn target(&self, link: &Inode) -> Result<Vec<u8>, VolumeError> {
        if link.bytes < FAST_TARGET_BYTES {
            let bytes = usize::try_from(link.bytes).expect("less than sixty");
            return Ok(link.map[..bytes].to_vec());
        }
        self.contents(link, TARGET_BYTES_MAX)
    }

    /// The first `bytes_max` bytes of a file.
    fn contents(&self, file: &Inode, bytes_max: usize) -> Result<Vec<u8>, VolumeError> {
        self.readable(file)?;
        let bytes = usize::try_from(file.bytes).unwrap_or(usize::MAX).min(bytes_max);
        let mut contents = vec![0; bytes];
        let block_bytes = usize::try_from(self.block_bytes).expect("at most 64 KiB");
        for (index, part) in (0..).zip(contents.chunks_mut(block_bytes)) {
            self.read_block(file, index, part)?;
        }
        Ok(contents)
    }

    fn readable(&self, inode: &Inode) -> Result<(), VolumeError> {
        match inode.flags {
            flags if flags & ENCRYPTED != 0 => Err(VolumeError::Unsupported("encryption")),
            flags if flags & INLINE_DATA != 0 => Err(VolumeError::Unsupported("inline data")),
            _ => Ok(()),
        }
    }

    /// Where block `number` begins.
    fn block_at(&self, number: u64) -> Result<u64, VolumeError> {
        number.checked_mul(self.block_bytes).ok_or(VolumeError::Beyond { at: u64::MAX })
    }
}

impl Tree for Ext4<'_> {
    fn kind(&self, path: &str) -> Result<Option<Kind>, VolumeError> {
        let kind = |inode: Inode| match inode.mode & KIND_MASK {
            DIRECTORY => Some(Kind::Directory),
            REGULAR => Some(Kind::File),
            _ => None,
        };
        Ok(self.find(path)?.and_then(kind))
    }

    fn read(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, VolumeError> {
        match self.find(path)? {
            Some(file) if file.is(REGULAR) => self.contents(&file, bytes_max).map(Some),
            _ => Ok(None),
        }
    }
}

/// The names in a path, the last one first; `.` leads nowhere and is left out.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.rev().map(<[u8]>::to_vec).collect()
}

//! Finds the blocks of one ext2, ext3 or ext4 inode: a tree of extents, or lists of lists of blocks.
//!
//! Every step down a tree is one read, and trees end at a fixed depth, so looking up a block ends.
//! Source: Documentation/filesystems/ext4/ifork.rst of Linux.

use super::{Ext4, Inode};
use crate::image::volume::{VolumeError, u16_at, u32_at};

const EXTENT_MAGIC: u16 = 0xf30a;
const EXTENT_BYTES: usize = 12;
const EXTENT_DEPTH_MAX: u16 = 5;
/// Extents longer than this are allocated but were never written, and read as zeros.
const EXTENT_BLOCKS_MAX: u16 = 32_768;
const DIRECT_BLOCKS: u64 = 12;

impl Ext4<'_> {
    /// Fills `into`, one block or its first part, with block `index` of `inode`; zeros where it has none.
    pub(super) fn read_block(&self, inode: &Inode, index: u64, into: &mut [u8]) -> Result<(), VolumeError> {
        let found =
            if inode.has_extents() { self.by_extent(inode, index)? } else { self.by_list(inode, index)? };
        match found {
            Some(number) => self.volume.read(self.block_at(number)?, into),
            None => {
                into.fill(0);
                Ok(())
            }
        }
    }

    fn by_extent(&self, inode: &Inode, index: u64) -> Result<Option<u64>, VolumeError> {
        let damaged = || VolumeError::Damaged("a tree of extents is damaged");
        let mut node = inode.map.to_vec();
        let mut above = EXTENT_DEPTH_MAX + 1;
        loop {
            let depth = u16_at(&node, 6);
            if u16_at(&node, 0) != EXTENT_MAGIC || depth >= above {
                return Err(damaged());
            }
            above = depth;
            let entries = node[EXTENT_BYTES..].chunks_exact(EXTENT_BYTES).take(usize::from(u16_at(&node, 2)));
            // Entries are in order: the last one that does not begin behind the block covers it, if any does.
            let Some(entry) = entries.take_while(|entry| u64::from(u32_at(entry, 0)) <= index).last() else {
                return Ok(None);
            };
            if depth == 0 {
                let offset = index - u64::from(u32_at(entry, 0));
                let first = u64::from(u32_at(entry, 8)) | u64::from(u16_at(entry, 6)) << 32;
                let blocks = u16_at(entry, 4);
                let written = blocks <= EXTENT_BLOCKS_MAX && offset < u64::from(blocks);
                return Ok(written.then_some(first + offset));
            }
            let child = u64::from(u32_at(entry, 4)) | u64::from(u16_at(entry, 8)) << 32;
            node = vec![0; usize::try_from(self.block_bytes).expect("at most 64 KiB")];
            self.volume.read(self.block_at(child)?, &mut node)?;
        }
    }

    fn by_list(&self, inode: &Inode, index: u64) -> Result<Option<u64>, VolumeError> {
        let pointer = |at: u64| u64::from(u32_at(&inode.map, usize::try_from(at * 4).expect("at most 56")));
        let some = |number: u64| (number != 0).then_some(number);
        if index < DIRECT_BLOCKS {
            return Ok(some(pointer(index)));
        }
        let per_block = self.block_bytes / 4;
        let (mut rest, mut span) = (index - DIRECT_BLOCKS, per_block);
        for level in 0..3 {
            if rest >= span {
                rest -= span;
                span *= per_block;
                continue;
            }
            let mut number = pointer(DIRECT_BLOCKS + level);
            for _ in 0..=level {
                span /= per_block;
                if number == 0 {
                    return Ok(None);
                }
                let at = self.block_at(number)? + rest / span * 4;
                number = u64::from(u32::from_le_bytes(self.volume.array(at)?));
                rest %= span;
            }
            return Ok(some(number));
        }
        Err(VolumeError::Damaged("a file is longer than lists of blocks reach"))
    }
}

//! Which blocks of an image hold nothing: those that a file system says are free.
//!
//! They are neither stored nor sent nor written; old content of free pieces that are smaller is zeroed at least.
//! Everything else belongs to the image: what lies outside partitions or in a file system that is not known, and
//! all of a file system that leaves a doubt about its free space, of which the operator is told. Next:
//! `ext4/free.rs` and `fat/free.rs`, which ask file systems.

use super::ext4::Ext4;
use super::fat::Fat;
use super::raw::Raw;
use super::volume::{Volume, VolumeError};
use piseduce_protocol::manifest::{FileSystem, MASK_BLOCK_BYTES, Partition};
use piseduce_protocol::table::SECTOR_BYTES;
use std::collections::BTreeMap;
use std::ops::Range;

/// The unit of a manifest's masks, in bytes.
const BLOCK_BYTES: u64 = MASK_BLOCK_BYTES as u64;
/// In the free parts of so many blocks that are in use otherwise, old content is zeroed; in more it stays. As much
/// as this is there only where clusters are small and files in many pieces.
const CRUMBS_MAX: usize = 1 << 20;

/// The free blocks of an image. One of 2 TiB takes 64 MiB.
#[derive(Debug)]
pub(super) struct Extents {
    /// One bit a block, from the lowest of the first byte on; set for free ones.
    free: Vec<u8>,
    /// Of blocks that are partly free, by number: one bit a sector, set for free ones.
    crumbs: BTreeMap<u64, u8>,
}

/// Which blocks of a range are allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Allocated {
    Everything,
    Nothing,
    /// As in [`piseduce_protocol::manifest::Chunk::mask`].
    Blocks(Vec<u8>),
}

impl Extents {
    /// The free blocks of `raw`, and a sentence on each partition whose free blocks are not known.
    pub(super) fn of(raw: &Raw, partitions: &[Partition]) -> (Self, Vec<String>) {
        let blocks = usize::try_from(raw.bytes() / BLOCK_BYTES).expect("images have at most 2 TiB");
        let mut extents = Extents { free: vec![0; blocks.div_ceil(8)], crumbs: BTreeMap::new() };
        let mut remarks = Vec::new();
        for partition in partitions {
            if let Err(doubt) = extents.look_into(raw, partition) {
                extents.mark_used(partition.start..partition.start + partition.bytes);
                let number = partition.number;
                remarks.push(format!("partition {number} is stored with its free space: {doubt}"));
            }
        }
        (extents, remarks)
    }

    fn look_into(&mut self, raw: &Raw, partition: &Partition) -> Result<(), VolumeError> {
        let volume = Volume::new(raw, partition.start, partition.bytes);
        let mut space = Space { extents: self, start: partition.start, run: 0..0 };
        match partition.file_system {
            FileSystem::Ext4 => Ext4::recognise(&volume).map_or(Ok(()), |ext4| ext4.free_space(&mut space)),
            FileSystem::Fat => Fat::recognise(&volume).map_or(Ok(()), |fat| fat.free_space(&mut space)),
            FileSystem::Unknown => Err(VolumeError::Unknown),
        }
    }

    /// What is allocated of the `bytes` from `at` on, which is the beginning of eight blocks.
    pub(super) fn within(&self, at: u64, bytes: u64) -> Allocated {
        let index = |at: u64| usize::try_from(at).expect("images have at most 2 TiB");
        let blocks = index(bytes.div_ceil(BLOCK_BYTES));
        let first = index(at / BLOCK_BYTES / 8).min(self.free.len());
        let end = (first + blocks.div_ceil(8)).min(self.free.len());
        let mut mask: Vec<u8> = self.free[first..end].iter().map(|free| !free).collect();
        mask.resize(blocks.div_ceil(8), !0);
        // Bits behind the last block stand for nothing.
        if let (Some(last), 1..) = (mask.last_mut(), blocks % 8) {
            *last &= (1 << (blocks % 8)) - 1;
        }
        match mask.iter().map(|byte| byte.count_ones() as usize).sum::<usize>() {
            0 => Allocated::Nothing,
            count if count == blocks => Allocated::Everything,
            _ => Allocated::Blocks(mask),
        }
    }

    /// Zeroes what is free of `bytes`, which begin at byte `at` of the image.
    pub(super) fn clear(&self, at: u64, bytes: &mut [u8]) {
        let first = at / BLOCK_BYTES;
        for (number, block) in (first..).zip(bytes.chunks_mut(BLOCK_BYTES as usize)) {
            if self.is_free(number) {
                block.fill(0);
            }
        }
        let end = first + (bytes.len() as u64).div_ceil(BLOCK_BYTES);
        for (block, free) in self.crumbs.range(first..end) {
            for sector in (0..8).filter(|sector| free >> sector & 1 == 1) {
                let from = (block - first) * BLOCK_BYTES + sector * SECTOR_BYTES;
                let from = usize::try_from(from).expect("less than the length of a slice");
                bytes[from..from + SECTOR_BYTES as usize].fill(0);
            }
        }
    }

    fn is_free(&self, block: u64) -> bool {
        let byte = usize::try_from(block / 8).ok().and_then(|index| self.free.get(index));
        byte.is_some_and(|byte| byte >> (block % 8) & 1 == 1)
    }

    fn mark_free(&mut self, bytes: &Range<u64>) {
        for block in bytes.start.div_ceil(BLOCK_BYTES)..bytes.end / BLOCK_BYTES {
            self.set(block, true);
        }
        // What is left at both ends, perhaps of one and the same block.
        let ends =
            [bytes.start, bytes.end].map(|at| (!at.is_multiple_of(BLOCK_BYTES)).then_some(at / BLOCK_BYTES));
        for block in ends.into_iter().flatten() {
            let free = sectors(block, |sector| bytes.start <= sector.start && sector.end <= bytes.end);
            if self.crumbs.len() < CRUMBS_MAX && free != 0 {
                *self.crumbs.entry(block).or_default() |= free;
            }
        }
    }

    fn mark_used(&mut self, bytes: Range<u64>) {
        let blocks = bytes.start / BLOCK_BYTES..bytes.end.div_ceil(BLOCK_BYTES);
        for block in blocks.clone() {
            self.set(block, false);
        }
        for (block, free) in self.crumbs.range_mut(blocks) {
            *free &= !sectors(*block, |sector| sector.start < bytes.end && bytes.start < sector.end);
        }
    }

    /// The last, incomplete block of an image has no bit: it is allocated.
    fn set(&mut self, block: u64, free: bool) {
        if let Some(byte) = usize::try_from(block / 8).ok().and_then(|index| self.free.get_mut(index)) {
            let bit = 1 << (block % 8);
            *byte = if free { *byte | bit } else { *byte & !bit };
        }
    }
}

/// One bit for every sector of the block that `is` so.
fn sectors(block: u64, is: impl Fn(Range<u64>) -> bool) -> u8 {
    let at = |sector: u64| block * BLOCK_BYTES + sector * SECTOR_BYTES;
    (0..8).filter(|sector| is(at(*sector)..at(sector + 1))).map(|sector| 1 << sector).sum()
}

impl Allocated {
    /// The mask of a chunk that is not unallocated.
    pub(super) fn into_mask(self) -> Option<Vec<u8>> {
        match self {
            Allocated::Everything | Allocated::Nothing => None,
            Allocated::Blocks(mask) => Some(mask),
        }
    }
}

/// What a file system tells of its free space, in bytes of its partition: first all that is free, in order, then
/// what is used all the same.
pub(super) struct Space<'a> {
    extents: &'a mut Extents,
    start: u64,
    /// Free bytes that were told last and may go on.
    run: Range<u64>,
}

impl Space<'_> {
    /// `bytes` are free. Neighbours that are smaller than a block may make one together.
    pub(super) fn free(&mut self, bytes: Range<u64>) {
        if self.run.end == bytes.start {
            self.run.end = bytes.end;
        } else {
            self.settle();
            self.run = bytes;
        }
    }

    /// `bytes` are used, whatever was said before.
    pub(super) fn used(&mut self, bytes: Range<u64>) {
        self.settle();
        self.extents.mark_used(self.start + bytes.start..self.start + bytes.end);
    }

    fn settle(&mut self) {
        let run = std::mem::take(&mut self.run);
        self.extents.mark_free(&(self.start + run.start..self.start + run.end));
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of 24 that are free after `tell`, as told by a file system at byte `start`.
    fn told(start: u64, tell: impl FnOnce(&mut Space<'_>)) -> Vec<u64> {
        let mut extents = Extents { free: vec![0; 3], crumbs: BTreeMap::new() };
        tell(&mut Space { extents: &mut extents, start, run: 0..0 });
        (0..24).filter(|block| extents.free[*block as usize / 8] & 1 << (block % 8) != 0).collect()
    }

    #[test]
    fn only_whole_blocks_are_free_and_small_neighbours_make_one() {
        assert_eq!(told(0, |space| space.free(4096..3 * 4096)), [1, 2]);
        assert_eq!(told(0, |space| space.free(4095..3 * 4096 - 1)), [1]);
        assert_eq!(told(512, |space| space.free(0..3 * 4096)), [1, 2]);
        let quarters = |space: &mut Space<'_>| (8..17).for_each(|at| space.free(at * 1024..(at + 1) * 1024));
        assert_eq!(told(0, quarters), [2, 3]);
        let gap =
            |space: &mut Space<'_>| [8, 9, 11].iter().for_each(|at| space.free(at * 1024..(at + 1) * 1024));
        assert_eq!(told(0, gap), [0; 0]);
    }

    #[test]
    fn what_is_used_all_the_same_takes_every_block_that_it_touches() {
        let both = |space: &mut Space<'_>| {
            space.free(0..10 * 4096);
            space.used(2 * 4096 + 4095..3 * 4096 + 1);
        };
        assert_eq!(told(0, both), [0, 1, 4, 5, 6, 7, 8, 9]);
        assert_eq!(told(0, |space| space.free(0..100 * 4096)).len(), 24, "nothing lies behind the image");
    }

    #[test]
    fn free_sectors_of_blocks_in_use_are_cleared_and_no_others() {
        let mut extents = Extents { free: vec![0; 2], crumbs: BTreeMap::new() };
        let mut space = Space { extents: &mut extents, start: 512, run: 0..0 };
        [3 * 512..4 * 512, 6 * 512..25 * 512, 34 * 512..36 * 512]
            .into_iter()
            .for_each(|bytes| space.free(bytes));
        space.used(35 * 512..35 * 512 + 1);
        drop(space);
        let mut bytes = vec![7; 6 * 4096];
        extents.clear(0, &mut bytes);
        let cleared: Vec<usize> = (0..48).filter(|sector| bytes[sector * 512..][..512] == [0; 512]).collect();
        assert_eq!(cleared, [[4].as_slice(), &(7..26).collect::<Vec<_>>(), &[35]].concat());
        assert!(bytes.iter().filter(|byte| **byte == 0).count() == 21 * 512);
        let mut later = vec![7; 4096];
        extents.clear(4 * 4096, &mut later);
        assert_eq!(later, bytes[4 * 4096..5 * 4096]);
    }

    #[test]
    fn a_range_says_what_of_it_is_allocated() {
        let extents = Extents { free: vec![0xff, 0x0f, 0], crumbs: BTreeMap::new() };
        assert_eq!(extents.within(0, 8 * 4096), Allocated::Nothing);
        assert_eq!(extents.within(16 * 4096, 8 * 4096), Allocated::Everything);
        assert_eq!(extents.within(8 * 4096, 8 * 4096), Allocated::Blocks(vec![0xf0]));
        assert_eq!(extents.within(8 * 4096, 5 * 4096 - 1), Allocated::Blocks(vec![0x10]));
        assert_eq!(extents.within(24 * 4096, 100), Allocated::Everything, "an incomplete last block");
        let mut bytes = vec![7; 5 * 4096 - 1];
        extents.clear(8 * 4096, &mut bytes);
        assert!(bytes[..4 * 4096].iter().all(|byte| *byte == 0) && bytes[4 * 4096..].iter().all(|b| *b == 7));
    }
}

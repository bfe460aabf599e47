//! The free space of an ext2, ext3 or ext4 file system, from the block bitmaps of its groups.
//!
//! A block is taken for free only when nothing speaks against it: the file system was unmounted in order, uses
//! features only that are known here, its bitmaps agree with its counts, and no structure lies in the block.
//! Source: Documentation/filesystems/ext4 of Linux; `ext4_init_block_bitmap` of its `fs/ext4/balloc.c`.

#[cfg(test)]
mod tests;

use super::{Ext4, SUPERBLOCK_AT, UNSUPPORTED, WIDE_DESCRIPTORS};
use crate::image::extents::Space;
use crate::image::volume::{VolumeError, u16_at, u32_at};
use std::ops::Range;

const CLEAN: u16 = 1;
const HAS_ERRORS: u16 = 2;

/// Compatible features: others are allowed, none of them changes what is free.
const SPARSE_SUPER_2: u32 = 0x200;
/// Incompatible features that leave blocks and bitmaps where they are looked for here: file types, extents,
/// 64bit, mmp, flex_bg, ea_inode, csum_seed, large_dir, inline_data, encrypt, casefold.
const KNOWN_INCOMPATIBLE: u32 =
    0x2 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x30000;
const NEEDS_RECOVERY: u32 = 0x4;
/// Features of which writers must know: sparse_super, large_file, btree_dir, huge_file, gdt_csum, dir_nlink,
/// extra_isize, quota, bigalloc, metadata_csum, readonly, project, verity.
const KNOWN_READ_ONLY: u32 = 0x7f | 0x100 | 0x200 | 0x400 | 0x1000 | 0x2000 | 0x8000;
const SPARSE_SUPER: u32 = 0x1;
const BIGALLOC: u32 = 0x200;
/// gdt_csum or metadata_csum: without them the flags of groups mean nothing.
const GROUP_FLAGS: u32 = 0x10 | 0x400;
const ORPHANS_PRESENT: u32 = 0x10000;

const BLOCK_UNINIT: u16 = 2;

/// Where blocks, groups and their structures are.
struct Layout {
    first_block: u64,
    blocks: u64,
    blocks_per_group: u64,
    /// Blocks that one bit of a bitmap stands for.
    cluster_blocks: u64,
    groups: u64,
    has_group_flags: bool,
    inode_table_blocks: u64,
    /// The first descriptors, behind the superblock itself.
    descriptors_at: u64,
    /// Blocks of descriptors, and those that are kept for more, behind every copy of the superblock.
    descriptor_blocks: u64,
    supers: Supers,
}

/// Which groups begin with a copy of the superblock.
enum Supers {
    All,
    /// Those with numbers that are powers of 3, 5 and 7.
    Sparse,
    Chosen([u64; 2]),
}

/// What a descriptor says of its group.
struct Group {
    number: u64,
    block_bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
    free_clusters: u64,
    is_uninitialized: bool,
}

impl Ext4<'_> {
    /// Tells `space` what is free.
    pub(in crate::image) fn free_space(&self, space: &mut Space<'_>) -> Result<(), VolumeError> {
        let superblock: [u8; 1024] = self.volume.array(SUPERBLOCK_AT)?;
        check_state(&superblock)?;
        let layout = self.layout(&superblock)?;
        for number in 0..layout.groups {
            let group = self.group(&layout, number)?;
            let bitmap = self.bitmap(&layout, &group)?;
            let is_free = |cluster: u64| bitmap[(cluster / 8) as usize] & 1 << (cluster % 8) == 0;
            let mut free_clusters = 0;
            for cluster in (0..layout.clusters_in(number)).filter(|cluster| is_free(*cluster)) {
                free_clusters += 1;
                space.free(self.bytes(layout.cluster(number, cluster)));
            }
            if free_clusters != group.free_clusters {
                return Err(VolumeError::Damaged("its bitmaps and its counts of free blocks disagree"));
            }
        }
        for number in 0..layout.groups {
            let group = self.group(&layout, number)?;
            layout.structures(&group).into_iter().for_each(|blocks| space.used(self.bytes(blocks)));
        }
        Ok(())
    }

    fn layout(&self, superblock: &[u8; 1024]) -> Result<Layout, VolumeError> {
        let damaged = || VolumeError::Damaged("its superblock contradicts itself");
        let [read_only, compatible] = [0x64, 0x5c].map(|at| u32_at(superblock, at));
        let high = if self.features & WIDE_DESCRIPTORS == 0 { 0 } else { u32_at(superblock, 0x150) };
        let blocks = u64::from(u32_at(superblock, 0x4)) | u64::from(high) << 32;
        let scale = u32_at(superblock, 0x1c).wrapping_sub(u32_at(superblock, 0x18));
        let cluster_blocks =
            if read_only & BIGALLOC == 0 { 1 } else { 1_u64.checked_shl(scale).unwrap_or(0) };
        let blocks_per_group = u64::from(u32_at(superblock, 0x20));
        let first_block = u64::from(u32_at(superblock, 0x14));
        let bitmap_bits = self.block_bytes * 8;
        let inode_table_bytes = u64::from(self.inodes_per_group) * self.inode_bytes;
        // A cluster has at most 512 MiB, so the products below cannot overflow.
        if !(1..1 << 20).contains(&cluster_blocks)
            || blocks_per_group == 0
            || !blocks_per_group.is_multiple_of(cluster_blocks)
            || blocks_per_group / cluster_blocks > bitmap_bits
            || u64::from(self.inodes_per_group) > bitmap_bits
            || !self.descriptor_bytes.is_power_of_two()
            || self.descriptor_bytes > 1024
            || first_block > 1
            || first_block >= blocks
        {
            return Err(damaged());
        }
        if blocks.checked_mul(self.block_bytes).is_none_or(|bytes| bytes > self.volume.bytes()) {
            return Err(VolumeError::Damaged("it is longer than its partition"));
        }
        let groups = (blocks - first_block).div_ceil(blocks_per_group);
        if groups.checked_mul(self.inodes_per_group.into()) != Some(self.inodes.into()) {
            return Err(damaged());
        }
        let supers = match (compatible & SPARSE_SUPER_2, read_only & SPARSE_SUPER) {
            (0, 0) => Supers::All,
            (0, _) => Supers::Sparse,
            _ => Supers::Chosen([0x24c, 0x250].map(|at| u32_at(superblock, at).into())),
        };
        Ok(Layout {
            first_block,
            blocks,
            blocks_per_group,
            cluster_blocks,
            groups,
            has_group_flags: read_only & GROUP_FLAGS != 0,
            inode_table_blocks: inode_table_bytes.div_ceil(self.block_bytes),
            descriptors_at: self.descriptors_at / self.block_bytes,
            descriptor_blocks: (groups * self.descriptor_bytes).div_ceil(self.block_bytes)
                + u64::from(u16_at(superblock, 0xce)),
            supers,
        })
    }

    fn group(&self, layout: &Layout, number: u64) -> Result<Group, VolumeError> {
        let mut descriptor = [0; 64];
        let bytes = if self.features & WIDE_DESCRIPTORS == 0 { 32 } else { 64 };
        let at = self.descriptors_at + number * self.descriptor_bytes;
        self.volume.read(at, &mut descriptor[..bytes])?;
        // The upper halves are zero where descriptors are short.
        let wide =
            |low, high| u64::from(u32_at(&descriptor, low)) | u64::from(u32_at(&descriptor, high)) << 32;
        let [block_bitmap, inode_bitmap, inode_table] = [wide(0, 0x20), wide(4, 0x24), wide(8, 0x28)];
        let inside =
            |block: u64, count: u64| block.checked_add(count).is_some_and(|end| end <= layout.blocks);
        if !inside(block_bitmap, 1)
            || !inside(inode_bitmap, 1)
            || !inside(inode_table, layout.inode_table_blocks)
        {
            return Err(VolumeError::Damaged("the structures of a group lie behind its end"));
        }
        let free_clusters = u64::from(u16_at(&descriptor, 0xc)) | u64::from(u16_at(&descriptor, 0x2c)) << 16;
        let flags = if layout.has_group_flags { u16_at(&descriptor, 0x12) } else { 0 };
        let is_uninitialized = flags & BLOCK_UNINIT != 0;
        Ok(Group { number, block_bitmap, inode_bitmap, inode_table, free_clusters, is_uninitialized })
    }

    /// One bit a cluster of the group, set for used ones.
    fn bitmap(&self, layout: &Layout, group: &Group) -> Result<Vec<u8>, VolumeError> {
        let mut bitmap = vec![0; usize::try_from(self.block_bytes).expect("at most 64 KiB")];
        if !group.is_uninitialized {
            self.volume.read(self.block_at(group.block_bitmap)?, &mut bitmap)?;
            return Ok(bitmap);
        }
        // Such a bitmap was never written: nothing but structures is in the group.
        let begin = layout.first_block + group.number * layout.blocks_per_group;
        let end = begin + layout.blocks_per_group;
        for blocks in layout.structures(group) {
            for block in blocks.start.max(begin)..blocks.end.min(end) {
                let cluster = (block - begin) / layout.cluster_blocks;
                bitmap[(cluster / 8) as usize] |= 1 << (cluster % 8);
            }
        }
        Ok(bitmap)
    }

    fn bytes(&self, blocks: Range<u64>) -> Range<u64> {
        blocks.start * self.block_bytes..blocks.end * self.block_bytes
    }
}

/// Refuses a file system whose bitmaps may not be the last word.
fn check_state(superblock: &[u8; 1024]) -> Result<(), VolumeError> {
    let [incompatible, read_only] = [0x60, 0x64].map(|at| u32_at(superblock, at));
    let state = u16_at(superblock, 0x3a);
    if incompatible & NEEDS_RECOVERY != 0 || read_only & ORPHANS_PRESENT != 0 || state & CLEAN == 0 {
        return Err(VolumeError::Damaged("it was not unmounted in order; check it, as with e2fsck"));
    }
    if state & HAS_ERRORS != 0 {
        return Err(VolumeError::Damaged("it has errors; check it, as with e2fsck"));
    }
    if let Some((_, feature)) = UNSUPPORTED.iter().find(|(bit, _)| incompatible & bit != 0) {
        return Err(VolumeError::Unsupported(feature));
    }
    if incompatible & !KNOWN_INCOMPATIBLE != 0 || read_only & !KNOWN_READ_ONLY != 0 {
        return Err(VolumeError::Unsupported("a feature that is not known"));
    }
    Ok(())
}

impl Layout {
    /// How many clusters a group has; the last one may be shorter.
    fn clusters_in(&self, group: u64) -> u64 {
        let begin = self.first_block + group * self.blocks_per_group;
        (self.blocks - begin).min(self.blocks_per_group).div_ceil(self.cluster_blocks)
    }

    /// The blocks of a cluster; the last one may be shorter.
    fn cluster(&self, group: u64, cluster: u64) -> Range<u64> {
        let begin = self.first_block + group * self.blocks_per_group + cluster * self.cluster_blocks;
        begin..(begin + self.cluster_blocks).min(self.blocks)
    }

    /// The blocks of a group's structures, wherever they lie.
    fn structures(&self, group: &Group) -> [Range<u64>; 4] {
        let begin = self.first_block + group.number * self.blocks_per_group;
        let copy = match (group.number, self.has_super(group.number)) {
            // With the boot sector before it.
            (0, _) => 0..self.descriptors_at + self.descriptor_blocks,
            (_, true) => begin..begin + 1 + self.descriptor_blocks,
            (_, false) => 0..0,
        };
        let copy = copy.start..copy.end.min(self.blocks);
        let one = |block| block..block + 1;
        let table = group.inode_table..group.inode_table + self.inode_table_blocks;
        [copy, one(group.block_bitmap), one(group.inode_bitmap), table]
    }

    fn has_super(&self, group: u64) -> bool {
        match self.supers {
            Supers::All => true,
            Supers::Chosen(groups) => group == 0 || groups.contains(&group),
            Supers::Sparse => group <= 1 || [3, 5, 7].into_iter().any(|base| is_power(group, base)),
        }
    }
}

fn is_power(mut number: u64, base: u64) -> bool {
    while number.is_multiple_of(base) {
        number /= base;
    }
    number == 1
}

//! The free clusters of a FAT file system: those whose entry in every copy of the table is zero.
//!
//! Like its ext4 sibling it takes nothing for free of a file system that was left in a hurry or contradicts
//! itself. Source: Microsoft's FAT specification 1.03, 3.5 and 4.1; the dirty bit in the boot sector is Linux's
//! (`fs/fat/inode.c`, `fat_set_state`).

#[cfg(test)]
mod tests;

use super::{Fat, Root};
use crate::image::extents::Space;
use crate::image::volume::{VolumeError, u16_at, u32_at};

/// Tables are read in pieces of this length, which holds whole entries of every width.
const PIECE_BYTES: u64 = 96 << 10;
/// With more clusters than this, entries have 16 bits; with fewer, 12.
const FAT12_CLUSTERS_MAX: u32 = 4084;
/// In the flags of a FAT32: one table is in use, the others are not kept equal.
const NOT_MIRRORED: u16 = 0x80;
/// In the boot sector, by Linux.
const MOUNTED: u8 = 1;

/// How wide a table's entries are, and what of them counts.
#[derive(Clone, Copy)]
enum Width {
    Bits12,
    Bits16,
    Bits32,
}

impl Width {
    fn bits(self) -> u64 {
        match self {
            Width::Bits12 => 12,
            Width::Bits16 => 16,
            Width::Bits32 => 32,
        }
    }

    /// Entry `index` of a piece of a table.
    fn entry(self, piece: &[u8], index: usize) -> u32 {
        match self {
            Width::Bits12 => u32::from(u16_at(piece, index * 3 / 2) >> (index % 2 * 4) & 0xfff),
            Width::Bits16 => u16_at(piece, index * 2).into(),
            // The upper four bits are reserved.
            Width::Bits32 => u32_at(piece, index * 4) & 0x0fff_ffff,
        }
    }

    /// Whether the table's second entry says that the file system was unmounted.
    fn says_unmounted(self, second: u32) -> bool {
        match self {
            Width::Bits12 => true,
            Width::Bits16 => second & 0x8000 != 0,
            Width::Bits32 => second & 0x0800_0000 != 0,
        }
    }
}

impl Fat<'_> {
    /// Tells `space` what is free.
    pub(in crate::image) fn free_space(&self, space: &mut Space<'_>) -> Result<(), VolumeError> {
        let area = &self.area;
        let width = match self.root {
            Root::Chained(_) => Width::Bits32,
            Root::Fixed { .. } if area.clusters > FAT12_CLUSTERS_MAX => Width::Bits16,
            Root::Fixed { .. } => Width::Bits12,
        };
        self.check_boot_sector(width)?;
        let end = u64::from(area.clusters) + 2;
        let used_bytes = (end * width.bits()).div_ceil(8);
        if used_bytes > area.table_bytes {
            return Err(VolumeError::Damaged("its table is too short for its clusters"));
        }
        let clusters_end = area.clusters_at + u64::from(area.clusters) * area.cluster_bytes;
        if clusters_end > self.volume.bytes() {
            return Err(VolumeError::Damaged("it is longer than its partition"));
        }
        let per_piece = PIECE_BYTES * 8 / width.bits();
        for first in (0..end).step_by(usize::try_from(per_piece).expect("a small number")) {
            let at = first * width.bits() / 8;
            let piece = self.piece(at, (used_bytes - at).min(PIECE_BYTES))?;
            for (index, number) in (first..end.min(first + per_piece)).enumerate() {
                let entry = width.entry(&piece, index);
                match number {
                    0 => {}
                    1 if width.says_unmounted(entry) => {}
                    1 => {
                        return Err(VolumeError::Damaged(
                            "it was not unmounted in order; check it, as with fsck.fat",
                        ));
                    }
                    _ if entry != 0 => {}
                    _ => {
                        let begin = area.clusters_at + (number - 2) * area.cluster_bytes;
                        space.free(begin..begin + area.cluster_bytes);
                    }
                }
            }
        }
        Ok(())
    }

    /// So many bytes from `at` on of the table; all its copies have the same.
    fn piece(&self, at: u64, bytes: u64) -> Result<Vec<u8>, VolumeError> {
        // One more, that there is a whole word at the end of entries of 12 bits.
        let length = usize::try_from(bytes).expect("at most a piece");
        let mut piece = vec![0; length + 1];
        self.volume.read(self.area.table_at + at, &mut piece[..length])?;
        for table in 1..self.area.tables {
            let mut copy = vec![0; length];
            self.volume.read(self.area.table_at + table * self.area.table_bytes + at, &mut copy)?;
            if copy != piece[..length] {
                return Err(VolumeError::Damaged("its tables differ; check it, as with fsck.fat"));
            }
        }
        Ok(piece)
    }

    fn check_boot_sector(&self, width: Width) -> Result<(), VolumeError> {
        let sector: [u8; 512] = self.volume.array(0)?;
        let (state, flags) = match width {
            Width::Bits32 => (sector[0x41], u16_at(&sector, 40)),
            Width::Bits12 | Width::Bits16 => (sector[0x25], 0),
        };
        if flags & NOT_MIRRORED != 0 {
            return Err(VolumeError::Unsupported("tables that are not copies of each other"));
        }
        match state & MOUNTED {
            0 => Ok(()),
            _ => Err(VolumeError::Damaged("it was not unmounted in order; check it, as with fsck.fat")),
        }
    }
}

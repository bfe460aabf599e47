//! What the superblock of an ext2, ext3 or ext4 file system says about its size. Pure.
//!
//! Source of the layout: the kernel's Documentation/filesystems/ext4/super.rst.

/// Where a superblock begins in its partition, and its length.
pub const SUPERBLOCK_AT: u64 = 1024;
/// How long a superblock is, in bytes.
pub const SUPERBLOCK_BYTES: usize = 1024;

const MAGIC: [u8; 2] = [0x53, 0xef];
const INCOMPATIBLE_64BIT: u32 = 0x80;

/// The length in bytes of the file system with this superblock; none when it is none.
pub fn file_system_bytes(superblock: &[u8; SUPERBLOCK_BYTES]) -> Option<u64> {
    let word = |at: usize| {
        let bytes: [u8; 4] = superblock[at..at + 4].try_into().expect("four bytes");
        u64::from(u32::from_le_bytes(bytes))
    };
    let has_64_bits = word(0x60) & u64::from(INCOMPATIBLE_64BIT) != 0;
    let blocks = word(0x4) | if has_64_bits { word(0x150) << 32 } else { 0 };
    let block_bytes = 1024u64.checked_shl(u32::try_from(word(0x18)).ok()?)?;
    (superblock[0x38..0x3a] == MAGIC && block_bytes <= 65536).then(|| blocks.checked_mul(block_bytes))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(low: u32, high: u32, shift: u32, features: u32) -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        bytes[0x38..0x3a].copy_from_slice(&MAGIC);
        for (at, word) in [(0x4, low), (0x18, shift), (0x60, features), (0x150, high)] {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn the_size_is_blocks_times_block_length() {
        assert_eq!(file_system_bytes(&superblock(16384, 7, 2, 0)), Some(64 << 20));
        assert_eq!(file_system_bytes(&superblock(0, 1, 2, 0x80)), Some(1 << 44));
        assert_eq!(file_system_bytes(&superblock(1, 0, 99, 0)), None);
        assert_eq!(file_system_bytes(&[0; SUPERBLOCK_BYTES]), None);
    }
}

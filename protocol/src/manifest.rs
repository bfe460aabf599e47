//! What an image consists of: partitions, chunks and the hashes that make every byte checkable.
//!
//! A manifest is immutable and named by the BLAKE3 of its encoded bytes.

use crate::id::Hash;
use crate::named::named;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// First bytes of an encoded manifest of version 1.
const MAGIC: [u8; 4] = *b"PSM1";

/// Chunks are this long, but for the last; aligned to the start of the image.
pub const CHUNK_BYTES: u32 = 1 << 20;

/// One bit of a chunk's mask stands for so many bytes.
pub const MASK_BLOCK_BYTES: u32 = 4096;

/// The longest image that is accepted: what an MBR can address.
pub const IMAGE_BYTES_MAX: u64 = 2 << 40;

/// An image, described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Length of the image in bytes; a multiple of 512.
    pub image_bytes: u64,
    /// The BLAKE3 of the whole image with what is not allocated zeroed.
    pub whole: Hash,
    /// The disk id in the partition table.
    pub disk_id: u32,
    /// The partitions in the order of their numbers.
    pub partitions: Vec<Partition>,
    /// The number of the partition that the firmware boots from.
    pub boot: Option<u8>,
    /// The number of the partition that becomes `/`.
    pub root: Option<u8>,
    /// How the system in it is configured; an open enumeration, `opaque` means not at all.
    pub family: String,
    /// What the family was recognised by, for the user.
    pub family_evidence: String,
    /// The processor architecture of its programs as `uname -m` names it, when known.
    pub architecture: Option<String>,
    /// The packs that hold the chunks' bytes, by name.
    pub packs: Vec<Hash>,
    /// Chunk `i` begins at byte `i` × [`CHUNK_BYTES`].
    pub chunks: Vec<Chunk>,
}

/// One partition of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its number in the table, from 1.
    pub number: u8,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its content.
    pub file_system: FileSystem,
    /// The file system's label, if any.
    pub label: Option<String>,
}

named! {
    /// What a partition contains, as far as it matters here.
    pub enum FileSystem as "file system" {
        /// FAT of any width.
        Fat = "fat",
        /// ext2, ext3 or ext4.
        Ext4 = "ext4",
        /// Anything else.
        Unknown = "unknown",
    }
}

/// One chunk of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// What it holds.
    pub kind: ChunkKind,
    /// The BLAKE3 of its raw bytes, with what is not allocated zeroed.
    pub hash: Hash,
    /// Which of the manifest's packs holds it, from 0. Meaningless unless it holds data.
    pub pack: u16,
    /// Where its zstd frame begins in the pack, in bytes.
    pub offset: u64,
    /// How long that frame is, in bytes.
    pub stored: u32,
    /// Which 4 KiB blocks are defined, from the lowest bit of the first byte; all when absent.
    pub mask: Option<Vec<u8>>,
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkKind {
    /// Bytes that are stored in a pack.
    Data,
    /// Zeros that belong to the image and are written.
    Zero,
    /// Nothing that belongs to the image; not written.
    Unallocated,
}

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not encoded by any version of this crate.
    #[error("not a manifest: the magic bytes of version 1 are missing")]
    Magic,
    /// Cut off or changed.
    #[error("manifest cannot be decoded")]
    Encoding,
    /// It contradicts itself.
    #[error("manifest is inconsistent: {0}")]
    Inconsistent(&'static str),
}

impl Manifest {
    /// The manifest as bytes; their hash is its name.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, MAGIC.to_vec()).expect("growing a vector cannot fail")
    }

    /// The manifest that these bytes are, checked against itself.
    ///
    /// # Errors
    /// Every [`ManifestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let body = bytes.strip_prefix(&MAGIC).ok_or(ManifestError::Magic)?;
        let manifest: Manifest = postcard::from_bytes(body).map_err(|_| ManifestError::Encoding)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks that lengths, numbers and references agree with each other.
    ///
    /// # Errors
    /// [`ManifestError::Inconsistent`] with what does not agree.
    pub fn check(&self) -> Result<(), ManifestError> {
        let wrong = |what| Err(ManifestError::Inconsistent(what));
        if self.image_bytes == 0
            || self.image_bytes > IMAGE_BYTES_MAX
            || !self.image_bytes.is_multiple_of(512)
        {
            return wrong("the image's length is not a multiple of 512 from 512 to 2 TiB");
        }
        if self.chunks.len() as u64 != self.image_bytes.div_ceil(u64::from(CHUNK_BYTES)) {
            return wrong("the number of chunks does not fit the image's length");
        }
        let in_pack = |chunk: &Chunk| {
            usize::from(chunk.pack) < self.packs.len()
                && chunk.stored > 0
                && chunk.offset.checked_add(u64::from(chunk.stored)).is_some()
        };
        if !self.chunks.iter().all(|chunk| chunk.kind != ChunkKind::Data || in_pack(chunk)) {
            return wrong("a chunk lies in no pack");
        }
        let fits = |p: &Partition| p.start.checked_add(p.bytes).is_some_and(|end| end <= self.image_bytes);
        if !self.partitions.iter().all(fits) {
            return wrong("a partition reaches beyond the image");
        }
        let known = |number: Option<u8>| number.is_none_or(|n| self.partition(n).is_some());
        match known(self.boot) && known(self.root) {
            true => Ok(()),
            false => wrong("the boot or root partition is not in the table"),
        }
    }

    /// The partition of this number.
    pub fn partition(&self, number: u8) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }

    /// How long chunk `index` is, raw.
    pub fn chunk_bytes(&self, index: usize) -> u32 {
        let start = index as u64 * u64::from(CHUNK_BYTES);
        u32::try_from(self.image_bytes.saturating_sub(start))
            .map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES))
    }

    /// The indices of the chunks that hold any of these bytes.
    pub fn chunks_of(&self, start: u64, bytes: u64) -> core::ops::Range<usize> {
        let chunk = u64::from(CHUNK_BYTES);
        (start / chunk) as usize..((start + bytes).div_ceil(chunk) as usize).min(self.chunks.len())
    }

    /// How many bytes of the image are defined and therefore written.
    pub fn defined_bytes(&self) -> u64 {
        let defined =
            self.chunks.iter().enumerate().filter(|(_, chunk)| chunk.kind != ChunkKind::Unallocated);
        defined.map(|(index, _)| u64::from(self.chunk_bytes(index))).sum()
    }
}

/// How much of an image there is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The image's length.
    pub image: u64,
    /// What of it is defined, to the block.
    pub defined: u64,
    /// What the packs hold of it, compressed and equal chunks once.
    pub stored: u64,
}

impl Manifest {
    /// How much of the image there is.
    pub fn sizes(&self) -> Sizes {
        let mut sizes = Sizes { image: self.image_bytes, ..Sizes::default() };
        let mut frames = BTreeSet::new();
        for (index, chunk) in self.chunks.iter().enumerate() {
            sizes.defined += self.defined_bytes_of(index);
            if chunk.kind == ChunkKind::Data && frames.insert((chunk.pack, chunk.offset)) {
                sizes.stored += u64::from(chunk.stored);
            }
        }
        sizes
    }

    /// How many bytes of chunk `index` are defined.
    fn defined_bytes_of(&self, index: usize) -> u64 {
        let (chunk, bytes) = (&self.chunks[index], u64::from(self.chunk_bytes(index)));
        let mask = match (chunk.kind, &chunk.mask) {
            (ChunkKind::Unallocated, _) => return 0,
            (ChunkKind::Data | ChunkKind::Zero, None) => return bytes,
            (ChunkKind::Data | ChunkKind::Zero, Some(mask)) => mask,
        };
        let block = u64::from(MASK_BLOCK_BYTES);
        let blocks = 0..bytes.div_ceil(block);
        let is_defined =
            |index: &u64| mask.get((index / 8) as usize).is_none_or(|byte| byte >> (index % 8) & 1 == 1);
        blocks.filter(is_defined).map(|index| block.min(bytes - index * block)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn chunk(kind: ChunkKind) -> Chunk {
        Chunk { kind, hash: Hash([0; 32]), pack: 0, offset: 0, stored: 9, mask: None }
    }

    fn manifest() -> Manifest {
        let partition =
            |number, start, bytes, file_system| Partition { number, start, bytes, file_system, label: None };
        Manifest {
            image_bytes: 2_500_096,
            whole: Hash([1; 32]),
            disk_id: 0x1234_abcd,
            partitions: vec![
                partition(1, 512, 1_048_576, FileSystem::Fat),
                partition(2, 1_100_288, 1_000_000, FileSystem::Ext4),
            ],
            boot: Some(1),
            root: Some(2),
            family: "debian".into(),
            family_evidence: "os-release".into(),
            architecture: None,
            packs: vec![Hash([2; 32])],
            chunks: vec![chunk(ChunkKind::Data), chunk(ChunkKind::Zero), chunk(ChunkKind::Unallocated)],
        }
    }

    #[test]
    fn lengths_of_chunks_and_ranges_follow_from_the_image() {
        let manifest = manifest();
        assert_eq!([0, 1, 2].map(|i| manifest.chunk_bytes(i)), [1 << 20, 1 << 20, 2_500_096 - (2 << 20)]);
        assert_eq!(manifest.chunks_of(512, 1 << 20), 0..2);
        assert_eq!(manifest.chunks_of(0, 1 << 20), 0..1);
        assert_eq!(manifest.defined_bytes(), 2 << 20);
    }

    #[test]
    fn sizes_count_defined_blocks_and_every_frame_once() {
        let mut manifest = manifest();
        manifest.chunks[1] = Chunk { mask: Some(vec![0b101; 1]), ..chunk(ChunkKind::Data) };
        manifest.chunks[1].offset = 9;
        let short = 2_500_096 - (2 << 20);
        manifest.chunks[2] = Chunk { mask: Some(vec![0; 13]), ..chunk(ChunkKind::Zero) };
        manifest.chunks[2].mask.as_mut().unwrap()[(short >> 12) / 8] = 1 << ((short >> 12) % 8);
        let defined = (1 << 20) + (256 - 6) * 4096 + short as u64 % 4096;
        assert_eq!(manifest.sizes(), Sizes { image: 2_500_096, defined, stored: 18 });
        manifest.chunks[1].offset = 0;
        assert_eq!(manifest.sizes().stored, 9);
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        let breaks: [fn(&mut Manifest); 7] = [
            |m| m.image_bytes = 0,
            |m| m.image_bytes += 1,
            |m| m.image_bytes = IMAGE_BYTES_MAX + 512,
            |m| m.chunks.truncate(2),
            |m| m.chunks[0].pack = 1,
            |m| m.partitions[1].bytes = u64::MAX,
            |m| m.root = Some(3),
        ];
        for (index, make_wrong) in breaks.iter().enumerate() {
            let mut manifest = manifest();
            make_wrong(&mut manifest);
            let decoded = Manifest::decode(&manifest.encode());
            assert!(matches!(decoded, Err(ManifestError::Inconsistent(_))), "break {index}: {decoded:?}");
        }
        assert_eq!(Manifest::decode(&manifest().encode()), Ok(manifest()));
        assert_eq!(Manifest::decode(b"PSM2"), Err(ManifestError::Magic));
        assert_eq!(Manifest::decode(b"PSM1\x01"), Err(ManifestError::Encoding));
    }
}

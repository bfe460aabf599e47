//! A small image with every kind of chunk, and a source that serves it from memory. For tests.

use super::fetch::FetchError;
use super::withheld::Withheld;
use super::{Source, chunk};
use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::{CHUNK_BYTES, Chunk, ChunkKind, Manifest};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Mutex;

/// The length of a chunk.
pub const CHUNK: usize = CHUNK_BYTES as usize;

/// An image in memory.
pub struct Sample {
    /// Its manifest.
    pub manifest: Manifest,
    /// The raw bytes of every chunk by name.
    pub chunks: HashMap<Hash, Vec<u8>>,
    /// Names in the order in which they were asked for.
    pub fetched: Mutex<Vec<Hash>>,
}

/// A chunk to be: its kind, bytes and mask.
pub type Part = (ChunkKind, Vec<u8>, Option<Vec<u8>>);

/// `length` bytes that look random and are the same for the same `seed`.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

impl Sample {
    /// Chunks: 0 data with the signature of a table; 1 zero; 2 unallocated; 3 data with a mask; 4 data, short.
    pub fn mixed() -> Self {
        Self::of(vec![
            (ChunkKind::Data, noise(0, CHUNK), None),
            (ChunkKind::Zero, vec![0; CHUNK], None),
            (ChunkKind::Unallocated, vec![0; CHUNK], None),
            (ChunkKind::Data, noise(3, CHUNK), Some((0..32).map(|i| 0x5a ^ i).collect())),
            (ChunkKind::Data, noise(4, CHUNK / 2 + 512), None),
        ])
    }

    /// An image of `count` chunks of noise.
    pub fn of_noise(count: u64) -> Self {
        Self::of((0..count).map(|seed| (ChunkKind::Data, noise(seed, CHUNK), None)).collect())
    }

    /// An image of these chunks.
    pub fn of(parts: Vec<Part>) -> Self {
        let mut sample = Sample {
            manifest: Manifest {
                image_bytes: 0,
                whole: Hash([0; 32]),
                disk_id: 0,
                partitions: vec![],
                boot: None,
                root: None,
                family: "opaque".into(),
                family_evidence: String::new(),
                architecture: None,
                packs: vec![Hash([1; 32])],
                chunks: vec![],
            },
            chunks: HashMap::new(),
            fetched: Mutex::default(),
        };
        parts.into_iter().for_each(|part| sample.add(part));
        sample.manifest.check().unwrap();
        sample
    }

    fn add(&mut self, (kind, mut raw, mask): Part) {
        chunk::zero_undefined(&mut raw, mask.as_deref());
        if self.manifest.chunks.is_empty() {
            raw[510..512].copy_from_slice(&[0x55, 0xaa]);
        }
        let hash = Hash::of(&raw);
        self.manifest.image_bytes += raw.len() as u64;
        self.manifest.chunks.push(Chunk { kind, hash, pack: 0, offset: 0, stored: 1, mask });
        self.chunks.insert(hash, raw);
    }

    /// The whole image.
    pub fn bytes(&self) -> Vec<u8> {
        self.manifest.chunks.iter().flat_map(|chunk| self.chunks[&chunk.hash].clone()).collect()
    }

    /// What of it is held back on a card of `card_bytes`.
    pub fn withheld(&self, card_bytes: u64) -> Withheld {
        let image = self.bytes();
        let read = |at: u64, into: &mut [u8]| {
            into.copy_from_slice(&image[at as usize..][..into.len()]);
            Ok::<(), Infallible>(())
        };
        let Ok(withheld) = Withheld::of(self.manifest.image_bytes, card_bytes, read);
        withheld
    }

    /// What must be on a card of `card_bytes` before the commit: offset and content of every defined run.
    pub fn defined(&self, card_bytes: usize) -> Vec<(usize, Vec<u8>)> {
        let withheld = self.withheld(card_bytes as u64);
        let mut runs = Vec::new();
        for (index, described) in self.manifest.chunks.iter().enumerate() {
            if described.kind == ChunkKind::Unallocated {
                continue;
            }
            let mut raw = self.chunks[&described.hash].clone();
            withheld.hide(chunk::start(index), &mut raw);
            let parts = chunk::defined_runs(described.mask.as_deref(), raw.len());
            runs.extend(parts.map(|run| (index * CHUNK + run.start, raw[run].to_vec())));
        }
        runs
    }

    /// Asserts that `card` holds the image, and outside of it still `garbage`.
    pub fn assert_on(&self, card: &[u8], garbage: u8) {
        let mut expected = vec![garbage; card.len()];
        for (offset, bytes) in self.defined(card.len()) {
            expected[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        let differs = expected.iter().zip(card).position(|(a, b)| a != b);
        assert_eq!(differs, None, "first differing byte");
    }
}

impl Source for Sample {
    fn chunk(&self, name: Hash, raw: &mut [u8]) -> Result<(), FetchError> {
        self.fetched.lock().unwrap().push(name);
        raw.copy_from_slice(&self.chunks[&name]);
        Ok(())
    }
}

//! One chunk on a card: which of its bytes are defined, and how what is there is compared with a manifest.

use super::Scene;
use crate::card::{Buffer, CardError};
use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::CHUNK_BYTES;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// The unit of a chunk's mask, in bytes.
const BLOCK_BYTES: usize = 4096;

/// Where chunk `index` begins on the card, in bytes.
pub fn start(index: usize) -> u64 {
    index as u64 * u64::from(CHUNK_BYTES)
}

/// A buffer that holds any chunk.
pub fn buffer() -> Buffer {
    Buffer::new(CHUNK_BYTES as usize)
}

/// The defined byte ranges of a chunk of `length` bytes, neighbours joined. What a mask is too short to
/// say is defined.
pub fn defined_runs(mask: Option<&[u8]>, length: usize) -> impl Iterator<Item = Range<usize>> {
    let is_defined = move |block: usize| {
        mask.is_none_or(|mask| mask.get(block / 8).is_none_or(|byte| byte & (1 << (block % 8)) != 0))
    };
    let blocks = length.div_ceil(BLOCK_BYTES);
    let mut next = 0;
    std::iter::from_fn(move || {
        let from = (next..blocks).find(|block| is_defined(*block))?;
        let to = (from..blocks).find(|block| !is_defined(*block)).unwrap_or(blocks);
        next = to;
        Some(from * BLOCK_BYTES..(to * BLOCK_BYTES).min(length))
    })
}

/// Makes every byte of `raw` that the mask does not define zero.
pub fn zero_undefined(raw: &mut [u8], mask: Option<&[u8]>) {
    if mask.is_none() {
        return;
    }
    let mut end = 0;
    for run in defined_runs(mask, raw.len()) {
        raw[end..run.start].fill(0);
        end = run.end;
    }
    raw[end..].fill(0);
}

impl Scene<'_> {
    /// Reads chunk `index` from the card into `buffer` and says whether it is the manifest's. What is
    /// held back is taken for the image's, and undefined blocks for zero, as they were when the chunk got its hash.
    ///
    /// # Errors
    /// What the card says.
    pub fn is_on_card(&self, index: usize, buffer: &mut Buffer) -> Result<bool, CardError> {
        let chunk = &self.manifest.chunks[index];
        let raw = &mut buffer[..self.manifest.chunk_bytes(index) as usize];
        self.card.read_at(raw, start(index))?;
        zero_undefined(raw, chunk.mask.as_deref());
        self.withheld.restore(start(index), raw);
        Ok(Hash::of(raw) == chunk.hash)
    }
}

/// A set of chunks that several threads may add to.
#[derive(Debug, Default)]
pub struct ChunkSet(Vec<AtomicBool>);

impl ChunkSet {
    /// An empty set of the chunks 0 to `count` - 1.
    pub fn new(count: usize) -> Self {
        ChunkSet(std::iter::repeat_with(AtomicBool::default).take(count).collect())
    }

    /// Adds chunk `index`.
    pub fn add(&self, index: usize) {
        self.0[index].store(true, Ordering::Relaxed);
    }

    /// The chunks in the set, in order.
    pub fn indices(&self) -> Vec<usize> {
        let members = self.0.iter().enumerate().filter(|(_, member)| member.load(Ordering::Relaxed));
        members.map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(mask: Option<&[u8]>, length: usize) -> Vec<Range<usize>> {
        defined_runs(mask, length).collect()
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "one run is the point")]
    fn defined_runs_follow_the_mask_and_end_with_the_chunk() {
        assert_eq!(runs(None, 10_000), [0..10_000]);
        assert_eq!(runs(Some(&[0b0000_0110]), 3 * 4096), [4096..3 * 4096]);
        assert_eq!(runs(Some(&[0b0000_0101]), 2 * 4096 + 512), [0..4096, 2 * 4096..2 * 4096 + 512]);
        assert!(runs(Some(&[0]), 8 * 4096).is_empty());
        assert_eq!(
            runs(Some(&[0x80]), 10 * 4096),
            [7 * 4096..10 * 4096],
            "a short mask leaves the rest defined"
        );
    }

    #[test]
    fn undefined_blocks_become_zero_and_the_others_stay() {
        let mut raw = vec![7; 4 * 4096 + 512];
        zero_undefined(&mut raw, Some(&[0b0001_0010]));
        let zero = |range: Range<usize>| raw[range].iter().all(|byte| *byte == 0);
        let kept = |range: Range<usize>| raw[range].iter().all(|byte| *byte == 7);
        assert!(zero(0..4096) && kept(4096..8192) && zero(8192..4 * 4096) && kept(4 * 4096..4 * 4096 + 512));
    }

    #[test]
    fn a_set_of_chunks_lists_its_members() {
        let set = ChunkSet::new(9);
        set.add(8);
        set.add(2);
        assert_eq!(set.indices(), [2, 8]);
    }
}

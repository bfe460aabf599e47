//! Proves that the card holds what the manifest says, by reading it back past every cache.

use super::chunk;
use super::{Scene, in_parallel};
use crate::cancel::Cancelled;
use crate::card::{Buffer, CardError};
use piseduce_protocol::id::Hash;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Threads that read and hash: one reads while the other hashes.
const WORKERS: usize = 2;

/// Why a check did not end well.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Somebody asked for it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The card failed.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The card does not hold the chunk.
    #[error("chunk {chunk}, bytes {} to {} of {card}, is not what was written there{found}", .bytes.start, .bytes.end)]
    Mismatch {
        /// The card.
        card: String,
        /// Which chunk, from 0.
        chunk: usize,
        /// The bytes of the card that it has; the last one is not included.
        bytes: Range<u64>,
        /// What is there.
        found: Found,
    },
}

/// What stands in a chunk's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Zeros only.
    Zeros,
    /// The chunk of this number, which belongs elsewhere.
    Chunk(usize),
    /// Nothing that says more.
    Other,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Zeros => f.write_str(": it reads as zeros; the card may be shorter than it claims"),
            Found::Chunk(other) => {
                write!(f, ": chunk {other} stands there; the card may be shorter than it claims")
            }
            Found::Other => Ok(()),
        }
    }
}

/// Reads back `chunks` and compares each with its hash. Returns the bytes read.
///
/// # Errors
/// The first [`CheckError`]; nothing more is read then.
pub fn check(scene: Scene<'_>, chunks: &[usize]) -> Result<u64, CheckError> {
    scene.card.drop_cache()?;
    let total = chunks.iter().map(|index| u64::from(scene.manifest.chunk_bytes(*index))).sum();
    let check = Check {
        scene,
        chunks,
        total,
        next: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        done: AtomicU64::new(0),
    };
    in_parallel(WORKERS, || check.work())?;
    Ok(total)
}

struct Check<'a> {
    scene: Scene<'a>,
    chunks: &'a [usize],
    total: u64,
    next: AtomicUsize,
    failed: AtomicBool,
    done: AtomicU64,
}

impl Check<'_> {
    fn work(&self) -> Result<(), CheckError> {
        let mut buffer = chunk::buffer();
        while !self.failed.load(Ordering::SeqCst) {
            let Some(index) = self.chunks.get(self.next.fetch_add(1, Ordering::SeqCst)) else { break };
            if let Err(error) = self.one(*index, &mut buffer) {
                self.failed.store(true, Ordering::SeqCst);
                return Err(error);
            }
        }
        Ok(())
    }

    fn one(&self, index: usize, buffer: &mut Buffer) -> Result<(), CheckError> {
        self.scene.cancel.check()?;
        if !self.scene.is_on_card(index, buffer)? {
            let found = self.found(index, buffer)?;
            return Err(self.mismatch(index, found));
        }
        let bytes = u64::from(self.scene.manifest.chunk_bytes(index));
        let done = self.done.fetch_add(bytes, Ordering::SeqCst) + bytes;
        (self.scene.advance)(done, self.total);
        Ok(())
    }

    /// That the card does not hold chunk `index`, but what `found` says.
    fn mismatch(&self, index: usize, found: Found) -> CheckError {
        let start = chunk::start(index);
        let bytes = start..start + u64::from(self.scene.manifest.chunk_bytes(index));
        CheckError::Mismatch { card: self.scene.card.name().into(), chunk: index, bytes, found }
    }

    /// What stands in the place of chunk `index`. A card that claims more than it has keeps nothing behind
    /// its end, or what comes round to that place.
    fn found(&self, index: usize, buffer: &mut Buffer) -> Result<Found, CardError> {
        let manifest = self.scene.manifest;
        let raw = &mut buffer[..manifest.chunk_bytes(index) as usize];
        self.scene.card.read_at(raw, chunk::start(index))?;
        if raw.iter().all(|byte| *byte == 0) {
            return Ok(Found::Zeros);
        }
        let hash = Hash::of(raw);
        // The first chunk is not on the card as it is in the image.
        self.scene.withheld.restore(0, raw);
        let first = manifest.chunks.first().filter(|first| index > 0 && first.hash == Hash::of(raw));
        let other = manifest.chunks.iter().position(|chunk| chunk.hash == hash);
        Ok(other.or(first.map(|_| 0)).map_or(Found::Other, Found::Chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::card::Card as _;
    use crate::card::memory::{Ending, MemoryCard};
    use crate::image::chunk::ChunkSet;
    use crate::image::copy::copy;
    use crate::image::plan;
    use crate::image::sample::{CHUNK, Sample};
    use rustix::io::Errno;

    /// Copies the sample, lets `spoil` change the card, and checks everything.
    fn check_after(sample: &Sample, spoil: impl Fn(&MemoryCard)) -> Result<u64, CheckError> {
        let card = MemoryCard::new(8 * CHUNK);
        card.fill(0x77);
        card.put(0, &[0; 512]);
        let scene = Scene {
            card: &card,
            manifest: &sample.manifest,
            withheld: &sample.withheld(card.bytes()),
            cancel: &Cancel::new(),
            advance: &|done, total| assert!(done <= total),
        };
        copy(scene, sample, &ChunkSet::new(5)).unwrap();
        spoil(&card);
        check(scene, &plan::defined(&sample.manifest))
    }

    #[test]
    fn a_copied_card_passes_and_undefined_bytes_may_be_anything() {
        let sample = Sample::mixed();
        let bytes = sample.manifest.defined_bytes();
        assert_eq!(check_after(&sample, |_| {}).unwrap(), bytes);
        let undefined = |card: &MemoryCard| {
            card.put(2 * CHUNK, &[1; CHUNK]);
            card.put(3 * CHUNK, &[1; 512]);
        };
        assert_eq!(check_after(&sample, undefined).unwrap(), bytes);
    }

    #[test]
    fn any_changed_byte_is_found_and_named() {
        let sample = Sample::mixed();
        for byte in [512, CHUNK + 5, 3 * CHUNK + 4096, 4 * CHUNK + CHUNK / 2 + 511] {
            let flip = |card: &MemoryCard| {
                let old = card.durable()[byte];
                card.put(byte, &[old ^ 1]);
            };
            let Err(CheckError::Mismatch { chunk, bytes, found, .. }) = check_after(&sample, flip) else {
                panic!("byte {byte} was not missed");
            };
            assert_eq!((chunk, found), (byte / CHUNK, Found::Other));
            assert!(bytes.start == (chunk * CHUNK) as u64 && bytes.contains(&(byte as u64)), "{bytes:?}");
        }
    }

    #[test]
    fn a_card_that_is_shorter_than_it_claims_is_found_out_and_suspected() {
        let sample = Sample::of_noise(6);
        for ending in [Ending::Forgets, Ending::Wraps] {
            let card = MemoryCard::new(6 * CHUNK);
            card.end_at(4 * CHUNK, ending);
            let scene = Scene {
                card: &card,
                manifest: &sample.manifest,
                withheld: &sample.withheld(card.bytes()),
                cancel: &Cancel::new(),
                advance: &|_, _| {},
            };
            copy(scene, &sample, &ChunkSet::new(6)).unwrap();
            let error = check(scene, &plan::defined(&sample.manifest)).unwrap_err();
            let CheckError::Mismatch { chunk, found, .. } = &error else { panic!("{error}") };
            match ending {
                Ending::Forgets => assert_eq!((4, Found::Zeros), (*chunk & !1, *found)),
                // Of the chunks that share a place the one that was written last is there.
                Ending::Wraps => assert!(matches!(found, Found::Chunk(other) if other.abs_diff(*chunk) == 4)),
            }
            assert!(error.to_string().ends_with("the card may be shorter than it claims"), "{error}");
        }
    }

    #[test]
    fn a_card_that_cannot_be_read_is_a_card_error() {
        let sample = Sample::mixed();
        for number in 0..4 {
            let result = check_after(&sample, |card| card.fail(number, Errno::IO));
            assert!(matches!(result, Err(CheckError::Card(_))), "{result:?}");
        }
    }
}

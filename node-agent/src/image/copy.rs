//! Makes the card equal to the manifest: one mechanism for a first write, a resumed one and a repair.
//!
//! Three workers fetch, unpack and verify; two writes are in flight; nothing passes the page cache and
//! memory stays at a few chunks. What makes a partition table is held back for the commit.

use super::chunk::{self, ChunkSet};
use super::fetch::FetchError;
use super::original;
use super::plan::{self, Strategy};
use super::writer::Gate;
use super::{Scene, Source, in_parallel};
use crate::cancel::Cancelled;
use crate::card::{Buffer, CardError};
use crate::clock;
use piseduce_protocol::manifest::ChunkKind;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Threads that fetch, unpack, verify and write.
const WORKERS: usize = 3;

/// Why a copy ended early.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Somebody asked for it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The card failed.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A chunk could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// What a copy did; sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Of chunks that were written to the card.
    pub written: u64,
    /// What of these went to the card: of a chunk that is not defined everywhere, its defined runs.
    pub moved: u64,
    /// Found on the card as they should be.
    pub kept: u64,
    /// How long the card was busy with what was written.
    pub busy: Duration,
}

/// Makes the card equal to the manifest and flushes it. Notes in `written` what was not already there.
///
/// # Errors
/// The first [`CopyError`]; every write that had begun is finished then.
pub fn copy(scene: Scene<'_>, source: &dyn Source, written: &ChunkSet) -> Result<Copied, CopyError> {
    let chunks = plan::defined(scene.manifest);
    let copy = Copy {
        scene,
        source,
        written,
        total: scene.manifest.defined_bytes(),
        strategy: Mutex::new(Strategy::new(chunks.len())),
        chunks,
        next: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        gate: Gate::default(),
        bytes_written: AtomicU64::new(0),
        bytes_moved: AtomicU64::new(0),
        bytes_kept: AtomicU64::new(0),
    };
    in_parallel(WORKERS, || copy.work())?;
    let start = clock::now();
    scene.card.flush()?;
    let busy = copy.gate.busy() + clock::now().duration_since(start);
    Ok(Copied {
        written: copy.bytes_written.into_inner(),
        moved: copy.bytes_moved.into_inner(),
        kept: copy.bytes_kept.into_inner(),
        busy,
    })
}

struct Copy<'a> {
    scene: Scene<'a>,
    source: &'a dyn Source,
    written: &'a ChunkSet,
    chunks: Vec<usize>,
    next: AtomicUsize,
    failed: AtomicBool,
    strategy: Mutex<Strategy>,
    gate: Gate,
    total: u64,
    bytes_written: AtomicU64,
    bytes_moved: AtomicU64,
    bytes_kept: AtomicU64,
}

impl Copy<'_> {
    fn work(&self) -> Result<(), CopyError> {
        let mut buffer = chunk::buffer();
        while let Some(index) = self.take() {
            if let Err(error) = self.make_equal(index, &mut buffer) {
                self.failed.store(true, Ordering::SeqCst);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The next chunk that nobody works on; none at the end or when another worker failed.
    fn take(&self) -> Option<usize> {
        match self.failed.load(Ordering::SeqCst) {
            true => None,
            false => self.chunks.get(self.next.fetch_add(1, Ordering::SeqCst)).copied(),
        }
    }

    fn strategy(&self) -> MutexGuard<'_, Strategy> {
        self.strategy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_equal(&self, index: usize, buffer: &mut Buffer) -> Result<(), CopyError> {
        self.scene.cancel.check()?;
        let bytes = u64::from(self.scene.manifest.chunk_bytes(index));
        let compare = self.strategy().compare_next();
        if compare {
            let start = clock::now();
            let is_equal = self.scene.is_on_card(index, buffer)?;
            self.strategy().compared(is_equal, clock::now().duration_since(start));
            if is_equal {
                self.advance(&self.bytes_kept, bytes);
                return Ok(());
            }
        }
        self.scene.load(index, self.source, buffer)?;
        self.scene.cancel.check()?;
        let (result, took) = self.gate.pass(|| self.write(index, buffer));
        result?;
        self.strategy().wrote(took);
        self.written.add(index);
        self.advance(&self.bytes_written, bytes);
        Ok(())
    }

    fn write(&self, index: usize, buffer: &mut Buffer) -> Result<(), CardError> {
        let raw = &mut buffer[..self.scene.manifest.chunk_bytes(index) as usize];
        self.scene.withheld.hide(chunk::start(index), raw);
        let mask = self.scene.manifest.chunks[index].mask.as_deref();
        for run in chunk::defined_runs(mask, raw.len()) {
            let (offset, bytes) = (chunk::start(index) + run.start as u64, run.len() as u64);
            self.scene.card.write_at(&raw[run], offset)?;
            self.bytes_moved.fetch_add(bytes, Ordering::SeqCst);
        }
        Ok(())
    }

    fn advance(&self, counter: &AtomicU64, bytes: u64) {
        counter.fetch_add(bytes, Ordering::SeqCst);
        let done = self.bytes_written.load(Ordering::SeqCst) + self.bytes_kept.load(Ordering::SeqCst);
        (self.scene.advance)(done, self.total);
    }
}

/// Makes the bytes `range` of the card equal to the manifest again, and no others: what was changed in
/// that partition goes, what lies in the same chunks beside it stays. The card is not flushed.
///
/// # Errors
/// The first [`CopyError`].
pub fn copy_range(scene: Scene<'_>, source: &dyn Source, range: &Range<u64>) -> Result<(), CopyError> {
    let (mut wanted, mut found) = (chunk::buffer(), chunk::buffer());
    let total = range.end - range.start;
    for index in scene.manifest.chunks_of(range.start, total) {
        scene.cancel.check()?;
        if scene.manifest.chunks[index].kind == ChunkKind::Unallocated {
            continue;
        }
        scene.load(index, source, &mut wanted)?;
        let length = scene.manifest.chunk_bytes(index) as usize;
        let start = chunk::start(index);
        for run in chunk::defined_runs(scene.manifest.chunks[index].mask.as_deref(), length) {
            // The run inside the range, as offsets into the chunk.
            let from = range.start.saturating_sub(start).max(run.start as u64) as usize;
            let to = range.end.saturating_sub(start).min(run.end as u64) as usize;
            if from >= to {
                continue;
            }
            scene.card.read_at(&mut found[from..to], start + from as u64)?;
            if found[from..to] != wanted[from..to] {
                scene.card.write_at(&wanted[from..to], start + from as u64)?;
            }
        }
        (scene.advance)((start + length as u64).min(range.end) - range.start, total);
    }
    Ok(())
}

impl Scene<'_> {
    /// Puts the right bytes of chunk `index` into `buffer`.
    fn load(&self, index: usize, source: &dyn Source, buffer: &mut Buffer) -> Result<(), FetchError> {
        let length = self.manifest.chunk_bytes(index) as usize;
        original::load(self.manifest, index, source, &mut buffer[..length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::card::Card as _;
    use crate::card::memory::MemoryCard;
    use crate::image::sample::{CHUNK, Sample};
    use rustix::io::Errno;

    const GARBAGE: u8 = 0x77;

    fn dirty_card() -> MemoryCard {
        let card = MemoryCard::new(8 * CHUNK);
        card.fill(GARBAGE);
        card
    }

    fn copy_to(card: &MemoryCard, sample: &Sample) -> Result<(Copied, Vec<usize>), CopyError> {
        let written = ChunkSet::new(sample.manifest.chunks.len());
        let scene = Scene {
            card,
            manifest: &sample.manifest,
            withheld: &sample.withheld(card.bytes()),
            cancel: &Cancel::new(),
            advance: &|done, total| assert!(done <= total),
        };
        copy(scene, sample, &written).map(|copied| (copied, written.indices()))
    }

    #[test]
    fn a_dirty_card_becomes_the_image_and_keeps_what_the_image_does_not_define() {
        let (card, sample) = (dirty_card(), Sample::mixed());
        card.put(0, &[0; 512]);
        let (copied, written) = copy_to(&card, &sample).unwrap();
        sample.assert_on(&card.durable(), GARBAGE);
        assert_eq!(written, [0, 1, 3, 4]);
        assert_eq!((copied.written, copied.kept), (sample.manifest.defined_bytes(), 0));
        assert!(!copied.busy.is_zero());
        assert!(copied.moved > 0 && copied.moved < copied.written, "only what is defined: {copied:?}");
    }

    #[test]
    fn a_second_copy_writes_nothing_and_fetches_nothing() {
        let (card, sample) = (dirty_card(), Sample::mixed());
        copy_to(&card, &sample).unwrap();
        let writes = card.writes();
        sample.fetched.lock().unwrap().clear();
        let (copied, written) = copy_to(&card, &sample).unwrap();
        assert_eq!((card.writes(), written.len()), (writes, 0));
        assert_eq!((copied.written, copied.kept), (0, sample.manifest.defined_bytes()));
        assert!(sample.fetched.lock().unwrap().is_empty());
    }

    #[test]
    fn one_changed_byte_rewrites_its_chunk_alone() {
        let (card, sample) = (dirty_card(), Sample::mixed());
        copy_to(&card, &sample).unwrap();
        card.put(4 * CHUNK + 100, &[1, 2, 3]);
        card.put(2 * CHUNK, b"unallocated bytes are nobody's business");
        let (_, written) = copy_to(&card, &sample).unwrap();
        assert_eq!(written, [4]);
    }

    #[test]
    fn every_failing_request_is_a_card_error_and_the_next_copy_mends_it() {
        let sample = Sample::mixed();
        let probe = dirty_card();
        copy_to(&probe, &sample).unwrap();
        for number in 0..probe.requests() {
            let card = dirty_card();
            card.put(0, &[0; 512]);
            card.fail(number, Errno::IO);
            match copy_to(&card, &sample) {
                Err(CopyError::Card(CardError::Io { .. })) => {}
                other => panic!("request {number} failed: {other:?}"),
            }
            copy_to(&card, &sample).unwrap();
            sample.assert_on(&card.durable(), GARBAGE);
        }
    }

    #[test]
    fn a_resumed_copy_writes_only_what_is_missing() {
        let sample = Sample::of_noise(40);
        let card = MemoryCard::new(40 * CHUNK);
        card.cut_after(25);
        assert!(copy_to(&card, &sample).is_err());
        let resumed = MemoryCard::new(40 * CHUNK);
        resumed.put(0, &card.durable());
        let (copied, _) = copy_to(&resumed, &sample).unwrap();
        sample.assert_on(&resumed.durable(), 0);
        assert_eq!(copied.written, 15 * CHUNK as u64);
    }

    #[test]
    fn a_stopped_copy_ends_at_once_without_writing_more() {
        let (card, sample) = (dirty_card(), Sample::mixed());
        let cancel = Cancel::new();
        cancel.cancel();
        let scene = Scene {
            card: &card,
            manifest: &sample.manifest,
            withheld: &sample.withheld(card.bytes()),
            cancel: &cancel,
            advance: &|_, _| {},
        };
        let result = copy(scene, &sample, &ChunkSet::new(5));
        assert!(matches!(result, Err(CopyError::Cancelled(_))), "{result:?}");
        assert_eq!(card.writes(), 0);
    }

    #[test]
    fn a_range_is_made_equal_again_and_its_neighbours_are_left_alone() {
        let (card, sample) = (dirty_card(), Sample::mixed());
        copy_to(&card, &sample).unwrap();
        let good = card.durable();
        let range = 4096 + 512..(3 * CHUNK + 8192) as u64;
        card.fill(0x11);
        let scene = Scene {
            card: &card,
            manifest: &sample.manifest,
            withheld: &sample.withheld(card.bytes()),
            cancel: &Cancel::new(),
            advance: &|done, total| assert!(done <= total),
        };
        copy_range(scene, &sample, &range).unwrap();
        let found = card.durable();
        let inside = range.start as usize..range.end as usize;
        for (offset, bytes) in sample.defined(good.len()) {
            for (at, _) in (offset..offset + bytes.len()).zip(&bytes).filter(|(at, _)| inside.contains(at)) {
                assert_eq!(found[at], good[at], "byte {at}");
            }
        }
        assert!(found[..inside.start].iter().chain(&found[inside.end..]).all(|byte| *byte == 0x11));
    }
}

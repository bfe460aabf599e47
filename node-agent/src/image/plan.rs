//! Which chunks a copy reads and compares before it writes them. Pure.
//!
//! Comparing saves writes on a card that holds much of the image already (a resumed copy, the same
//! environment again), and costs reads on one that does not. It must pay for itself: whatever the card
//! holds, a copy takes at most 1.02 times as long as writing everything, and a constant.

use piseduce_protocol::manifest::{ChunkKind, Manifest};
use std::time::Duration;

/// After so many differing chunks in a row, the next ones are written unread …
const DIFFERING_IN_A_ROW: u32 = 8;

/// … first so many, and after each look at one that differs as well twice as many, up to the most.
const BLIND_FIRST: u64 = 8;
const BLIND_MOST: u64 = 128;

/// Reads of chunks that turn out to differ may cost the time of so many writes, and 2 in 100 of all.
const WASTE_FREE: f64 = 16.0;
const WASTE_SHARE: f64 = 0.02;

/// The chunks of a manifest that are written, in order.
pub fn defined(manifest: &Manifest) -> Vec<usize> {
    let chunks = manifest.chunks.iter().enumerate();
    chunks.filter(|(_, chunk)| chunk.kind != ChunkKind::Unallocated).map(|(index, _)| index).collect()
}

/// Decides chunk by chunk, from what the ones before showed.
#[derive(Clone, Debug)]
pub struct Strategy {
    /// Reads that may be wasted, in writes.
    allowance: f64,
    equal: f64,
    differing: f64,
    differing_in_a_row: u32,
    blind: u64,
    blind_next: u64,
    reading: Average,
    writing: Average,
}

#[derive(Clone, Copy, Debug, Default)]
struct Average {
    count: u32,
    seconds: f64,
}

impl Average {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.seconds += took.as_secs_f64();
    }

    fn of_one(self) -> Option<f64> {
        (self.count > 0 && self.seconds > 0.0).then(|| self.seconds / f64::from(self.count))
    }
}

impl Strategy {
    /// For a copy of `count` chunks.
    pub fn new(count: usize) -> Self {
        Strategy {
            allowance: WASTE_FREE + WASTE_SHARE * count as f64,
            equal: 0.0,
            differing: 0.0,
            differing_in_a_row: 0,
            blind: 0,
            blind_next: BLIND_FIRST,
            reading: Average::default(),
            writing: Average::default(),
        }
    }

    /// Whether the next chunk is read and compared first.
    pub fn compare_next(&mut self) -> bool {
        if self.blind > 0 {
            self.blind -= 1;
            return false;
        }
        // What reading costs in writes; a card never reads more slowly than it writes.
        let cost = match (self.reading.of_one(), self.writing.of_one()) {
            (Some(read), Some(write)) => (read / write).min(1.0),
            _ => 1.0,
        };
        self.differing * cost <= self.allowance + self.equal * (1.0 - cost)
    }

    /// A chunk was compared, which took so long.
    pub fn compared(&mut self, is_equal: bool, took: Duration) {
        self.reading.add(took);
        if is_equal {
            self.equal += 1.0;
            self.differing_in_a_row = 0;
            self.blind_next = BLIND_FIRST;
            return;
        }
        self.differing += 1.0;
        self.differing_in_a_row += 1;
        if self.differing_in_a_row >= DIFFERING_IN_A_ROW {
            self.blind = self.blind_next;
            self.blind_next = (self.blind_next * 2).min(BLIND_MOST);
        }
    }

    /// A chunk was written, which took so long.
    pub fn wrote(&mut self, took: Duration) {
        self.writing.add(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE_MS: u64 = 25;

    /// Copies to a card where `is_equal` says what is there already. Returns the share of chunks written
    /// and the time as a multiple of writing everything.
    fn copy(count: usize, read_ms: u64, is_equal: impl Fn(usize) -> bool) -> (f64, f64) {
        let mut strategy = Strategy::new(count);
        let (mut written, mut ms) = (0, 0);
        for index in 0..count {
            if strategy.compare_next() {
                ms += read_ms;
                strategy.compared(is_equal(index), Duration::from_millis(read_ms));
                if is_equal(index) {
                    continue;
                }
            }
            ms += WRITE_MS;
            written += 1;
            strategy.wrote(Duration::from_millis(WRITE_MS));
        }
        (f64::from(written) / count as f64, ms as f64 / (count as u64 * WRITE_MS) as f64)
    }

    fn patterns(index: usize) -> [bool; 7] {
        let scrambled = index.wrapping_mul(2_654_435_761) >> 7;
        [
            false,
            index.is_multiple_of(2),
            index.is_multiple_of(8),
            index % 8 != 7,
            (index / 40).is_multiple_of(2),
            scrambled.is_multiple_of(3),
            scrambled % 10 < 9,
        ]
    }

    #[test]
    fn no_card_content_makes_a_copy_much_slower_than_writing_everything() {
        for pattern in 0..7 {
            for read_ms in [10, 23, 25] {
                let (_, time) = copy(2000, read_ms, |index| patterns(index)[pattern]);
                assert!(time < 1.03, "pattern {pattern}, reads take {read_ms} ms: {time}");
            }
        }
    }

    #[test]
    fn a_copy_that_was_cut_off_writes_only_what_is_missing() {
        for done in [100, 1000, 1900] {
            let (written, _) = copy(2000, 23, |index| index < done);
            assert!((written - (2000 - done) as f64 / 2000.0).abs() < 1e-9, "{done}: {written}");
        }
    }

    #[test]
    fn the_same_environment_after_some_use_writes_little_even_behind_a_long_changed_stretch() {
        let used = |index: usize| !(300..340).contains(&index) && index % 100 != 7;
        let (written, time) = copy(2000, 10, used);
        assert!(written < 0.06, "{written}");
        assert!(time < 0.5, "{time}");
        assert_eq!(copy(2000, 23, |_| true).0, 0.0);
    }
}

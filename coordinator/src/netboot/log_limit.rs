//! Lines in the log that strangers can cause: a few a minute, then a count.

use crate::clock::Instant;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many lines of one kind there are in one span of time.
const LINES_MAX: u32 = 5;
const SPAN: Duration = Duration::from_secs(60);

/// One kind of line.
#[derive(Debug, Default)]
pub(super) struct LogLimit(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl LogLimit {
    /// Whether to write this line, and how many before it were left out.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(count.since) >= SPAN {
            (count.since, count.lines) = (now, 0);
        }
        if count.lines >= LINES_MAX {
            count.left_out += 1;
            return None;
        }
        count.lines += 1;
        Some(std::mem::take(&mut count.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_lines_a_minute_are_written_and_the_others_counted() {
        let limit = LogLimit::default();
        let written =
            |from: u64| (from..from + 100).filter(|now| limit.admit(Instant(*now)).is_some()).count();
        assert_eq!((written(0), written(59_000)), (5, 0));
        assert_eq!(limit.admit(Instant(61_000)), Some(195));
    }
}

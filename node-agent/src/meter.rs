//! Turns "so many bytes of so many" into the progress that is reported: how fast, how long still, how often.
//!
//! Pure: the time comes in with each call.

use piseduce_protocol::report::Progress;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// At most one report in this time, in milliseconds.
const REPORT_INTERVAL_MS: u64 = 500;

/// The rate is that of the last so many milliseconds.
const RATE_WINDOW_MS: u64 = 5000;

/// Watches one piece of work.
#[derive(Debug, Default)]
pub struct Meter {
    samples: VecDeque<(Instant, u64)>,
    reported: Option<Instant>,
}

impl Meter {
    /// Notes that at `now` `done` of `total` bytes are done (a total of 0 is unknown). Returns what to
    /// report, unless the last report is too recent.
    pub fn advance(&mut self, now: Instant, done: u64, total: u64) -> Option<Progress> {
        let too_soon = Duration::from_millis(REPORT_INTERVAL_MS);
        if self.reported.is_some_and(|at| now.duration_since(at) < too_soon) {
            return None;
        }
        self.reported = Some(now);
        self.samples.push_back((now, done));
        let window = Duration::from_millis(RATE_WINDOW_MS);
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= window) {
            self.samples.pop_front();
        }
        let rate = self.rate(now, done);
        let seconds_left = total.saturating_sub(done).checked_div(rate).filter(|_| total > 0);
        Some(Progress { done, total, rate, seconds_left: seconds_left.and_then(|s| u32::try_from(s).ok()) })
    }

    fn rate(&self, now: Instant, done: u64) -> u64 {
        let Some((since, before)) = self.samples.front() else { return 0 };
        let milliseconds = u64::try_from(now.duration_since(*since).as_millis()).unwrap_or(u64::MAX);
        (done.saturating_sub(*before) * 1000).checked_div(milliseconds).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn reports_keep_their_distance_and_show_the_rate_of_the_last_seconds() {
        let start = clock::now();
        let mut meter = Meter::default();
        let mut at = |ms: u64, done| meter.advance(start + Duration::from_millis(ms), done, 100_000);
        assert_eq!(at(0, 0), Some(Progress { done: 0, total: 100_000, rate: 0, seconds_left: None }));
        assert_eq!(at(499, 10), None);
        let slow = at(1000, 1000).unwrap();
        assert_eq!((slow.rate, slow.seconds_left), (1000, Some(99)));
        for second in 2..20 {
            at(second * 1000, second * 4000);
        }
        let fast = at(20_000, 80_000).unwrap();
        assert_eq!((fast.rate, fast.seconds_left), (4000, Some(5)));
    }

    #[test]
    fn an_unknown_total_has_no_end_in_sight() {
        let start = clock::now();
        let mut meter = Meter::default();
        meter.advance(start, 0, 0);
        let later = meter.advance(start + Duration::from_secs(1), 500, 0).unwrap();
        assert_eq!((later.rate, later.seconds_left), (500, None));
    }
}

//! The only caller of `now()`. Its instants are plain values that the other rooms hold and compare.
//!
//! Monotonic time decides deadlines; calendar time is for reservations, journals and display.
#![expect(clippy::disallowed_methods, reason = "this is the one place that reads clocks")]

use std::ops::Add;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in monotonic time: milliseconds since this process first asked. Never stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// A point in calendar time: milliseconds since 1970, as the head node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub u64);

impl Add<Duration> for UnixMs {
    type Output = UnixMs;
    fn add(self, duration: Duration) -> UnixMs {
        UnixMs(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

fn start() -> std::time::Instant {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    *START.get_or_init(std::time::Instant::now)
}

/// The present monotonic time.
pub fn now() -> Instant {
    Instant(u64::try_from(start().elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// The present calendar time; zero if the clock stands before 1970.
pub fn unix_ms() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Waits until `instant`; at once if it is past.
pub async fn sleep_until(instant: Instant) {
    tokio::time::sleep(instant.since(now())).await;
}

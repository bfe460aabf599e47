//! Waiting for a condition, with a limit, telling the last thing that was seen.

use std::fmt::Debug;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Pauses between two looks.
#[expect(clippy::disallowed_methods, reason = "the one pause between two looks at a condition")]
pub fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

/// Seconds since some fixed moment, for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "the harness's only clock")]
pub fn seconds() -> f64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Looks until `accept` takes what is seen, and returns that.
///
/// # Panics
/// When `limit` seconds are over; the last thing seen is told.
pub fn wait_for<T: Debug>(
    what: &str,
    limit: f64,
    mut look: impl FnMut() -> T,
    accept: impl Fn(&T) -> bool,
) -> T {
    let until = seconds() + limit;
    loop {
        let seen = look();
        if accept(&seen) {
            return seen;
        }
        assert!(seconds() < until, "waited {limit} s for {what}; last seen: {seen:?}");
        pause();
    }
}

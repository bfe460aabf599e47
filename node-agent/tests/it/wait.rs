//! Waiting for a condition with a limit; what was seen last is told when it runs out.

use piseduce_agent::cancel::Cancel;
use piseduce_agent::clock;
use std::fmt::Debug;
use std::time::Duration;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Looks until `look` returns something.
pub(crate) fn until<T, S: Debug>(what: &str, mut look: impl FnMut() -> Result<T, S>) -> T {
    let start = clock::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => {
                assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for {what}; seen last: {seen:?}");
                pause(Duration::from_millis(10));
            }
        }
    }
}

/// A short pause.
pub(crate) fn pause(time: Duration) {
    let _ = Cancel::new().wait(time);
}

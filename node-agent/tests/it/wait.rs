//! Waiting for a condition with a limit; what was seen last is told when it runs out.

use piseduce_agent::cancel::Cancel;
use piseduce_agent::clock;
use std::fmt::Debug;
use std::time::Duration;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// How long work on gigabytes may take, on a machine that does much else.
const PATIENT_LIMIT: Duration = Duration::from_secs(300);

/// Looks until `look` returns something.
pub(crate) fn until<T, S: Debug>(what: &str, look: impl FnMut() -> Result<T, S>) -> T {
    until_within(LIMIT, what, look)
}

/// The same for work on gigabytes.
pub(crate) fn until_patiently<T, S: Debug>(what: &str, look: impl FnMut() -> Result<T, S>) -> T {
    until_within(PATIENT_LIMIT, what, look)
}

fn until_within<T, S: Debug>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, S>) -> T {
    let start = clock::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => {
                assert!(start.elapsed() < limit, "waited {limit:?} for {what}; seen last: {seen:?}");
                pause(Duration::from_millis(10));
            }
        }
    }
}

/// A short pause.
pub(crate) fn pause(time: Duration) {
    let _ = Cancel::new().wait(time);
}

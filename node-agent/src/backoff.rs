//! Pauses between attempts: exponential with full jitter, so that a rack of agents does not knock in step.

use rustix::rand::{GetRandomFlags, getrandom};
use std::time::Duration;

/// How long to pause before the next attempt.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    bound: Duration,
}

impl Backoff {
    /// Pauses that are at most `first` at the beginning and never longer than `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Backoff { first, longest, bound: first }
    }

    /// The next pause: anything from nothing to the bound, which doubles each time.
    pub fn pause(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = (bound * 2).min(self.longest);
        bound.mul_f64(fraction())
    }

    /// Begins again at the first bound, after a success.
    pub fn reset(&mut self) {
        self.bound = self.first;
    }
}

/// A random number from 0 to 1. Early in a boot the kernel may have no randomness yet: a half serves then.
fn fraction() -> f64 {
    let mut bytes = [0; 4];
    match getrandom(&mut bytes, GetRandomFlags::NONBLOCK) {
        Ok(_) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_longest_and_begins_again_after_a_success() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        let bounds = [1, 2, 4, 5, 5].map(seconds);
        assert!(bounds.iter().all(|bound| backoff.pause() <= *bound));
        backoff.reset();
        assert!(backoff.pause() <= seconds(1));
    }
}

//! How many writes a card gets at once: two keep it busy, more only make it slow to answer.
//!
//! A card that takes seconds for one write is given one at a time until it is quick again. Measured with
//! deep queues elsewhere: 128 in flight gave latencies of 10 to 44 seconds on a bad card (rpi-imager).

use crate::clock;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Writes in flight at most.
const IN_FLIGHT_MAX: u32 = 2;

/// A write that takes longer than this many milliseconds makes it one at a time …
const SLOW_MS: u64 = 2000;

/// … until one takes less than this many.
const QUICK_MS: u64 = 500;

/// Lets writes through, a few at a time.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug)]
struct State {
    limit: u32,
    in_flight: u32,
    /// Since when at least one write is in flight.
    busy_since: Option<Instant>,
    busy: Duration,
}

impl Default for Gate {
    fn default() -> Self {
        Gate {
            state: Mutex::new(State {
                limit: IN_FLIGHT_MAX,
                in_flight: 0,
                busy_since: None,
                busy: Duration::ZERO,
            }),
            freed: Condvar::new(),
        }
    }
}

impl Gate {
    /// Runs `write` as soon as there is room, and says how long it took.
    pub fn pass<T>(&self, write: impl FnOnce() -> T) -> (T, Duration) {
        let state = self.state();
        let full = |state: &mut State| state.in_flight >= state.limit;
        let mut state = self.freed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        state.in_flight += 1;
        let start = clock::now();
        state.busy_since.get_or_insert(start);
        drop(state);
        let result = write();
        let took = clock::now().duration_since(start);
        self.leave(took);
        (result, took)
    }

    /// How long at least one write was in flight.
    pub fn busy(&self) -> Duration {
        self.state().busy
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, took: Duration) {
        let mut state = self.state();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            let since = state.busy_since.take();
            state.busy += since.map_or(Duration::ZERO, |since| clock::now().duration_since(since));
        }
        if took > Duration::from_millis(SLOW_MS) {
            state.limit = 1;
        } else if took < Duration::from_millis(QUICK_MS) {
            state.limit = IN_FLIGHT_MAX;
        }
        self.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn never_more_writes_are_in_flight_than_allowed() {
        let gate = Gate::default();
        let (now, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        gate.pass(|| {
                            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            std::thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert!(most.into_inner() <= IN_FLIGHT_MAX);
        assert!(gate.busy() > Duration::ZERO && gate.state().busy_since.is_none());
    }

    #[test]
    fn a_slow_write_narrows_the_gate_and_a_quick_one_widens_it() {
        let gate = Gate::default();
        let limit_after = |ms| {
            gate.state().in_flight += 1;
            gate.leave(Duration::from_millis(ms));
            gate.state().limit
        };
        assert_eq!([100, 2500, 1000, 100].map(limit_after), [2, 1, 1, 2]);
    }
}

//! How much one client may ask for: what comes faster than that is read later, so a client that floods delays itself
//! only. Pure: no socket, time is handed in.

use crate::clock::Instant;
use std::time::Duration;

/// What a client may spend in a burst, and each second from then on. An agent says some ten messages a second at most.
const BURST: u64 = 500;
const EACH_SECOND: u64 = 100;

/// For so many bytes a packet costs one more.
const BYTES_A_COST: usize = 4 * 1024;

/// What a SUBSCRIBE costs: the router may have to look through, and hand over, every retained message.
const SUBSCRIBE_COST: u64 = 20;

/// Costs are kept in thousandths, which are what a second gives in a millisecond.
const SCALE: u64 = 1_000;

/// What one client has left.
pub(super) struct Pace {
    left: u64,
    at: Instant,
}

/// What a packet asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// A message, or anything else, of so many bytes.
    Packet(usize),
    Subscribe,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Pace { left: BURST * SCALE, at: now }
    }

    /// How long the client must wait for its next packet; none when it need not.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        let passed_ms = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.left = self.left.saturating_add(passed_ms.saturating_mul(EACH_SECOND)).min(BURST * SCALE);
        self.at = now;
        let longest = SUBSCRIBE_COST * SCALE;
        // The next packet is not known yet, so there must be enough for any.
        (self.left < longest).then(|| Duration::from_millis((longest - self.left).div_ceil(EACH_SECOND)))
    }

    pub(super) fn spend(&mut self, cost: Cost) {
        let cost = match cost {
            Cost::Packet(bytes) => 1 + (bytes / BYTES_A_COST) as u64,
            Cost::Subscribe => SUBSCRIBE_COST,
        };
        self.left = self.left.saturating_sub(cost * SCALE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many packets of this cost are let in within a time.
    fn within(seconds: u64, cost: Cost) -> u64 {
        let mut pace = Pace::new(Instant(0));
        let (mut now, mut count) = (0, 0);
        while now <= seconds * 1000 {
            match pace.wait(Instant(now)) {
                Some(wait) => now += u64::try_from(wait.as_millis()).unwrap(),
                None => {
                    pace.spend(cost);
                    count += 1;
                }
            }
        }
        count
    }

    #[test]
    fn a_burst_is_let_in_at_once_and_a_flood_at_a_pace() {
        assert_eq!(within(0, Cost::Packet(100)), 481);
        assert!((1_450..1_500).contains(&within(10, Cost::Packet(100))));
        assert!((70..80).contains(&within(10, Cost::Subscribe)));
        assert!((70..95).contains(&within(10, Cost::Packet(64 * 1024))));
    }
}

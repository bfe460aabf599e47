//! One file on its way to one client, as blocks, acknowledgements and time; pure. Blocks are counted from 1 on without end here,
//! and modulo 65536 on the wire.
//!
//! Until a client has acknowledged something it may be anybody's forged address: it gets one small packet, a few times.

use super::packet::Options;
use crate::clock::Instant;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What a block holds if nothing was asked for (RFC 1350).
const USUAL_BLOCK_BYTES: u16 = 512;
/// At most so much is on its way to one client unacknowledged.
const WINDOW_BYTES_MAX: u64 = 64 << 10;
/// And at most so many blocks.
const WINDOW_MAX: u64 = 64;
/// A client may ask for times up to this; longer ones are not agreed to, as nobody waits for a client so long.
const TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// When a block is sent again if it was not acknowledged: after this, then after twice that, and so on.
const RESEND_FIRST: Duration = Duration::from_millis(500);
const RESEND_LAST: Duration = Duration::from_secs(2);
/// A client that never acknowledged anything is left after this, and gets the first packet so often again.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(6);
const UNCONFIRMED_RESENDS: u32 = 3;
/// One that acknowledges nothing any more is left after this.
const SILENT_MAX: Duration = Duration::from_secs(12);
/// A file takes no longer than this: 67 MB, the most that firmware takes, in blocks of 512 bytes took a minute at 2 ms each.
const TRANSFER_MAX: Duration = Duration::from_secs(600);
/// An acknowledgement that repeats the last one makes a window go out again at most so often.
const REPEATED_WINDOW: Duration = Duration::from_millis(20);

/// How a file is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Bytes a block.
    pub(super) block_bytes: u64,
    /// Blocks before an acknowledgement.
    window: u64,
    /// How long to wait before a block is sent again, if the client said.
    timeout: Option<Duration>,
    /// What the client is told; nothing: it asked for nothing that is agreed to.
    pub(super) agreed: Vec<(&'static str, u64)>,
}

impl Terms {
    /// What a client that asked for `options` gets for a file of `bytes`.
    pub(super) fn of(options: &Options, bytes: u64) -> Terms {
        let mut agreed = Vec::new();
        let block_bytes = u64::from(options.block_bytes.unwrap_or(USUAL_BLOCK_BYTES));
        if options.block_bytes.is_some() {
            agreed.push(("blksize", block_bytes));
        }
        if options.tells_size {
            agreed.push(("tsize", bytes));
        }
        let timeout = options.timeout.filter(|timeout| *timeout <= TIMEOUT_MAX);
        agreed.extend(timeout.map(|timeout| ("timeout", timeout.as_secs())));
        let largest = (WINDOW_BYTES_MAX / block_bytes).clamp(1, WINDOW_MAX);
        let window = options.window.map(|window| u64::from(window).min(largest));
        agreed.extend(window.map(|window| ("windowsize", window)));
        Terms { block_bytes, window: window.unwrap_or(1), timeout, agreed }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Tell the client what was agreed to.
    Agree,
    /// Send it these blocks.
    Send(RangeInclusive<u64>),
    /// Wait for it.
    Wait,
    /// It has everything.
    Whole,
    /// It is gone.
    Left,
}

/// A transfer.
#[derive(Debug)]
pub(super) struct Transfer {
    terms: Terms,
    /// The number of the last block, which is shorter than the others and may be empty.
    last: u64,
    /// The options were not acknowledged yet.
    agrees: bool,
    acknowledged: u64,
    sent: u64,
    is_confirmed: bool,
    began: Instant,
    progress: Instant,
    sent_at: Instant,
    resends: u32,
}

impl Transfer {
    /// A file of `bytes`; begin with [`Transfer::repeat`].
    pub(super) fn new(terms: Terms, bytes: u64, now: Instant) -> Transfer {
        Transfer {
            last: bytes / terms.block_bytes + 1,
            agrees: !terms.agreed.is_empty(),
            terms,
            acknowledged: 0,
            sent: 0,
            is_confirmed: false,
            began: now,
            progress: now,
            sent_at: now,
            resends: 0,
        }
    }

    /// What was agreed to.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether the client acknowledged anything, and so is where it says.
    pub(super) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Whether everything was sent and at most the last of several acknowledgements is missing: a client that goes on to
    /// its next question has the file.
    pub(super) fn is_whole_but_for_a_word(&self) -> bool {
        self.sent == self.last && self.acknowledged > 0 && self.acknowledged + self.terms.window >= self.last
    }

    /// What the client waits for, once more.
    pub(super) fn repeat(&mut self, now: Instant) -> Step {
        self.sent_at = now;
        if self.agrees {
            return Step::Agree;
        }
        // A window was agreed to, so who has one is confirmed.
        self.sent = (self.acknowledged + self.terms.window).min(self.last);
        Step::Send(self.acknowledged + 1..=self.sent)
    }

    /// The client has everything up to the block of this number.
    pub(super) fn acknowledge(&mut self, number: u16, now: Instant) -> Step {
        if self.agrees {
            if number != 0 {
                return Step::Wait;
            }
            self.agrees = false;
            return self.advance(0, now);
        }
        let new = u64::from(number.wrapping_sub(self.acknowledged as u16));
        match new {
            // A block of ours that came late was acknowledged twice: to answer both would double all that follows.
            0 if self.terms.window == 1 || now.since(self.sent_at) < REPEATED_WINDOW => Step::Wait,
            // The first block of a window got lost.
            0 => self.repeat(now),
            _ if new > self.sent - self.acknowledged => Step::Wait,
            _ => self.advance(new, now),
        }
    }

    fn advance(&mut self, blocks: u64, now: Instant) -> Step {
        self.acknowledged += blocks;
        (self.is_confirmed, self.progress, self.resends) = (true, now, 0);
        match self.acknowledged == self.last {
            true => Step::Whole,
            false => self.repeat(now),
        }
    }

    fn resend_after(&self) -> Duration {
        let doubled = RESEND_FIRST.saturating_mul(1 << self.resends.min(8));
        self.terms.timeout.unwrap_or(doubled.min(RESEND_LAST))
    }

    /// When to look at the time.
    pub(super) fn wake_at(&self) -> Instant {
        self.sent_at + self.resend_after()
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) -> Step {
        let silent_max = if self.is_confirmed { SILENT_MAX } else { UNCONFIRMED_MAX };
        if now.since(self.progress) >= silent_max || now.since(self.began) >= TRANSFER_MAX {
            return Step::Left;
        }
        if now < self.wake_at() {
            return Step::Wait;
        }
        if !self.is_confirmed && self.resends >= UNCONFIRMED_RESENDS {
            // It is still waited for.
            self.sent_at = now;
            return Step::Wait;
        }
        self.resends += 1;
        self.repeat(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(block_bytes: u16, window: Option<u16>) -> Terms {
        let options = Options { block_bytes: Some(block_bytes), window, ..Options::default() };
        Terms::of(&options, 0)
    }

    fn bare(bytes: u64) -> Transfer {
        Transfer::new(Terms::of(&Options::default(), bytes), bytes, Instant(0))
    }

    /// After the options were acknowledged.
    fn windowed(bytes: u64, window: u16) -> Transfer {
        let mut transfer = Transfer::new(terms(512, Some(window)), bytes, Instant(0));
        assert_eq!(transfer.repeat(Instant(0)), Step::Agree);
        transfer
    }

    #[test]
    fn options_are_agreed_to_within_bounds() {
        let all = Options {
            block_bytes: Some(1468),
            window: Some(9999),
            timeout: Some(Duration::from_secs(3)),
            tells_size: true,
        };
        let expected = vec![("blksize", 1468), ("tsize", 7), ("timeout", 3), ("windowsize", 44)];
        assert_eq!(Terms::of(&all, 7).agreed, expected);
        assert_eq!(terms(65464, Some(64)).window, 1, "64 KiB unacknowledged at most");
        assert_eq!(terms(8, Some(65535)).window, WINDOW_MAX);
        let patient = Options { timeout: Some(Duration::from_secs(255)), ..Options::default() };
        assert_eq!(Terms::of(&patient, 0).agreed, vec![], "nobody is waited for so long");
    }

    #[test]
    fn a_file_goes_block_by_block_and_ends_with_a_short_one() {
        let mut transfer = bare(1024);
        assert_eq!(transfer.repeat(Instant(0)), Step::Send(1..=1));
        assert_eq!(transfer.acknowledge(1, Instant(1)), Step::Send(2..=2));
        assert_eq!(transfer.acknowledge(1, Instant(2)), Step::Wait, "twice is once");
        assert_eq!(transfer.acknowledge(9, Instant(2)), Step::Wait, "not sent yet");
        assert_eq!(transfer.acknowledge(2, Instant(3)), Step::Send(3..=3), "an empty one");
        assert!(transfer.is_whole_but_for_a_word());
        assert_eq!(transfer.acknowledge(3, Instant(4)), Step::Whole);
        let mut empty = bare(0);
        assert_eq!(empty.repeat(Instant(0)), Step::Send(1..=1));
        assert!(!empty.is_whole_but_for_a_word(), "nothing shows that it came");
        assert_eq!(empty.acknowledge(1, Instant(1)), Step::Whole);
    }

    #[test]
    fn block_numbers_go_round() {
        let mut transfer = bare(512 * 70_000);
        transfer.repeat(Instant(0));
        for block in 1..=70_000u64 {
            assert_eq!(transfer.acknowledge(block as u16, Instant(block)), Step::Send(block + 1..=block + 1));
        }
        assert_eq!(transfer.acknowledge(70_001u64 as u16, Instant(70_001)), Step::Whole);
    }

    #[test]
    fn a_window_goes_on_from_what_came() {
        let mut transfer = windowed(512 * 9, 4);
        assert_eq!(transfer.acknowledge(3, Instant(0)), Step::Wait, "the options first");
        assert_eq!(transfer.acknowledge(0, Instant(0)), Step::Send(1..=4));
        assert_eq!(transfer.acknowledge(2, Instant(1)), Step::Send(3..=6), "3 got lost");
        assert_eq!(transfer.acknowledge(2, Instant(2)), Step::Wait, "the same loss, told twice");
        assert_eq!(transfer.acknowledge(2, Instant(30)), Step::Send(3..=6), "lost again");
        assert_eq!(transfer.acknowledge(6, Instant(31)), Step::Send(7..=10));
        assert_eq!(transfer.acknowledge(10, Instant(32)), Step::Whole);
    }

    /// When something is sent to a client that says nothing, until it is left.
    fn sent_to_nobody(transfer: &mut Transfer, from: u64) -> (Vec<u64>, u64) {
        let mut sent = Vec::new();
        for now in (from..700_000).step_by(10) {
            match transfer.tick(Instant(now)) {
                Step::Left => return (sent, now),
                Step::Wait => {}
                step => {
                    assert!(!matches!(step, Step::Send(blocks) if blocks.clone().count() > 1));
                    sent.push(now);
                }
            }
        }
        panic!("never left");
    }

    #[test]
    fn whoever_says_nothing_gets_one_packet_four_times_and_is_left() {
        let mut transfer = bare(9_000_000);
        transfer.repeat(Instant(0));
        assert_eq!(sent_to_nobody(&mut transfer, 0), (vec![500, 1500, 3500], 6000));
        let mut windowed = windowed(9_000_000, 64);
        assert_eq!(sent_to_nobody(&mut windowed, 0), (vec![500, 1500, 3500], 6000));
        let mut confirmed = bare(9_000_000);
        confirmed.repeat(Instant(0));
        confirmed.acknowledge(1, Instant(1000));
        let (sent, left) = sent_to_nobody(&mut confirmed, 1000);
        assert_eq!((sent.len(), left), (7, 13_000));
    }

    #[test]
    fn a_client_that_creeps_is_left_in_the_end() {
        let mut transfer = bare(u64::from(u32::MAX));
        transfer.repeat(Instant(0));
        transfer.acknowledge(1, Instant(1));
        for block in 1..100 {
            let now = Instant(block * 10_000);
            if transfer.tick(now) == Step::Left {
                assert_eq!(now, Instant(600_000));
                return;
            }
            transfer.acknowledge(block as u16 + 1, now);
        }
        panic!("never left");
    }
}

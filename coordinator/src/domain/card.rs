//! What a card did for us, by its identification register (CID), and what that says about it.

use crate::clock::UnixMs;
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::id::Ticket;

/// A copy that wrote less says little about a card's speed, in bytes.
const TREND_BYTES_MIN: u64 = 32 << 20;
/// So many copies at the beginning and at the end are compared.
const TREND_COPIES: usize = 3;
/// A card that writes slower than this part of its beginning has become slow. A choice of ours: how much sound cards vary in years
/// is not known.
const SLOWER_PERCENT: u64 = 60;

/// What happened to a card, for its passport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardNote {
    /// Its identification register, in hex.
    pub cid: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The node that it was in.
    pub node: String,
    /// When.
    pub at: UnixMs,
    /// What it did.
    pub did: CardDid,
}

/// What a card did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardDid {
    /// It was there when an agent said hello.
    WasSeen,
    /// It took an image's bytes.
    Wrote {
        /// The copy.
        ticket: Ticket,
        /// So many.
        bytes: u64,
        /// How long it was busy with them, in milliseconds.
        busy_ms: u64,
    },
    /// It failed.
    Failed {
        /// At what.
        ticket: Ticket,
        /// How.
        kind: CauseKind,
        /// What was seen.
        seen: String,
    },
}

/// Whether a cause tells of the card itself.
pub fn is_the_cards(kind: CauseKind) -> bool {
    matches!(kind, CauseKind::CardError | CauseKind::HashMismatch | CauseKind::CardReadOnly)
}

/// A card's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passport {
    /// Its identification register, in hex.
    pub cid: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The node that it was last seen in.
    pub node: String,
    /// When it was first seen.
    pub first: UnixMs,
    /// When it was last seen.
    pub last: UnixMs,
    /// The copies to it, oldest first.
    pub copies: Vec<Copy>,
    /// Its failures, oldest first.
    pub failures: Vec<Failure>,
}

/// A copy to a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// When it ended.
    pub at: UnixMs,
    /// Bytes written.
    pub bytes: u64,
    /// How long the card was busy with them, in milliseconds.
    pub busy_ms: u64,
}

impl Copy {
    /// Bytes a second.
    pub fn rate(&self) -> u64 {
        self.bytes.saturating_mul(1000) / self.busy_ms.max(1)
    }
}

/// A failure of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: UnixMs,
    /// The node that it was in.
    pub node: String,
    /// The name of the cause.
    pub cause: String,
    /// What was seen.
    pub seen: String,
}

/// What to think of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was written to it yet.
    New,
    /// Nothing speaks against it.
    Good,
    /// It writes much slower than it did.
    Slower,
    /// It failed, once or in one board: it may be the board or its power.
    Suspect,
    /// It failed in two boards, or has locked itself.
    Bad,
}

impl Verdict {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::New => "new",
            Verdict::Good => "good",
            Verdict::Slower => "slower",
            Verdict::Suspect => "suspect",
            Verdict::Bad => "bad",
        }
    }

    /// What to do; empty when nothing is to be done.
    pub fn advice(self) -> &'static str {
        match self {
            Verdict::New | Verdict::Good => "",
            Verdict::Slower => "replace it before its users wait: cards that become slow are at their end",
            Verdict::Suspect => {
                "put it into another board: if it fails there, too, it is the card; if not, look at the first board and its power"
            }
            Verdict::Bad => "replace it",
        }
    }
}

impl Passport {
    /// All that was written to it, in bytes.
    pub fn written(&self) -> u64 {
        self.copies.iter().map(|copy| copy.bytes).sum()
    }

    /// How fast it wrote at the beginning and lately, in bytes a second; none until there are copies enough.
    pub fn trend(&self) -> Option<(u64, u64)> {
        let rates: Vec<u64> =
            self.copies.iter().filter(|copy| copy.bytes >= TREND_BYTES_MIN).map(Copy::rate).collect();
        if rates.len() < 2 * TREND_COPIES {
            return None;
        }
        Some((median(&rates[..TREND_COPIES]), median(&rates[rates.len() - TREND_COPIES..])))
    }

    /// What to think of it.
    pub fn verdict(&self) -> Verdict {
        let is_locked = self.failures.iter().any(|failure| failure.cause == CauseKind::CardReadOnly.name());
        let first = self.failures.first();
        let in_two_boards =
            self.failures.iter().any(|failure| Some(&failure.node) != first.map(|first| &first.node));
        let is_slower = || self.trend().is_some_and(|(then, now)| now * 100 < then * SLOWER_PERCENT);
        match first {
            _ if is_locked || in_two_boards => Verdict::Bad,
            Some(_) => Verdict::Suspect,
            None if is_slower() => Verdict::Slower,
            None if self.copies.is_empty() => Verdict::New,
            None => Verdict::Good,
        }
    }
}

fn median(rates: &[u64]) -> u64 {
    let mut sorted = rates.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passport(rates: &[u64], failures: &[(&str, CauseKind)]) -> Passport {
        let copy = |rate: &u64| Copy {
            at: UnixMs(1),
            bytes: TREND_BYTES_MIN,
            busy_ms: TREND_BYTES_MIN / 1000 / rate,
        };
        let failure = |(node, kind): &(&str, CauseKind)| Failure {
            at: UnixMs(1),
            node: (*node).into(),
            cause: kind.name().into(),
            seen: String::new(),
        };
        Passport {
            cid: "03".into(),
            bytes: 1,
            node: "pi-1".into(),
            first: UnixMs(1),
            last: UnixMs(1),
            copies: rates.iter().map(copy).collect(),
            failures: failures.iter().map(failure).collect(),
        }
    }

    #[test]
    fn a_card_is_judged_by_its_failures_then_by_its_speed() {
        let error = |node| (node, CauseKind::CardError);
        for (rates, failures, expected) in [
            (&[][..], &[][..], Verdict::New),
            (&[20], &[], Verdict::Good),
            (&[20, 20, 20, 20, 20, 2], &[], Verdict::Good),
            (&[20, 20, 20, 9, 10, 11], &[], Verdict::Slower),
            (&[20, 20, 20, 10, 10], &[], Verdict::Good),
            (&[20], &[error("pi-1"), error("pi-1")], Verdict::Suspect),
            (&[20], &[error("pi-1"), error("pi-2")], Verdict::Bad),
            (&[20], &[("pi-1", CauseKind::CardReadOnly)], Verdict::Bad),
        ] {
            assert_eq!(passport(rates, failures).verdict(), expected, "{rates:?} {failures:?}");
        }
        let small = Copy { at: UnixMs(9), bytes: 1, busy_ms: 1000 };
        let mut quick = passport(&[20; 6], &[]);
        quick.copies.extend([small; 3]);
        assert_eq!(quick.verdict(), Verdict::Good, "little says little");
        assert_eq!(quick.written(), 6 * TREND_BYTES_MIN + 3);
    }
}

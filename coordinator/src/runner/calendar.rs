//! Reservation times: which forms stayed open too long, which reservations are over, and whether the head's
//! calendar may be believed. Nothing is ended by a clock that is not.

use super::{Held, Runner};
use crate::clock::{self, Instant, UnixMs};
use crate::clock_trust::is_synchronised;
use crate::domain::deployment::{Active, Condition, Purpose, Resting};
use crate::machine::event::{Event, Request};
use crate::store::{Actor, ClockKept, ClockStep};
use std::time::Duration;

/// How far behind the latest time that this site has seen the head's clock may be and still be believed.
const BACKWARDS_MAX: Duration = Duration::from_secs(5);
/// A clock that gains more than this at once has made a step.
const FORWARDS_MAX: Duration = Duration::from_secs(10 * 60);
/// For how long a step of a clock that something keeps right ends nothing, unless an administrator says that it is right.
const HOLD: Duration = Duration::from_secs(3600);
/// A clock that nothing keeps right and that has gained more than this while no coordinator ran has made a step.
const AWAY_MAX: Duration = Duration::from_secs(3600);
/// The same for one that something keeps right: a head may be away for a season, but not for years.
const AWAY_SYNCHRONISED_MAX: Duration = Duration::from_secs(60 * 24 * 3600);
/// What was seen of the clock is kept this often while it is believed.
const KEEP_EVERY: Duration = Duration::from_secs(10 * 60);

/// What the clocks show at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) unix: UnixMs,
    pub(super) synchronised: bool,
}

/// Why the calendar is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Nothing keeps the clock right.
    #[error("the head's clock is not synchronised")]
    Unsynchronised,
    /// It shows less than what was seen before.
    #[error("the head's clock is behind the last entry of the journal, of {}", crate::domain::reservation::utc(.latest.0))]
    Behind {
        /// The latest time seen.
        latest: UnixMs,
    },
    /// It made a step, and something keeps it right.
    #[error(
        "the head's clock made a step forward of {}; reservations end again from {}",
        humantime::format_duration(Duration::from_secs(.by.as_secs())),
        crate::domain::reservation::utc(.until.0)
    )]
    Stepped {
        /// How far.
        by: Duration,
        /// When the step is believed.
        until: UnixMs,
    },
    /// It made a step, and nothing keeps it right: nobody knows which time is right.
    #[error(
        "the head's clock made a step forward of {}, and nothing keeps it right; no reservation ends until somebody \
         confirms it",
        humantime::format_duration(Duration::from_secs(.by.as_secs()))
    )]
    Jumped {
        /// How far.
        by: Duration,
    },
}

/// What is known of the head's calendar.
#[derive(Debug)]
pub(super) struct Calendar {
    /// Whether a clock that nothing keeps right is believed.
    trust_unsynchronised: bool,
    /// What a restarted coordinator goes on from.
    known: ClockKept,
    /// What of it is in the store.
    kept: ClockKept,
    last: Option<Reading>,
}

impl Calendar {
    pub(super) fn new(trust_unsynchronised: bool) -> Self {
        let known = ClockKept::default();
        Calendar { trust_unsynchronised, known, kept: known, last: None }
    }

    /// Goes on from what was kept, and from when the last journal entry was written.
    pub(super) fn remember(&mut self, kept: ClockKept, last_entry: UnixMs) {
        (self.known, self.kept) = (kept, kept);
        self.seen(last_entry);
    }

    /// Something happened at `at`: no right clock shows less from now on.
    pub(super) fn seen(&mut self, at: UnixMs) {
        self.known.latest = self.known.latest.max(at);
        self.known.reference = self.known.reference.max(at);
    }

    /// Takes a reading; returns why the calendar is not to be believed.
    pub(super) fn read(&mut self, now: Reading) -> Option<Distrust> {
        if let Some(by) = self.step_before(now) {
            let until = now.synchronised.then(|| now.unix + HOLD);
            self.known.step = Some(ClockStep { by, at: now.unix, until });
        }
        self.last = Some(now);
        if !self.trusts(now) {
            return Some(Distrust::Unsynchronised);
        }
        if now.unix + BACKWARDS_MAX < self.known.reference {
            return Some(Distrust::Behind { latest: self.known.reference });
        }
        self.known.step = self.known.step.filter(|step| is_doubtful(step, now));
        match self.known.step {
            Some(ClockStep { by, until: Some(until), .. }) => Some(Distrust::Stepped { by, until }),
            Some(ClockStep { by, until: None, .. }) => Some(Distrust::Jumped { by }),
            None => {
                self.seen(now.unix);
                None
            }
        }
    }

    fn trusts(&self, reading: Reading) -> bool {
        reading.synchronised || self.trust_unsynchronised
    }

    /// How far the clock went by itself since it was last read, if that is a step.
    fn step_before(&self, now: Reading) -> Option<Duration> {
        let gained = |since: UnixMs| Duration::from_millis(now.unix.0.saturating_sub(since.0));
        match self.last {
            // A clock that becomes right by its first step is believed: what it showed before never was.
            Some(last) if !self.trusts(last) => None,
            Some(last) => {
                let by = gained(last.unix).saturating_sub(now.at.since(last.at));
                (by > FORWARDS_MAX).then_some(by)
            }
            // The first reading: nobody knows how long no coordinator ran, but not for years.
            None if self.known.reference == UnixMs::default() || self.known.step.is_some() => None,
            None => {
                let by = gained(self.known.reference);
                let max = if now.synchronised { AWAY_SYNCHRONISED_MAX } else { AWAY_MAX };
                (by > max).then_some(by)
            }
        }
    }

    /// An administrator says that the clock is right as it is now. The latest time that was seen stays known; a clock
    /// that is behind it counts from now.
    pub(super) fn confirm(&mut self, now: Reading) {
        self.known.step = None;
        self.known.reference = now.unix;
        self.known.latest = self.known.latest.max(now.unix);
        self.last = Some(now);
    }

    /// What is to be kept now, if it is time.
    fn keep_if_due(&mut self) -> Option<ClockKept> {
        let has_changed = self.known.step != self.kept.step
            || self.known.reference < self.kept.reference
            || self.known.reference >= self.kept.reference + KEEP_EVERY;
        has_changed.then(|| {
            self.kept = self.known;
            self.known
        })
    }
}

/// Whether a step is not to be believed yet.
fn is_doubtful(step: &ClockStep, now: Reading) -> bool {
    // A clock that went back where it was takes its step back.
    let has_begun = now.unix + FORWARDS_MAX > step.at;
    match step.until {
        Some(until) => has_begun && until > now.unix,
        // Whatever keeps the clock right now has looked at the step.
        None => has_begun && !now.synchronised,
    }
}

impl Runner {
    /// Ends what is over, if the calendar is believed.
    pub(super) fn follow_calendar(&mut self) {
        let now = self.read_calendar();
        if self.distrust.is_some() {
            return;
        }
        for id in self.endings.due(now) {
            if let Some(request) = self.lives.get(&id).and_then(|held| due(held, now)) {
                self.step(id, &Event::Asked(request), &Actor::Machine, None);
            }
        }
    }

    /// Looks at the calendar, and tells once when it begins or ceases to be believed.
    pub(super) fn read_calendar(&mut self) -> UnixMs {
        let now = reading();
        let distrust = self.calendar.read(now);
        if let Some(clock) = self.calendar.keep_if_due() {
            self.turn.clock = Some(clock);
        }
        if distrust != self.distrust {
            match &distrust {
                Some(why) => tracing::warn!(%why, "no reservation begins or ends, no agent is told the time"),
                None => tracing::info!("the head's clock is believed again"),
            }
            self.distrust = distrust;
            self.board.set_distrust(distrust);
        }
        now.unix
    }

    /// An administrator says that the clock is right as it is now; the journal knows who.
    pub(super) fn confirm_clock(&mut self, user: String) -> Option<Distrust> {
        self.calendar.confirm(reading());
        self.turn.notes.push((Actor::User(user), "clock", "confirmed".into()));
        self.read_calendar();
        self.distrust
    }
}

/// When the calendar ends a deployment, or its open form.
pub(super) fn falls_due(held: &Held) -> Option<UnixMs> {
    let at = held.until.min(held.form_until);
    // Whatever is due at some time is due at the end of both.
    let last = held.until.max(held.form_until);
    let is_open = held.live.deployment.condition == Condition::Open;
    due(held, last).map(|_| if is_open { at } else { held.until })
}

fn reading() -> Reading {
    Reading { at: clock::now(), unix: clock::unix_ms(), synchronised: is_synchronised() }
}

fn due(held: &Held, now: UnixMs) -> Option<Request> {
    let over = now >= held.until;
    match &held.live.deployment.condition {
        Condition::Open if over => Some(Request::ReservationEnded),
        Condition::Open if now >= held.form_until => Some(Request::HoldExpired),
        Condition::Active(Active { purpose, .. }) => {
            let ends = matches!(purpose, Purpose::Destroy(_) | Purpose::Test | Purpose::Isolate(_));
            (over && !ends).then_some(Request::ReservationEnded)
        }
        Condition::Resting(rest) => {
            (over && rest.state != Resting::Quarantined).then_some(Request::ReservationEnded)
        }
        Condition::Open | Condition::Ended(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A calendar that has been right for a while, and how to read it some seconds later.
    struct Bench {
        calendar: Calendar,
        at: u64,
        unix: u64,
        synchronised: bool,
    }

    impl Bench {
        fn new(trust_unsynchronised: bool, synchronised: bool) -> Self {
            let calendar = Calendar::new(trust_unsynchronised);
            let mut bench = Bench { calendar, at: 5_000, unix: 1_795_447_800_000, synchronised };
            bench.pass(0, 0);
            bench
        }

        /// `seconds` go by, and the calendar gains `step` seconds besides.
        fn pass(&mut self, seconds: u64, step: i64) -> Option<Distrust> {
            self.at += seconds * 1000;
            self.unix = (self.unix + seconds * 1000).saturating_add_signed(step * 1000);
            self.calendar.read(self.reading())
        }

        fn reading(&self) -> Reading {
            Reading { at: Instant(self.at), unix: UnixMs(self.unix), synchronised: self.synchronised }
        }

        /// The coordinator starts again `seconds` later, with a clock that gained `step` seconds besides.
        fn restart(&mut self, seconds: u64, step: i64) -> Option<Distrust> {
            let mut calendar = Calendar::new(self.calendar.trust_unsynchronised);
            calendar.remember(self.calendar.known, UnixMs(self.unix));
            self.calendar = calendar;
            self.pass(seconds, step)
        }
    }

    #[test]
    fn a_clock_that_nobody_keeps_right_is_believed_only_by_a_site_that_says_so() {
        assert_eq!(Bench::new(false, false).pass(5, 0), Some(Distrust::Unsynchronised));
        assert_eq!(Bench::new(true, false).pass(5, 0), None);
        assert_eq!(Bench::new(false, true).pass(5, 0), None);
    }

    #[test]
    fn a_clock_behind_what_was_seen_ends_nothing_until_it_has_caught_up() {
        let mut bench = Bench::new(false, true);
        bench.calendar.seen(UnixMs(bench.unix));
        assert_eq!(bench.pass(5, -9), None, "four seconds are nothing");
        assert!(matches!(bench.pass(5, -600), Some(Distrust::Behind { .. })));
        assert!(matches!(bench.pass(500, 0), Some(Distrust::Behind { .. })));
        assert_eq!(bench.pass(100, 0), None);
    }

    #[test]
    fn a_step_forward_ends_nothing_for_an_hour_or_until_it_is_confirmed() {
        let mut bench = Bench::new(false, true);
        assert_eq!(bench.pass(5, 590), None, "ten minutes may be a leap or a suspended head");
        assert!(matches!(bench.pass(5, 7200), Some(Distrust::Stepped { .. })));
        assert!(matches!(bench.pass(3590, 0), Some(Distrust::Stepped { .. })));
        assert_eq!(bench.pass(20, 0), None);
        assert!(matches!(bench.pass(5, 7200), Some(Distrust::Stepped { .. })));
        bench.calendar.confirm(bench.reading());
        assert_eq!(bench.pass(5, 0), None);
    }

    #[test]
    fn a_step_that_is_taken_back_leaves_nothing_behind() {
        let mut bench = Bench::new(false, true);
        assert!(matches!(bench.pass(5, 90_000), Some(Distrust::Stepped { .. })));
        assert_eq!(bench.pass(5, -90_000), None);
        assert_eq!(bench.pass(4000, 0), None);
    }

    #[test]
    fn the_step_by_which_a_clock_becomes_right_is_believed() {
        let mut bench = Bench::new(false, false);
        bench.synchronised = true;
        assert_eq!(bench.pass(5, 86_400), None);
    }

    #[test]
    fn an_administrator_may_confirm_a_clock_that_is_behind() {
        let mut bench = Bench::new(false, true);
        bench.calendar.seen(UnixMs(bench.unix + 86_400_000));
        assert!(matches!(bench.pass(5, 0), Some(Distrust::Behind { .. })));
        let latest = bench.calendar.known.latest;
        bench.calendar.confirm(bench.reading());
        assert_eq!(bench.pass(5, 0), None);
        assert_eq!(bench.calendar.known.latest, latest, "what was seen was seen");
        assert_eq!(bench.restart(5, 0), None, "a restart does not forget what was confirmed");
    }

    const TEN_YEARS: i64 = 10 * 365 * 24 * 3600;

    #[test]
    fn a_clock_that_nothing_keeps_right_and_that_starts_years_ahead_ends_nothing_until_it_is_confirmed() {
        let mut bench = Bench::new(true, false);
        assert!(matches!(bench.restart(5, TEN_YEARS), Some(Distrust::Jumped { .. })));
        assert!(matches!(bench.pass(86_400, 0), Some(Distrust::Jumped { .. })), "time makes no clock right");
        assert!(matches!(bench.restart(86_400, 0), Some(Distrust::Jumped { .. })));
        bench.calendar.confirm(bench.reading());
        assert_eq!(bench.pass(5, 0), None);
    }

    #[test]
    fn a_coordinator_that_was_away_for_a_while_believes_its_clock() {
        assert_eq!(Bench::new(true, false).restart(3000, 0), None);
        assert_eq!(Bench::new(false, true).restart(30 * 86_400, 0), None);
        assert!(matches!(Bench::new(false, true).restart(5, TEN_YEARS), Some(Distrust::Stepped { .. })));
    }

    #[test]
    fn a_step_is_believed_once_something_keeps_the_clock_right() {
        let mut bench = Bench::new(true, false);
        assert!(matches!(bench.pass(5, 7200), Some(Distrust::Jumped { .. })));
        bench.synchronised = true;
        assert_eq!(bench.pass(5, 0), None);
    }

    #[test]
    fn confirming_looks_at_the_clock_when_it_is_called() {
        let mut bench = Bench::new(true, false);
        // The clock is set and confirmed between two readings.
        (bench.at, bench.unix) = (bench.at + 1000, bench.unix + 7_200_000);
        bench.calendar.confirm(bench.reading());
        assert_eq!(bench.pass(5, 0), None);
    }
}

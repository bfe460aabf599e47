//! Reservation times: which forms stayed open too long, which reservations are over, and whether the head's
//! calendar may be believed. Nothing is ended by a clock that is not.

use super::{Held, Runner};
use crate::clock::{self, Instant, UnixMs};
use crate::clock_trust::is_synchronised;
use crate::domain::deployment::{Active, Condition, Purpose, Resting};
use crate::machine::event::{Event, Request};
use crate::store::{Actor, ClockStep, StoreError};
use std::time::Duration;

/// How far behind the latest time that this site has seen the head's clock may be and still be believed.
const BACKWARDS_MAX: Duration = Duration::from_secs(5);
/// A clock that gains more than this at once has made a step.
const FORWARDS_MAX: Duration = Duration::from_secs(10 * 60);
/// For how long a step ends nothing, unless an administrator says that it is right.
const HOLD: Duration = Duration::from_secs(3600);

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
    /// It made a step.
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
}

/// What is known of the head's calendar.
#[derive(Debug)]
pub(super) struct Calendar {
    /// Whether a clock that nothing keeps right is believed.
    trust_unsynchronised: bool,
    /// The latest calendar time that this site has seen.
    latest: UnixMs,
    last: Option<Reading>,
    /// A step that is not believed yet; a restarted coordinator goes on doubting it.
    pub(super) step: Option<ClockStep>,
}

impl Calendar {
    pub(super) fn new(trust_unsynchronised: bool) -> Self {
        Calendar { trust_unsynchronised, latest: UnixMs::default(), last: None, step: None }
    }

    /// Something happened at `at`: no right clock shows less from now on.
    pub(super) fn seen(&mut self, at: UnixMs) {
        self.latest = self.latest.max(at);
    }

    /// Takes a reading; returns why the calendar is not to be believed.
    pub(super) fn read(&mut self, now: Reading) -> Option<Distrust> {
        let trusts = |reading: &Reading| reading.synchronised || self.trust_unsynchronised;
        // A clock that becomes right by its first step is believed: what it showed before never was.
        if let Some(last) = self.last.filter(trusts) {
            let gained = Duration::from_millis(now.unix.0.saturating_sub(last.unix.0));
            let by = gained.saturating_sub(now.at.since(last.at));
            if by > FORWARDS_MAX {
                self.step = Some(ClockStep { by, until: now.unix + HOLD });
            }
        }
        self.last = Some(now);
        if !trusts(&now) {
            return Some(Distrust::Unsynchronised);
        }
        if now.unix + BACKWARDS_MAX < self.latest {
            return Some(Distrust::Behind { latest: self.latest });
        }
        // A clock that went back where it was takes its step back.
        let has_begun = |step: &ClockStep| now.unix + HOLD + FORWARDS_MAX > step.until;
        self.step = self.step.filter(|step| step.until > now.unix && has_begun(step));
        self.step.map(|ClockStep { by, until }| Distrust::Stepped { by, until })
    }

    /// An administrator says that the clock is right as it is now.
    pub(super) fn confirm(&mut self) {
        self.step = None;
        if let Some(last) = self.last {
            self.latest = last.unix;
        }
    }
}

impl Runner {
    /// Ends what is over, if the calendar is believed.
    pub(super) async fn follow_calendar(&mut self) -> Result<(), StoreError> {
        let now = self.read_calendar().await?;
        if self.distrust.is_some() {
            return Ok(());
        }
        for id in self.endings.due(now) {
            if let Some(request) = self.lives.get(&id).and_then(|held| due(held, now)) {
                self.step(id, &Event::Asked(request), &Actor::Machine, None);
            }
        }
        Ok(())
    }

    /// Looks at the calendar, and tells once when it begins or ceases to be believed.
    pub(super) async fn read_calendar(&mut self) -> Result<UnixMs, StoreError> {
        let now = Reading { at: clock::now(), unix: clock::unix_ms(), synchronised: is_synchronised() };
        let step = self.calendar.step;
        let distrust = self.calendar.read(now);
        if self.calendar.step != step {
            self.store.keep_clock_step(self.calendar.step).await?;
        }
        if distrust != self.distrust {
            match &distrust {
                Some(why) => tracing::warn!(%why, "no reservation begins or ends, no agent is told the time"),
                None => tracing::info!("the head's clock is believed again"),
            }
            self.distrust = distrust;
            self.board.set_distrust(distrust);
        }
        Ok(now.unix)
    }

    /// An administrator says that the clock is right as it is now; the journal knows who.
    pub(super) async fn confirm_clock(&mut self, user: String) -> Result<Option<Distrust>, StoreError> {
        let now = clock::unix_ms();
        self.store.note(now, Actor::User(user), "clock", "confirmed".into()).await?;
        self.calendar.confirm();
        self.store.keep_clock_step(None).await?;
        self.read_calendar().await?;
        Ok(self.distrust)
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
            self.calendar.read(Reading {
                at: Instant(self.at),
                unix: UnixMs(self.unix),
                synchronised: self.synchronised,
            })
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
        bench.calendar.confirm();
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
        bench.calendar.confirm();
        assert_eq!(bench.pass(5, 0), None);
    }
}

//! A deployment with its clocks. The clocks live in memory only: after a coordinator start every
//! deadline begins afresh.

use crate::clock::Instant;
use crate::domain::boot_evidence::PortProof;
use crate::domain::deployment::{Active, Deployment, Phase};
use crate::machine::event::Asked;
use crate::machine::policy::Policy;
use crate::machine::table::{self, Limit};
use piseduce_protocol::state::State;
use std::time::Duration;

/// When something happens, and how things stood with us then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Now.
    pub at: Instant,
    /// Since when our own broker link is up; none while it is down.
    pub link_since: Option<Instant>,
}

/// A deployment and its clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// What is stored.
    pub deployment: Deployment,
    /// What is not.
    pub clocks: Clocks,
}

/// How long what has been going on. Durations leave pauses out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Up to when time was counted.
    pub counted_to: Instant,
    /// Time without progress, restarts included.
    pub blocked: Duration,
    /// Time without progress since the last restart.
    pub idle: Duration,
    /// Time in the present phase, pauses included.
    pub in_phase: Duration,
    /// When the present phase began.
    pub phase_began: Instant,
    /// The furthest progress of the present work.
    pub high_water: u64,
    /// When the node was last powered on.
    pub powered_on: Option<Instant>,
    /// How far the firmware is since the node was powered on or told to reboot.
    pub asked: Option<Asked>,
    /// What the present power job showed beside its end.
    pub port: Option<PortProof>,
    /// When the last heartbeat came.
    pub last_beat: Option<Instant>,
}

impl Clocks {
    /// Whether the firmware asked for files since the node was powered on or told to reboot.
    pub fn asked_for_files(&self) -> bool {
        self.asked.is_some_and(Asked::is_for_files)
    }
}

impl Live {
    /// A deployment taken up at `now`.
    pub fn new(deployment: Deployment, now: Instant) -> Self {
        let clocks = Clocks { counted_to: now, phase_began: now, ..Clocks::default() };
        Live { deployment, clocks }
    }

    /// Adds the time since it was last counted.
    pub(crate) fn count(&mut self, moment: Moment, policy: &Policy) {
        let from = self.clocks.counted_to;
        self.clocks.in_phase += moment.at.since(from);
        if let Some(begins) = self.counts_from(moment, policy) {
            let counted = moment.at.since(begins.max(from));
            self.clocks.blocked += counted;
            self.clocks.idle += counted;
        }
        self.clocks.counted_to = moment.at;
    }

    /// From when on silence counts against the node; none while it does not.
    fn counts_from(&self, moment: Moment, policy: &Policy) -> Option<Instant> {
        let active = self.deployment.active()?;
        match active.phase {
            Phase::Off | Phase::On | Phase::Admission | Phase::Stopping(_) => None,
            Phase::Leaving | Phase::Work if hears_by_link(active) => {
                moment.link_since.map(|since| since + policy.link_settle)
            }
            Phase::Leaving | Phase::Work => Some(Instant::default()),
        }
    }

    /// Nothing could be decided until `now`: the time since it was last counted counts for nothing.
    pub fn forgive_until(&mut self, now: Instant) {
        self.clocks.counted_to = now;
    }

    /// When the next deadline falls due if nothing happens; none while clocks stand still or nothing is due.
    pub fn deadline(&self, moment: Moment, policy: &Policy) -> Option<Instant> {
        let active = self.deployment.active()?;
        let from = self.clocks.counted_to;
        let in_phase = |max: Duration| from + max.saturating_sub(self.clocks.in_phase);
        match active.phase {
            Phase::Admission => None,
            Phase::Stopping(_) => Some(in_phase(policy.stop_max)),
            Phase::Leaving => Some(in_phase(policy.leave_max)),
            Phase::Off | Phase::On => Some(in_phase(policy.power_max)),
            Phase::Work => {
                let begins = self.counts_from(moment, policy)?.max(from);
                let blocked = self.blocked_max(policy).saturating_sub(self.clocks.blocked);
                let idle = self.restart_after(policy).map(|max| max.saturating_sub(self.clocks.idle));
                Some(begins + idle.map_or(blocked, |idle| idle.min(blocked)))
            }
        }
    }

    /// How long the present work may be without progress before the node is lost.
    pub fn blocked_max(&self, policy: &Policy) -> Duration {
        let script_seconds = self.deployment.form.as_ref().map_or(0, |form| form.script_seconds);
        table::blocked_max(self.limit(), policy, script_seconds)
    }

    /// How long the present work may be without progress before it is restarted.
    pub fn restart_after(&self, policy: &Policy) -> Option<Duration> {
        table::restart_after(self.limit(), policy)
    }

    /// The limits of the present state.
    pub fn limit(&self) -> Limit {
        table::limit(self.deployment.state())
    }

    /// Whether a heartbeat came lately.
    pub fn beats(&self, now: Instant, policy: &Policy) -> bool {
        self.clocks.last_beat.is_some_and(|beat| now.since(beat) <= policy.beat_max)
    }
}

/// Whether the sign of life of this work comes over our broker link.
fn hears_by_link(active: &Active) -> bool {
    active.state == State::NfsBootOn || active.state.is_agents()
}

//! What a node needs after power was gone at its switch, and what was done about it. Decides; does nothing.

use crate::clock::Instant;
use crate::domain::deployment::{Condition, Phase, Resting};
use crate::domain::node::NodeId;
use crate::machine::Live;
use crate::power::Reading;
use piseduce_protocol::id::{DeploymentId, Seq};
use piseduce_protocol::state::State;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An agent that was not cut off finds its link again within this time: five heartbeats.
const BEAT_WITHIN: Duration = Duration::from_secs(25);
/// What a node on a recovering switch needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// To be switched off: nobody has it.
    Off,
    /// To be powered again, or asked again: what it did is lost.
    Again,
    /// To show within this time that it lives.
    Sign(Duration),
}

/// What a node must do before its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) off: bool,
    pub(super) until: Instant,
}

/// The recovery of one switch.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) restarted: bool,
    pub(super) is_read: bool,
    /// What was asked for at each node when the ports began to be read.
    pub(super) before: BTreeMap<NodeId, Option<(DeploymentId, Seq)>>,
    pub(super) expected: BTreeMap<NodeId, Expected>,
    pub(super) looked: Instant,
    pub(super) switched_off: BTreeSet<String>,
    pub(super) again: BTreeSet<String>,
    pub(super) unproven: BTreeSet<String>,
    pub(super) nodes: usize,
}

/// What `live` needs of a port that shows `reading`; none: nobody knows what it shows.
pub(super) fn need(
    live: Option<&Live>,
    reading: Option<Reading>,
    restarted: bool,
    sign_within: Duration,
) -> Need {
    let is_on = reading.is_none_or(|reading| reading.on && reading.delivering != Some(false));
    let off_or_nothing = if is_on { Need::Off } else { Need::Nothing };
    let Some(live) = live else { return off_or_nothing };
    let dark = |else_: Need| if reading.is_some() && !is_on { Need::Again } else { else_ };
    match &live.deployment.condition {
        Condition::Open | Condition::Ended(_) => off_or_nothing,
        Condition::Resting(rest) => match rest.state {
            Resting::Quarantined => off_or_nothing,
            Resting::Deployed => dark(if restarted { Need::Sign(sign_within) } else { Need::Nothing }),
            // They rest on their cause, and somebody may want to look at them as they are.
            Resting::Lost | Resting::Failed => Need::Nothing,
        },
        Condition::Active(active) => match (&active.phase, active.state) {
            (Phase::Admission, _) | (Phase::Work, State::NfsBootConf | State::EnvBootConf) => Need::Nothing,
            (Phase::Off | Phase::On, _) => {
                if restarted {
                    Need::Again
                } else {
                    Need::Nothing
                }
            }
            // All that were booting are booting again, at once and without admission.
            (Phase::Work, State::NfsBootOn | State::EnvBoot | State::TurnOn) => {
                dark(if restarted { Need::Again } else { Need::Nothing })
            }
            (Phase::Work, State::UserScript) => {
                dark(if restarted { Need::Sign(sign_within) } else { Need::Nothing })
            }
            (Phase::Work | Phase::Leaving | Phase::Stopping(_), _) => {
                dark(if restarted { Need::Sign(BEAT_WITHIN) } else { Need::Nothing })
            }
        },
    }
}

impl Recovery {
    /// What was done at a switch, for people.
    pub(super) fn told(&self, switch: &str) -> String {
        let why = if self.restarted { "restarted" } else { "was found when the coordinator started" };
        let mut told = format!("switch {switch} {why}");
        for (what, names) in [
            ("free, switched off", &self.switched_off),
            ("powered again", &self.again),
            ("free, could not be proven off", &self.unproven),
        ] {
            if !names.is_empty() {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                told += &format!(", {what}: {}", names.join(" "));
            }
        }
        let touched = self.switched_off.len() + self.again.len() + self.unproven.len();
        told + &format!(
            ", {} of {} nodes were as they should be",
            self.nodes.saturating_sub(touched),
            self.nodes
        )
    }
}

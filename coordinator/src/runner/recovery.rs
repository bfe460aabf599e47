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

/// Whether a port gives power to what hangs there.
pub(super) fn is_on(reading: Reading) -> bool {
    reading.on && reading.delivering != Some(false)
}

/// What `live` needs of a port that shows `reading`; none: nobody knows what it shows.
pub(super) fn need(
    live: Option<&Live>,
    reading: Option<Reading>,
    restarted: bool,
    sign_within: Duration,
) -> Need {
    let may_be_on = reading.is_none_or(is_on);
    let off_or_nothing = if may_be_on { Need::Off } else { Need::Nothing };
    let Some(live) = live else { return off_or_nothing };
    let dark = |else_: Need| if !may_be_on { Need::Again } else { else_ };
    match &live.deployment.condition {
        Condition::Open | Condition::Ended(_) => off_or_nothing,
        Condition::Resting(rest) => match rest.state {
            Resting::Quarantined => off_or_nothing,
            Resting::Deployed => dark(if restarted { Need::Sign(sign_within) } else { Need::Nothing }),
            // They rest on their cause, and somebody may want to look at them as they are.
            Resting::Lost | Resting::Failed => Need::Nothing,
        },
        Condition::Active(active) => match (&active.phase, active.state) {
            (Phase::Work, State::NfsBootConf | State::EnvBootConf) => Need::Nothing,
            // It is to wait without power: one that a switch gave it boots without a token, and goes no further.
            (Phase::Admission, _) => {
                if reading.is_some_and(is_on) {
                    Need::Again
                } else {
                    Need::Nothing
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::deployment::{Active, Deployment, Purpose, Rest};
    use piseduce_protocol::id::BootNumber;

    const ON: Option<Reading> = Some(Reading { on: true, delivering: Some(true) });
    const OFF: Option<Reading> = Some(Reading { on: false, delivering: Some(false) });
    const DARK: Option<Reading> = Some(Reading { on: true, delivering: Some(false) });
    const WITHIN: Duration = Duration::from_secs(200);

    fn live(condition: Condition) -> Live {
        let mut live = Live::new(Deployment::open(DeploymentId(1), BootNumber(1), None), Instant::default());
        live.deployment.condition = condition;
        live
    }

    fn active(state: State, phase: Phase) -> Condition {
        Condition::Active(Active { purpose: Purpose::Deploy, state, phase })
    }

    fn rests(state: Resting) -> Condition {
        Condition::Resting(Rest { state, cause: None })
    }

    #[test]
    fn nodes_are_brought_to_what_is_stored() {
        let beat = Need::Sign(BEAT_WITHIN);
        let sign = Need::Sign(WITHIN);
        // Condition; what is needed when the switch restarted and the port is on, when it did not, when there is no power.
        for (condition, restarted, started, dark) in [
            (Condition::Open, Need::Off, Need::Off, Need::Nothing),
            (rests(Resting::Quarantined), Need::Off, Need::Off, Need::Nothing),
            (rests(Resting::Lost), Need::Nothing, Need::Nothing, Need::Nothing),
            (rests(Resting::Deployed), sign, Need::Nothing, Need::Again),
            (active(State::UserScript, Phase::Work), sign, Need::Nothing, Need::Again),
            (active(State::EnvCopy, Phase::Work), beat, Need::Nothing, Need::Again),
            (active(State::EnvBoot, Phase::Leaving), beat, Need::Nothing, Need::Again),
            (active(State::NfsBootOn, Phase::Work), Need::Again, Need::Nothing, Need::Again),
            (active(State::NfsBootOff, Phase::Off), Need::Again, Need::Nothing, Need::Nothing),
            (active(State::NfsBootOn, Phase::Admission), Need::Again, Need::Again, Need::Nothing),
            (active(State::NfsBootConf, Phase::Work), Need::Nothing, Need::Nothing, Need::Nothing),
        ] {
            let live = live(condition);
            let told = format!("{:?}", live.deployment.condition);
            assert_eq!(need(Some(&live), ON, true, WITHIN), restarted, "restarted: {told}");
            assert_eq!(need(Some(&live), ON, false, WITHIN), started, "started: {told}");
            for reading in [OFF, DARK] {
                assert_eq!(need(Some(&live), reading, false, WITHIN), dark, "dark: {told}");
            }
        }
        assert_eq!(need(None, ON, false, WITHIN), Need::Off);
        assert_eq!(need(None, OFF, false, WITHIN), Need::Nothing);
        assert_eq!(need(None, None, false, WITHIN), Need::Off, "a blind board is told so");
        let deployed = live(rests(Resting::Deployed));
        assert_eq!(need(Some(&deployed), None, false, WITHIN), Need::Nothing, "and cuts nobody off");
    }
}

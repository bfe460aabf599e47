//! Who may be powered on now. Racks powered on at once do not all netboot (22 Pi 3 on one switch: 3 came
//! up, raspberrypi/firmware issue 764), so every power-on passes here: a number of boots at a time on
//! each switch, and a pause between two. Slots are counted from the states, never kept in a counter.

use super::live::Live;
use super::policy::Policy;
use crate::clock::Instant;
use crate::domain::deployment::Phase;
use piseduce_protocol::id::DeploymentId;
use piseduce_protocol::state::State;
use std::collections::HashMap;

/// A deployment with the number of the switch that powers its node.
pub type OnSwitch<'a> = (u64, &'a Live);

/// Who may go, and when to look again if somebody only waits for the pause to be over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Those to be powered on now.
    pub admitted: Vec<DeploymentId>,
    /// When a pause ends for which somebody waits.
    pub look_again: Option<Instant>,
}

#[derive(Default)]
struct Switch {
    in_flight: usize,
    last_on: Option<Instant>,
    waiting: Vec<(Instant, DeploymentId)>,
}

/// Decides for all switches at once; at most one node a switch, because the pause follows each.
pub fn admit<'a>(all: impl Iterator<Item = OnSwitch<'a>>, now: Instant, policy: &Policy) -> Admission {
    let mut switches: HashMap<u64, Switch> = HashMap::new();
    for (switch, live) in all {
        let switch = switches.entry(switch).or_default();
        switch.last_on = switch.last_on.max(live.clocks.powered_on);
        let Some(active) = live.deployment.active() else { continue };
        if active.phase == Phase::Admission {
            switch.waiting.push((live.clocks.phase_began, live.deployment.id));
        }
        switch.in_flight += usize::from(is_in_flight(live));
    }
    let mut admission = Admission::default();
    for switch in switches.into_values() {
        let Some((_, first)) = switch.waiting.iter().min() else { continue };
        if switch.in_flight >= policy.boots_in_flight {
            continue;
        }
        match switch.last_on.map(|last| last + policy.boot_spacing).filter(|free| *free > now) {
            None => admission.admitted.push(*first),
            Some(free) => {
                admission.look_again = Some(admission.look_again.map_or(free, |other| other.min(free)));
            }
        }
    }
    admission.admitted.sort();
    admission
}

/// Whether a node is between power-on and sign of life, and so takes one of its switch's places.
pub fn is_in_flight(live: &Live) -> bool {
    live.deployment.active().is_some_and(|active| match active.phase {
        Phase::On => true,
        Phase::Work => boots(active.state) && !live.clocks.asked,
        Phase::Admission | Phase::Off | Phase::Leaving | Phase::Stopping(_) => false,
    })
}

fn boots(state: State) -> bool {
    matches!(state, State::NfsBootOn | State::EnvBoot | State::TurnOn)
}

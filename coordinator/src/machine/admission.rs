//! Who may be powered on now. Racks powered on at once do not all netboot (22 Pi 3 on one switch: 3 came
//! up, raspberrypi/firmware issue 764), so every power-on passes here: a number of boots at a time on
//! each switch, a pause between two, and the power that the switch has. Places are counted from the states, never
//! kept in a counter.

use super::live::Live;
use super::policy::Policy;
use crate::clock::Instant;
use crate::domain::deployment::Phase;
use piseduce_protocol::id::DeploymentId;
use piseduce_protocol::state::State;
use std::collections::HashMap;
use std::time::Duration;

/// A deployment, and what powering its node means.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The number of the switch that powers its node.
    pub switch: u64,
    /// The deployment.
    pub live: &'a Live,
    /// Whether its node is of a model that boots slowly and in small numbers: a Pi 3.
    pub is_slow: bool,
    /// What its node may draw, in watts.
    pub watts: u32,
}

/// What a switch has to give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Supply {
    /// What all its outlets together may deliver, in watts; none: no limit is known.
    pub budget_watts: Option<u32>,
    /// What the nodes that are on, or may be, draw at most.
    pub drawn_watts: u32,
}

/// What somebody who waits is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// One of so many places to boot, all of which are taken; whether it is those of slow models.
    Places(usize, bool),
    /// The end of the pause after the last power-on, or who came before.
    Turn,
    /// Power: the budget, what is drawn of it, and what the node may draw, in watts.
    Watts {
        /// What the switch may deliver.
        budget: u32,
        /// What is drawn.
        drawn: u32,
        /// What the node may draw.
        needed: u32,
    },
}

/// Who may go, what the others wait for, and when to look again if somebody only waits for a pause to be over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Those to be powered on now.
    pub admitted: Vec<DeploymentId>,
    /// Those who wait.
    pub lacking: Vec<(DeploymentId, Lack)>,
    /// When a pause ends for which somebody waits.
    pub look_again: Option<Instant>,
}

#[derive(Default)]
struct Switch<'a> {
    in_flight: usize,
    slow_in_flight: usize,
    last_on: Option<Instant>,
    waiting: Vec<Candidate<'a>>,
}

/// Decides for all switches at once; at most one node a switch, because the pause follows each.
pub fn admit<'a>(
    all: impl Iterator<Item = Candidate<'a>>,
    supplies: &HashMap<u64, Supply>,
    now: Instant,
    policy: &Policy,
) -> Admission {
    let mut switches: HashMap<u64, Switch<'_>> = HashMap::new();
    for candidate in all {
        let live = candidate.live;
        let switch = switches.entry(candidate.switch).or_default();
        switch.last_on = switch.last_on.max(live.clocks.powered_on);
        if live.deployment.active().is_some_and(|active| active.phase == Phase::Admission) {
            switch.waiting.push(candidate);
        }
        if is_in_flight(live) {
            switch.in_flight += 1;
            switch.slow_in_flight += usize::from(candidate.is_slow);
        }
    }
    let mut admission = Admission::default();
    for (id, mut switch) in switches {
        switch
            .waiting
            .sort_by_key(|candidate| (candidate.live.clocks.phase_began, candidate.live.deployment.id));
        let supply = supplies.get(&id).copied().unwrap_or_default();
        let mut is_taken = false;
        for candidate in &switch.waiting {
            let deployment = candidate.live.deployment.id;
            let pause_ends =
                switch.last_on.map(|last| last + pause(candidate, policy)).filter(|end| *end > now);
            match lack(candidate, &switch, supply, policy) {
                Some(lack) => admission.lacking.push((deployment, lack)),
                None if is_taken => admission.lacking.push((deployment, Lack::Turn)),
                None => match pause_ends {
                    None => {
                        admission.admitted.push(deployment);
                        is_taken = true;
                    }
                    Some(end) => {
                        admission.lacking.push((deployment, Lack::Turn));
                        admission.look_again = Some(admission.look_again.map_or(end, |other| other.min(end)));
                    }
                },
            }
        }
    }
    admission.admitted.sort();
    admission
}

fn pause(candidate: &Candidate<'_>, policy: &Policy) -> Duration {
    if candidate.is_slow { policy.boot_spacing_pi3 } else { policy.boot_spacing }
}

/// What the switch has not got for this one, whatever the time.
fn lack(candidate: &Candidate<'_>, switch: &Switch<'_>, supply: Supply, policy: &Policy) -> Option<Lack> {
    if candidate.is_slow && switch.slow_in_flight >= policy.boots_in_flight_pi3 {
        return Some(Lack::Places(policy.boots_in_flight_pi3, true));
    }
    if switch.in_flight >= policy.boots_in_flight {
        return Some(Lack::Places(policy.boots_in_flight, false));
    }
    let budget = supply.budget_watts?;
    let (drawn, needed) = (supply.drawn_watts, candidate.watts);
    (drawn.saturating_add(needed) > budget).then_some(Lack::Watts { budget, drawn, needed })
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

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

/// Who wants to be powered on, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// A deployment's node.
    Deployment(DeploymentId),
    /// An operator's order, by its number.
    Order(u64),
}

/// Something on a port of a switch, and what powering it means.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The number of the switch.
    pub switch: u64,
    /// Who it is.
    pub who: Who,
    /// Since when it waits to be powered on; none: it does not.
    pub waits_since: Option<Instant>,
    /// Whether it takes a place, between power-on and sign of life.
    pub is_in_flight: bool,
    /// When it was last powered on.
    pub powered_on: Option<Instant>,
    /// Whether its node is of a model that boots slowly and in small numbers: a Pi 3.
    pub is_slow: bool,
    /// What its node may draw, in watts.
    pub watts: u32,
}

impl Candidate {
    /// A deployment whose node is on this switch.
    pub fn of(live: &Live, switch: u64, is_slow: bool, watts: u32) -> Self {
        let waits = live.deployment.active().is_some_and(|active| active.phase == Phase::Admission);
        Candidate {
            switch,
            who: Who::Deployment(live.deployment.id),
            waits_since: waits.then_some(live.clocks.phase_began),
            is_in_flight: is_in_flight(live),
            powered_on: live.clocks.powered_on,
            is_slow,
            watts,
        }
    }
}

/// What a switch may deliver, and what of it is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// What all its outlets together may deliver, in watts; none: no limit is known.
    pub watts: Option<u32>,
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
    pub admitted: Vec<Who>,
    /// Those who wait.
    pub lacking: Vec<(Who, Lack)>,
    /// When a pause ends for which somebody waits.
    pub look_again: Option<Instant>,
}

#[derive(Default)]
struct Switch {
    in_flight: usize,
    slow_in_flight: usize,
    last_on: Option<Instant>,
    waiting: Vec<(Instant, Candidate)>,
}

/// Decides for all switches at once; at most one node a switch, because the pause follows each.
pub fn admit(
    all: impl Iterator<Item = Candidate>,
    budgets: &HashMap<u64, Budget>,
    now: Instant,
    policy: &Policy,
) -> Admission {
    let mut switches: HashMap<u64, Switch> = HashMap::new();
    for candidate in all {
        let switch = switches.entry(candidate.switch).or_default();
        switch.last_on = switch.last_on.max(candidate.powered_on);
        if let Some(since) = candidate.waits_since {
            switch.waiting.push((since, candidate));
        }
        if candidate.is_in_flight {
            switch.in_flight += 1;
            switch.slow_in_flight += usize::from(candidate.is_slow);
        }
    }
    let mut admission = Admission::default();
    for (id, mut switch) in switches {
        switch.waiting.sort_by_key(|(since, candidate)| (*since, candidate.who));
        let budget = budgets.get(&id).copied().unwrap_or_default();
        let mut is_taken = false;
        for (_, candidate) in &switch.waiting {
            let who = candidate.who;
            let pause_ends = switch
                .last_on
                .map(|last| last + policy.boot_spacing_of(candidate.is_slow))
                .filter(|end| *end > now);
            match lack(candidate, &switch, budget, policy) {
                Some(lack) => admission.lacking.push((who, lack)),
                None if is_taken => admission.lacking.push((who, Lack::Turn)),
                None => match pause_ends {
                    None => {
                        admission.admitted.push(who);
                        is_taken = true;
                    }
                    Some(end) => {
                        admission.lacking.push((who, Lack::Turn));
                        admission.look_again = Some(admission.look_again.map_or(end, |other| other.min(end)));
                    }
                },
            }
        }
    }
    admission.admitted.sort();
    admission
}

/// What the switch has not got for this one, whatever the time.
fn lack(candidate: &Candidate, switch: &Switch, budget: Budget, policy: &Policy) -> Option<Lack> {
    if candidate.is_slow && switch.slow_in_flight >= policy.boots_in_flight_pi3 {
        return Some(Lack::Places(policy.boots_in_flight_pi3, true));
    }
    if switch.in_flight >= policy.boots_in_flight {
        return Some(Lack::Places(policy.boots_in_flight, false));
    }
    let (drawn, needed) = (budget.drawn_watts, candidate.watts);
    let budget = budget.watts?;
    (drawn.saturating_add(needed) > budget).then_some(Lack::Watts { budget, drawn, needed })
}

/// Whether a node is between power-on and sign of life, and so takes one of its switch's places.
pub fn is_in_flight(live: &Live) -> bool {
    live.deployment.active().is_some_and(|active| match active.phase {
        Phase::On => true,
        Phase::Work => boots(active.state) && !live.clocks.asked_for_files(),
        Phase::Admission | Phase::Off | Phase::Leaving | Phase::Stopping(_) => false,
    })
}

fn boots(state: State) -> bool {
    matches!(state, State::NfsBootOn | State::EnvBoot | State::TurnOn)
}

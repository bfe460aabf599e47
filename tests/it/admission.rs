//! Who may be powered on: a number of boots a switch, a pause between two, first come first served, and no more than
//! the switch can power.

use crate::machine::{Bench, happy_path};
use piseduce_coordinator::clock::Instant;
use piseduce_coordinator::machine::admission::{Admission, Budget, Candidate, Lack, Who, admit};
use piseduce_coordinator::machine::event::{Asked, Sign};
use piseduce_coordinator::machine::{Live, Policy};
use piseduce_protocol::id::DeploymentId;
use std::collections::HashMap;
use std::time::Duration;

const NOW: Instant = Instant(5_000_000);

/// Deployment `id` that waits to be powered on since `since` seconds.
fn waiting(id: u64, since: u64) -> Live {
    let mut bench = Bench::open();
    happy_path()[..3].iter().for_each(|make| bench.step(*make));
    bench.live.deployment.id = DeploymentId(id);
    bench.live.clocks.phase_began = Instant(NOW.0 - since * 1000);
    bench.live
}

/// Deployment `id` that was powered on `since` seconds ago.
fn booting(id: u64, since: u64) -> Live {
    let mut bench = Bench::open();
    happy_path()[..3].iter().for_each(|make| bench.step(*make));
    bench.see(Sign::Admitted);
    bench.live.deployment.id = DeploymentId(id);
    bench.live.clocks.powered_on = Some(Instant(NOW.0 - since * 1000));
    bench.live
}

fn deployment(id: u64) -> Who {
    Who::Deployment(DeploymentId(id))
}

fn decide(lives: &[(u64, Live)], is_slow: bool, budget: Budget, policy: &Policy) -> Admission {
    let candidates = lives.iter().map(|(switch, live)| Candidate::of(live, *switch, is_slow, 10));
    admit(candidates, &HashMap::from([(1, budget)]), NOW, policy)
}

fn admitted(lives: &[(u64, Live)], policy: &Policy) -> (Vec<u64>, Option<Duration>) {
    let admission = decide(lives, false, Budget::default(), policy);
    let id = |who: &Who| match who {
        Who::Deployment(DeploymentId(id)) | Who::Order(id) => *id,
    };
    (admission.admitted.iter().map(id).collect(), admission.look_again.map(|at| at.since(NOW)))
}

#[test]
fn one_a_switch_and_who_waits_longest_goes_first() {
    let lives = [(1, waiting(1, 5)), (1, waiting(2, 9)), (2, waiting(3, 1)), (1, waiting(4, 9))];
    assert_eq!(admitted(&lives, &Policy::default()), (vec![2, 3], None));
}

#[test]
fn a_pause_is_kept_between_two_power_ons_of_one_switch() {
    let lives = [(1, booting(1, 1)), (1, waiting(2, 9)), (2, booting(3, 2)), (2, waiting(4, 1))];
    assert_eq!(admitted(&lives, &Policy::default()), (vec![4], Some(Duration::from_secs(1))));
}

#[test]
fn a_full_switch_waits_for_signs_of_life() {
    let policy = Policy { boots_in_flight: 2, ..Policy::default() };
    let mut lives = vec![(1, booting(1, 60)), (1, booting(2, 50)), (1, waiting(3, 9))];
    assert_eq!(admitted(&lives, &policy), (vec![], None));
    // The firmware of one asked for its boot view once its port was shown to deliver.
    let booted = &mut lives[0].1;
    booted.deployment.condition = {
        use piseduce_coordinator::domain::deployment::{Active, Condition, Phase};
        let active = booted.deployment.active().unwrap().clone();
        Condition::Active(Active { phase: Phase::Work, ..active })
    };
    assert_eq!(admitted(&lives, &policy), (vec![], None), "delivering alone is no sign of life");
    lives[0].1.clocks.asked = Some(Asked::New);
    assert_eq!(admitted(&lives, &policy), (vec![3], None));
}

#[test]
fn pi_3s_boot_in_smaller_numbers_and_longer_pauses() {
    let lives = [(1, booting(1, 9)), (1, waiting(2, 9))];
    let admission = decide(&lives, true, Budget::default(), &Policy::default());
    assert_eq!((admission.admitted.len(), admission.look_again), (0, Some(NOW + Duration::from_secs(1))));
    let lives = [(1, booting(1, 60)), (1, booting(2, 50)), (1, waiting(3, 9))];
    let admission = decide(&lives, true, Budget::default(), &Policy::default());
    assert_eq!(admission.lacking, vec![(deployment(3), Lack::Places(2, true))]);
}

#[test]
fn nobody_is_powered_on_beyond_the_budget_and_a_smaller_one_may_pass() {
    let lives = [(1, waiting(1, 9)), (1, waiting(2, 5))];
    let budget = |drawn_watts| Budget { watts: Some(60), drawn_watts };
    let admission = decide(&lives, false, budget(51), &Policy::default());
    let lack = Lack::Watts { budget: 60, drawn: 51, needed: 10 };
    assert_eq!(admission.admitted, vec![]);
    assert_eq!(admission.lacking, vec![(deployment(1), lack), (deployment(2), lack)]);
    let admission = decide(&lives, false, budget(50), &Policy::default());
    assert_eq!(admission.admitted, vec![deployment(1)], "one after the other, as each draws more");

    let candidates = [(&lives[0].1, 20), (&lives[1].1, 5)];
    let candidates = candidates.map(|(live, watts)| Candidate::of(live, 1, false, watts)).into_iter();
    let admission = admit(candidates, &HashMap::from([(1, budget(50))]), NOW, &Policy::default());
    assert_eq!(admission.admitted, vec![deployment(2)]);
}

//! Reservations that end, and head nodes whose clock is not to be believed.

use piseduce_coordinator::api::CoordinatorView;
use piseduce_protocol::state::State;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::wait::wait_for;

/// Why the coordinator does not believe its clock.
fn distrust(lab: &Lab) -> Option<String> {
    let view = lab.coordinator.get::<CoordinatorView>(USER, "coordinator");
    view.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.coordinator.logged())).clock
}

fn wait_for_distrust(lab: &Lab, expected: &str) {
    let is_it = |why: &Option<String>| why.as_ref().is_some_and(|why| why.contains(expected));
    wait_for(&format!("`{expected}`"), 30.0, || distrust(lab), is_it);
}

#[test]
fn a_reservation_ends_with_its_deployed_node_once_the_clock_is_believed() {
    let mut lab = Lab::new(1);
    lab.deploy(&[]);
    let id = lab.wait_for(0, State::Deployed, 60.0).id;
    lab.coordinator.kill();
    lab.coordinator.set_clock("+0").unwrap();
    lab.coordinator.resume().unwrap();

    // It has read its clock once when it answers whoever asks for something.
    let refused = lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap_err().to_string();
    assert!(refused.contains("you hold node `pi-1` yourself until 20"), "{refused}");

    // Somebody sets the head's clock; nobody loses their node by that.
    lab.coordinator.set_clock("+5h").unwrap();
    wait_for_distrust(&lab, "made a step forward of");
    assert_eq!(lab.status(0).unwrap().state, State::Deployed);
    lab.coordinator.kill();
    lab.coordinator.resume().unwrap();
    wait_for_distrust(&lab, "made a step forward of");
    assert_eq!(lab.status(0).unwrap().state, State::Deployed, "a restart does not make the step right");
    let refused = lab.coordinator.cli(USER, &["clock", "confirm"]).unwrap_err().to_string();
    assert!(refused.contains("user ann may not do this"), "{refused}");

    lab.coordinator.cli(ADMIN, &["clock", "confirm"]).unwrap();
    assert_eq!(distrust(&lab), None);
    lab.wait_until_free(0, 60.0);
    assert_eq!(lab.history(id).deployment.status.cause.unwrap().to_string(), "reservation_ended");
    assert!(!lab.rack.is_on(0));
}

#[test]
fn a_coordinator_that_starts_years_ahead_ends_nothing_until_its_clock_is_confirmed() {
    let mut lab = Lab::new(1);
    lab.deploy(&[]);
    let id = lab.wait_for(0, State::Deployed, 60.0).id;
    lab.coordinator.kill();
    lab.coordinator.set_clock("+10y").unwrap();
    lab.coordinator.resume().unwrap();
    wait_for_distrust(&lab, "made a step forward of");
    let refused = lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap_err().to_string();
    assert!(refused.contains("`piseduce clock confirm`"), "{refused}");
    lab.coordinator.kill();
    lab.coordinator.resume().unwrap();
    wait_for_distrust(&lab, "made a step forward of");
    assert_eq!(lab.status(0).unwrap().state, State::Deployed);
    // Set right and confirmed at once, before anybody has read the clock again.
    lab.coordinator.set_clock("+0").unwrap();
    lab.coordinator.cli(ADMIN, &["clock", "confirm"]).unwrap();
    assert_eq!(distrust(&lab), None);
    assert_eq!(lab.status(0).unwrap().id, id);
    // No reservation begins under a step that nobody has noticed yet.
    lab.coordinator.set_clock("+10y").unwrap();
    let refused = lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap_err().to_string();
    assert!(refused.contains("made a step forward of"), "{refused}");
    assert_eq!(lab.status(0).unwrap().state, State::Deployed);
}

#[test]
fn nothing_is_reserved_or_ended_by_a_clock_that_is_behind() {
    let mut lab = Lab::with_limits(1, "hold_s = 2\n");
    lab.coordinator.kill();
    lab.coordinator.set_clock("-1d").unwrap();
    lab.coordinator.resume().unwrap();
    wait_for_distrust(&lab, "behind the last entry of the journal");
    let refused = lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap_err().to_string();
    assert!(refused.contains("the head's clock is behind the last entry"), "{refused}");
    assert!(refused.contains("`piseduce clock confirm`"), "{refused}");

    lab.coordinator.cli(ADMIN, &["clock", "confirm"]).unwrap();
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    lab.wait_until_free(0, 20.0);
    lab.coordinator.kill();
    lab.coordinator.resume().unwrap();
    assert_eq!(distrust(&lab), None, "what an administrator confirmed is still right");
}

#[test]
fn an_open_form_and_its_hold_survive_a_restart() {
    let mut lab = Lab::with_limits(1, "hold_s = 6\n");
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let id = lab.run_of(0).0;
    lab.coordinator.kill();
    lab.coordinator.resume().unwrap();
    assert_eq!(lab.status(0).unwrap().state, State::Initialized);
    lab.wait_until_free(0, 30.0);
    assert_eq!(lab.history(id).deployment.status.cause.unwrap().to_string(), "hold_expired");
}

//! Site recovery: a switch that restarts, and a room that was dark.

use super::orders::lab;
use piseduce_coordinator::api::SwitchDetails;
use piseduce_protocol::state::State;
use piseduce_tests::lab::{ADMIN, SSH_KEY, USER};
use piseduce_tests::wait::wait_for;

/// Which nodes of the room are what when it gets dark.
const DEPLOYED: std::ops::Range<usize> = 0..8;
const DEPLOYING: std::ops::Range<usize> = 8..16;
const ROOM: usize = 60;

#[test]
fn deployments_go_on_after_a_switch_restarted_and_pay_nothing() {
    let (lab, switch) = lab(2, "restart_budget = 0\n", "");
    lab.deploy(&[]);
    (0..2).for_each(|index| {
        wait_for(
            "the agents to work",
            60.0,
            || lab.status(index),
            |status| status.as_ref().is_some_and(|status| status.state >= State::EnvCopy),
        );
    });
    switch.power_fails();
    switch.power_returns();
    for index in 0..2 {
        let deployed = lab.wait_for(index, State::Deployed, 120.0);
        assert_eq!(lab.history(deployed.id).deployment.restarts, 0);
    }
}

#[test]
fn a_room_of_60_nodes_that_was_dark_is_brought_back_to_what_is_stored() {
    let limits = "restart_budget = 0\nboots_in_flight = 20\nenv_boot_restart_after_s = 20\nenv_boot_blocked_max_s = 120\n";
    let (mut lab, switch) = lab(ROOM, limits, "");
    let names: Vec<String> = lab.names().into_iter().map(Into::into).collect();
    let key = lab.file("key", SSH_KEY);
    let deploy = |lab: &piseduce_tests::lab::Lab, range: std::ops::Range<usize>| {
        let nodes: Vec<&str> = names[range].iter().map(String::as_str).collect();
        lab.coordinator.cli(USER, &[&["reserve", "--for", "4h"], nodes.as_slice()].concat()).unwrap();
        let form = ["--environment", "story", "--ssh-key", &key];
        lab.coordinator.cli(USER, &[&["deploy"], nodes.as_slice(), &form].concat()).unwrap();
    };
    deploy(&lab, DEPLOYED);
    DEPLOYED.for_each(|index| drop(lab.wait_for(index, State::Deployed, 120.0)));
    deploy(&lab, DEPLOYING);
    wait_for(
        "deployments in their middle",
        60.0,
        || lab.status(DEPLOYING.start),
        |status| status.as_ref().is_some_and(|status| status.state >= State::EnvCopy),
    );

    lab.coordinator.kill();
    switch.power_fails();
    // As a switch does whose settings were not saved: everything is on.
    (1..=u32::try_from(ROOM).unwrap()).for_each(|port| switch.set(port, true));
    // Two deployed nodes do not come up by themselves, as Pi 3s in a crowd.
    let stubborn = [0, 1];
    stubborn.iter().for_each(|index| switch.hide(u32::try_from(index + 1).unwrap()));
    switch.power_returns();
    stubborn.iter().for_each(|index| lab.rack.crash(*index));
    lab.coordinator.resume().unwrap();

    for index in DEPLOYED.chain(DEPLOYING) {
        let deployed = lab.wait_for(index, State::Deployed, 180.0);
        assert_eq!(lab.history(deployed.id).deployment.restarts, 0, "nobody pays for the dark");
    }
    let report = || lab.coordinator.get::<SwitchDetails>(ADMIN, "switches/bench").unwrap().recovery;
    let report = wait_for("the report", 120.0, report, Option::is_some).unwrap();
    assert!(report.starts_with("switch bench restarted"), "{report}");
    let free = DEPLOYING.end..ROOM;
    assert!(free.clone().all(|index| !switch.is_on(u32::try_from(index + 1).unwrap())), "{report}");
    assert!(report.contains("free, switched off: ") && report.contains(" pi-60"), "{report}");
    let again = report.split("powered again: ").nth(1).unwrap().split(',').next().unwrap();
    let again: Vec<&str> = again.split(' ').collect();
    assert!(stubborn.iter().all(|index| again.contains(&names[*index].as_str())), "{report}");
    assert!(DEPLOYED.skip(2).all(|index| !again.contains(&names[index].as_str())), "{report}");
    DEPLOYED.for_each(|index| drop(lab.wait_for(index, State::Deployed, 120.0)));
}

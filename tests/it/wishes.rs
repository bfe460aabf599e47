//! What people ask for at the same instant, too late, or without the right to.

use piseduce_protocol::state::State;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::monitor::Monitor;
use piseduce_tests::wait::wait_for;
use serde_json::Value;
use std::process::Output;

#[test]
fn two_users_who_reserve_one_node_at_the_same_instant_do_not_both_get_it() {
    let lab = Lab::new(2);
    lab.coordinator.add_user("bob", "user").unwrap();
    for _ in 0..5 {
        let ask = |user: &'static str| {
            let mut cli = lab.coordinator.cli_command(user, &["reserve", "pi-1", "pi-2", "--for", "1h"]);
            cli.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        };
        let outputs: Vec<(&str, Output)> = [USER, "bob", USER, "bob"]
            .map(|user| (user, ask(user)))
            .into_iter()
            .map(|(user, child)| (user, child.wait_with_output().unwrap()))
            .collect();
        let winners: Vec<&str> =
            outputs.iter().filter(|(_, output)| output.status.success()).map(|(user, _)| *user).collect();
        let [winner] = winners[..] else { panic!("{} have both nodes", winners.len()) };
        for (user, loser) in outputs.iter().filter(|(_, output)| !output.status.success()) {
            let said = String::from_utf8_lossy(&loser.stderr);
            let held = |node: &str| match *user == winner {
                true => format!("you hold node `{node}` yourself until 20"),
                false => format!("node `{node}` is held by {winner} until 20"),
            };
            assert!(said.contains(&held("pi-1")) && said.contains(&held("pi-2")), "{said}");
        }
        lab.coordinator.cli(winner, &["cancel", "pi-1", "pi-2"]).unwrap();
        lab.wait_until_free(0, 10.0);
        lab.wait_until_free(1, 10.0);
    }
}

#[test]
fn cancel_and_destroy_end_a_deployment_in_every_state_and_free_its_node() {
    let lab = Lab::new(1);
    let monitor = Monitor::connect(&lab.coordinator);
    // What is asked for in the last states must not come after their end.
    let slow = lab.file("slow.sh", "#!/bin/sh\nsleep 5\n");
    let states =
        State::ALL.iter().copied().filter(|state| (State::NfsBootConf..State::Deployed).contains(state));
    for (state, wish) in states.zip(["cancel", "destroy"].into_iter().cycle()) {
        lab.deploy(&["--script", &slow]);
        let event = monitor.wait_for(lab.run_of(0), state, 30.0);
        lab.coordinator.cli(USER, &[wish, "pi-1"]).unwrap();
        lab.wait_until_free(0, 20.0);
        assert!(!lab.rack.is_on(0), "{wish} in {state}: the node is still on");
        let history = lab.history(event.deployment);
        let cause = history.deployment.status.cause.unwrap().to_string();
        let expected = if wish == "cancel" { "cancelled" } else { "destroyed" };
        assert_eq!(cause, expected, "{wish} in {state}");
    }
}

#[test]
fn a_deployed_node_is_rebooted_started_again_and_given_back_but_not_cancelled() {
    let lab = Lab::new(1);
    lab.deploy(&["--part-size", "300M"]);
    let first = lab.wait_for(0, State::Deployed, 60.0);
    for _ in 0..3 {
        lab.coordinator.cli(USER, &["reboot", "pi-1", "--wait"]).unwrap();
        assert_eq!(lab.status(0).unwrap().state, State::Deployed);
        // The card reports before its port was read.
        let power = || lab.coordinator.get::<Vec<Value>>(USER, "nodes").unwrap()[0]["power"].clone();
        wait_for("the port to be shown on", 20.0, power, |on| *on == true);
    }
    let refused = lab.coordinator.cli(USER, &["cancel", "pi-1"]).unwrap_err().to_string();
    assert!(refused.contains("the node is deployed: use `destroy`"), "{refused}");
    lab.coordinator.cli(USER, &["deploy-again", "pi-1", "--wait"]).unwrap();
    let again = lab.status(0).unwrap();
    assert_eq!((again.id, again.run.0), (first.id, 2));
    lab.coordinator.cli(USER, &["destroy", "pi-1", "--wait"]).unwrap();
    assert_eq!(lab.status(0), None);
}

#[test]
fn errors_name_the_thing_and_say_what_to_do() {
    let lab = Lab::new(1);
    lab.coordinator.add_user("bob", "user").unwrap();
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let key = lab.directory.path().join("key.pub").to_string_lossy().into_owned();
    let deploy = ["deploy", "pi-1", "--environment", "story"];
    let cases: [(&str, Vec<&str>, &str); 11] = [
        ("bob", vec!["destroy", "pi-1"], "user bob may not do this: the node is held by ann"),
        ("bob", vec!["node", "import", "/dev/null"], "user bob may not do this as user"),
        (USER, vec!["reserve", "pi-9", "--for", "1h"], "there is no node `pi-9`"),
        (USER, vec!["reserve", "pi-1", "--for", "9d"], "a reservation of 9days is not possible"),
        (USER, deploy.to_vec(), "nobody could log in to the deployed nodes"),
        (USER, [&deploy[..], &["--ssh-key", "/nowhere"]].concat(), "failed to read /nowhere"),
        (
            USER,
            [&deploy[..], &["--ssh-key", &key, "--part-size", "8"]].concat(),
            "`8` is not a partition size",
        ),
        (
            USER,
            vec!["deploy", "pi-1", "--environment", "lab", "--ssh-key", &key],
            "there is no environment `lab`",
        ),
        (USER, vec!["reboot", "pi-1"], "nothing is deployed yet"),
        (ADMIN, vec!["deployment", "show", "77"], "there is no deployment `77`"),
        (ADMIN, vec!["deployment", "show", "pi-9"], "there is no node `pi-9`"),
    ];
    for (user, arguments, expected) in cases {
        let output = lab.coordinator.cli_output(user, &arguments).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
    }
    assert_eq!(lab.status(0).unwrap().state, State::Initialized, "nothing of it touched the node");
}

#[test]
fn a_stranger_gets_nothing() {
    let lab = Lab::new(1);
    std::fs::write(lab.coordinator.token_file("eve"), "nobodys-token\n").unwrap();
    for arguments in
        [vec!["node", "list"], vec!["reserve", "pi-1", "--for", "1h"], vec!["deployment", "list"]]
    {
        let output = lab.coordinator.cli_output("eve", &arguments).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("the coordinator does not know the token in"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_form_that_stays_open_too_long_frees_its_node() {
    let lab = Lab::with_limits(1, "hold_s = 2\n");
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let id = lab.run_of(0).0;
    lab.wait_until_free(0, 20.0);
    assert_eq!(lab.history(id).deployment.status.cause.unwrap().to_string(), "hold_expired");
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
}

//! What becomes of nodes: drained and back, another board, another place, their end; and many by one label.

use piseduce_protocol::state::State;
use piseduce_protocol::status::NodeStatus;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::process::program;
use piseduce_tests::wait::wait_for;
use std::path::Path;

fn refused(lab: &Lab, user: &str, arguments: &[&str]) -> String {
    lab.coordinator.cli(user, arguments).unwrap_err().to_string()
}

#[test]
fn a_drained_node_stays_with_its_user_and_then_with_nobody() {
    let lab = Lab::new(1);
    let drain = ["node", "drain", "pi-1", "--reason", "its fan rattles"];
    assert!(refused(&lab, USER, &drain).contains("user ann may not do this"));
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 60.0);
    let said = lab.coordinator.cli(ADMIN, &drain).unwrap();
    assert!(said.contains("pi-1: nobody gets it when ann has given it back"), "{said}");
    let list = lab.coordinator.cli(USER, &["node", "list"]).unwrap();
    assert!(
        list.contains("deployed") && list.contains(&format!("draining: its fan rattles ({ADMIN})")),
        "{list}"
    );
    lab.coordinator.cli(USER, &["reboot", "pi-1", "--wait"]).unwrap();
    lab.coordinator.cli(USER, &["destroy", "pi-1", "--wait"]).unwrap();
    assert!(!lab.rack.is_on(0));
    let list = lab.coordinator.cli(USER, &["node", "list"]).unwrap();
    assert!(list.contains("drained") && !list.contains("draining"), "{list}");
    let said = refused(&lab, USER, &["reserve", "pi-1", "--for", "1h"]);
    assert!(said.contains("node `pi-1` is out of service") && said.contains("its fan rattles"), "{said}");
    lab.coordinator.cli(ADMIN, &["node", "test", "pi-1", "--wait"]).unwrap();
    assert!(lab.node(0).out_of_service.is_some(), "a test does not end it");
    lab.coordinator.cli(ADMIN, &["node", "resume", "pi-1"]).unwrap();
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 60.0);
}

#[test]
fn a_drained_node_keeps_the_power_that_its_mender_gave_it() {
    let mut lab = Lab::new(1);
    lab.coordinator.cli(ADMIN, &["node", "drain", "pi-1", "--reason", "mending"]).unwrap();
    lab.coordinator.cli(ADMIN, &["switch", "on", "bench", "1"]).unwrap();
    wait_for("power", 10.0, || lab.rack.is_on(0), |on| *on);
    lab.coordinator.kill();
    lab.coordinator.resume().unwrap();
    let recovered = || std::fs::read_to_string(lab.coordinator.log()).unwrap();
    wait_for("the recovery", 30.0, recovered, |log| log.contains("was found when the coordinator started"));
    assert!(lab.rack.is_on(0));
}

#[test]
fn another_board_has_the_place_of_a_broken_one() {
    let lab = Lab::with_limits(1, "restart_after_s = 2\nblocked_max_s = 6\n");
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 60.0);
    let replace = ["node", "replace", "pi-1", "--serial", "10000000000000aa", "--mac", "DC-A6-32-00-00-AA"];
    let said = refused(&lab, ADMIN, &replace);
    assert!(said.contains("node `pi-1` is in use: deployment 1; destroy it before"), "{said}");
    lab.rack.set_agent(0, Path::new("/bin/sleep"));
    let ended = lab.coordinator.cli_output(USER, &["destroy", "pi-1", "--wait"]).unwrap();
    assert_eq!(ended.status.code(), Some(3));
    lab.wait_for(0, State::Quarantined, 60.0);

    lab.rack.exchange(0, "10000000000000aa", "dc:a6:32:00:00:aa");
    lab.rack.set_agent(0, &program("piseduce-agent"));
    assert!(refused(&lab, USER, &replace).contains("user ann may not do this"));
    let said = lab.coordinator.cli(ADMIN, &replace).unwrap();
    assert!(said.contains("serial 10000000000000aa, mac dc:a6:32:00:00:aa, at port 1 of bench"), "{said}");
    lab.coordinator.cli(ADMIN, &["node", "test", "pi-1", "--wait"]).unwrap();
    assert_eq!(lab.status(0), None);
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 60.0);
}

#[test]
fn a_node_that_moves_goes_where_nobody_is() {
    let lab = Lab::new(2);
    let said = refused(&lab, ADMIN, &["node", "move", "pi-1", "--port", "2"]);
    assert!(said.contains("port `2 of switch bench` is in use: node pi-2 is plugged there"), "{said}");
    let said = refused(&lab, ADMIN, &["node", "move", "pi-1", "--port", "7", "--switch", "attic"]);
    assert!(said.contains("there is no switch `attic`"), "{said}");
    lab.coordinator.cli(ADMIN, &["node", "move", "pi-1", "--port", "7"]).unwrap();
    assert_eq!(lab.node(0).port, "7");
    lab.coordinator.cli(ADMIN, &["node", "move", "pi-2", "--port", "1"]).unwrap();
}

#[test]
fn a_retired_node_is_none_any_more_and_its_history_stays() {
    let mut lab = Lab::with_limits(2, "restart_after_s = 2\nblocked_max_s = 6\n");
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let id = lab.run_of(0).0;
    let said = refused(&lab, ADMIN, &["node", "retire", "pi-1"]);
    assert!(said.contains("node `pi-1` is in use: deployment 1; destroy it before retiring"), "{said}");
    lab.coordinator.cli(USER, &["cancel", "pi-1", "--wait"]).unwrap();
    lab.rack.set_agent(1, Path::new("/bin/sleep"));
    let tested = lab.coordinator.cli_output(ADMIN, &["node", "test", "pi-2", "--wait"]).unwrap();
    assert_eq!(tested.status.code(), Some(3));
    assert_eq!(lab.wait_for(1, State::Quarantined, 60.0).state, State::Quarantined);

    let said = lab.coordinator.cli(ADMIN, &["node", "retire", "pi-1", "pi-2"]).unwrap();
    assert!(said.contains("pi-1: retired") && said.contains("pi-2: retired"), "{said}");
    let gone = || lab.coordinator.get::<Vec<NodeStatus>>(USER, "nodes").unwrap().len();
    assert_eq!(gone(), 0);
    assert!(refused(&lab, USER, &["reserve", "pi-1", "--for", "1h"]).contains("there is no node `pi-1`"));
    assert_eq!(lab.history(id).deployment.status.cause.unwrap().to_string(), "cancelled");
    lab.coordinator.kill();
    lab.coordinator.resume().unwrap();
    assert!(refused(&lab, USER, &["node", "show", "pi-1"]).contains("there is no node `pi-1`"));

    // The same board may come again, as a node without a past.
    let inventory = lab.file("again.toml", &lab.rack.inventory());
    let said = lab.coordinator.cli(ADMIN, &["node", "import", &inventory]).unwrap();
    assert!(said.contains("nodes: 2 added"), "{said}");
    lab.deploy_as(USER, &[]);
}

#[test]
fn one_label_stands_for_many_nodes() {
    let lab = Lab::new(3);
    let text = lab.rack.inventory();
    let labelled = text.replace("name = \"pi-1\"", "name = \"pi-1\"\nlabels = [\"row-2\", \"blue\"]");
    let labelled = labelled.replace("name = \"pi-3\"", "name = \"pi-3\"\nlabels = [\"blue\"]");
    let inventory = lab.file("labels.toml", &labelled);
    let said = lab.coordinator.cli(ADMIN, &["node", "import", &inventory]).unwrap();
    assert!(said.contains("2 changed, 1 unchanged"), "{said}");
    assert!(lab.coordinator.cli(USER, &["node", "show", "pi-1"]).unwrap().contains("blue row-2"));
    let said = refused(&lab, USER, &["reserve", "@green", "--for", "1h"]);
    assert!(said.contains("no node has the label `green`"), "{said}");
    let said = lab.coordinator.cli(USER, &["reserve", "@blue", "pi-1", "--for", "1h"]).unwrap();
    assert!(said.contains("pi-1, pi-3 until"), "{said}");
    lab.coordinator.cli(USER, &["cancel", "@blue", "--wait"]).unwrap();
    lab.coordinator.cli(ADMIN, &["node", "drain", "@blue", "--reason", "a lecture"]).unwrap();
    let out = |index: usize| lab.node(index).out_of_service.is_some();
    assert_eq!([out(0), out(1), out(2)], [true, false, true]);
}

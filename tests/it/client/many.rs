//! What is asked of many nodes at once is one step: a coordinator that is killed in the middle has done all or nothing.

use super::{Office, node};
use piseduce_coordinator::api::NodeView;
use piseduce_protocol::state::{Process, State};
use piseduce_tests::lab::{ADMIN, USER};
use piseduce_tests::wait::wait_for;
use std::process::Stdio;

const NODES: u64 = 24;

fn office() -> Office {
    let office = Office::new();
    let nodes: String = (2..=NODES).map(|number| node(number, "poe-1")).collect();
    let nodes = office.file("nodes.toml", &nodes);
    office.coordinator.cli(ADMIN, &["node", "import", &nodes]).unwrap();
    office
}

fn nodes(office: &Office) -> Vec<NodeView> {
    office.coordinator.get(USER, "nodes").unwrap()
}

/// Sends a command for all nodes, kills the coordinator as soon as `is_done` with the first of them, and counts how many
/// it was done with when the coordinator is there again.
fn killed_in(office: &mut Office, command: &[&str], is_done: fn(&NodeView) -> bool) -> usize {
    let names: Vec<String> = nodes(office).into_iter().map(|node| node.name).collect();
    let names = names.iter().map(String::as_str);
    let words: Vec<&str> = command.iter().copied().chain(names).collect();
    let mut cli = office.coordinator.cli_command(USER, &words);
    let mut cli = cli.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let count = |office: &Office| nodes(office).iter().filter(|node| is_done(node)).count();
    wait_for("the first node", 30.0, || count(office), |count| *count > 0);
    office.coordinator.kill();
    cli.wait().unwrap();
    office.coordinator.resume().unwrap();
    count(office)
}

#[test]
fn a_coordinator_killed_in_a_command_for_many_nodes_has_done_it_for_all_of_them() {
    let mut office = office();
    let names: Vec<String> = nodes(&office).into_iter().map(|node| node.name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let reserve = |office: &Office| {
        office.coordinator.cli(USER, &[&["reserve", "--for", "1h"], &names[..]].concat()).unwrap();
    };
    for round in 0..3 {
        reserve(&office);
        let freed = killed_in(&mut office, &["cancel"], |node| node.deployment.is_none());
        assert_eq!(freed, names.len(), "round {round}: the others are still held");
    }
    reserve(&office);
    let key = office.environment();
    let deploy = ["deploy", "--environment", "lab", "--ssh-key", &key];
    let begun = killed_in(&mut office, &deploy, |node| {
        node.deployment.as_ref().is_some_and(|now| now.state != State::Initialized)
    });
    assert_eq!(begun, names.len(), "the others still wait for their form");
    let ended = killed_in(&mut office, &["destroy"], |node| {
        node.deployment.as_ref().is_none_or(|now| now.process == Process::Destroy)
    });
    assert_eq!(ended, names.len(), "the others are still deployed to");
}

#[test]
fn many_nodes_are_reserved_drained_and_resumed_in_one_command() {
    let office = office();
    let names: Vec<String> = nodes(&office).into_iter().map(|node| node.name).collect();
    let all = |command: &[&str]| {
        let words: Vec<&str> = command.iter().copied().chain(names.iter().map(String::as_str)).collect();
        office.coordinator.cli(ADMIN, &words).unwrap()
    };
    assert_eq!(all(&["node", "drain", "--reason", "mending"]).lines().count(), names.len());
    assert!(nodes(&office).iter().all(|node| node.out_of_service.is_some()));
    assert_eq!(all(&["node", "resume"]).lines().count(), names.len());
    assert_eq!(all(&["node", "test"]).lines().count(), names.len());
    let tested = |node: &NodeView| node.deployment.as_ref().is_some_and(|now| now.process == Process::Test);
    assert!(nodes(&office).iter().all(tested));
}

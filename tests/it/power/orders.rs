//! `piseduce switch` against a coordinator whose nodes hang on a PoE switch by SNMP.

use piseduce_coordinator::api::{DetectedView, SwitchDetails};
use piseduce_protocol::state::State;
use piseduce_tests::coordinator::Coordinator;
use piseduce_tests::lab::{self, ADMIN, Lab, SSH_KEY, USER};
use piseduce_tests::rack_network::RackNetwork;
use piseduce_tests::switch::{COMMUNITY, PASSWORD, SimulatedSwitch};
use piseduce_tests::wait::wait_for;
use std::fs;
use std::sync::Arc;

/// A lab whose rack hangs on a simulated PoE switch, registered so.
pub(super) fn lab(count: usize, limits: &str, more: &str) -> (Lab, SimulatedSwitch) {
    lab_on(&lab::network(count), limits, more)
}

/// The same on a network that is there.
pub(super) fn lab_on(network: &Arc<RackNetwork>, limits: &str, more: &str) -> (Lab, SimulatedSwitch) {
    let lab = Lab::on(network, limits);
    let switch = lab.rack.poe_switch().unwrap();
    let entry = switch.entry(lab.directory.path(), "bench", "3").unwrap();
    let entry = entry.replace("off_time_ms", &format!("{more}off_time_ms"));
    let inventory = lab.file("poe.toml", &lab.rack.inventory_behind(&entry));
    lab.coordinator.cli(ADMIN, &["node", "import", &inventory]).unwrap();
    (lab, switch)
}

fn details(coordinator: &Coordinator) -> SwitchDetails {
    coordinator.get(ADMIN, "switches/bench").unwrap()
}

#[test]
fn nodes_on_a_poe_switch_are_deployed_shown_and_switched() {
    let (lab, switch) = lab(2, "", "protected_ports = [\"5\"]\nbudget_watts = 40\n");
    lab.deploy(&[]);
    (0..2).for_each(|index| drop(lab.wait_for(index, State::Deployed, 60.0)));
    let shown = lab.coordinator.cli(ADMIN, &["switch", "show", "bench"]).unwrap();
    for expected in ["5 (protected)", "delivering", "pi-1", "dc:a6:32:00:00:02", "budget", "370 W"] {
        assert!(shown.contains(expected), "no {expected} in\n{shown}");
    }
    assert!(details(&lab.coordinator).ports.iter().filter(|port| port.on == Some(true)).count() == 2);
    assert!(lab.coordinator.cli(USER, &["switch", "list"]).unwrap().contains("snmp"));
    lab.coordinator.cli(ADMIN, &["switch", "watts", "bench"]).unwrap();

    let order = |arguments: &[&str]| lab.coordinator.cli(ADMIN, &[&["switch"], arguments].concat());
    let refused = |arguments: &[&str], words: &str| {
        let error = order(arguments).unwrap_err().to_string();
        assert!(error.contains(words), "{arguments:?}: {error}");
    };
    refused(&["off", "bench", "5"], "protected_ports");
    refused(&["off", "bench", "1"], "node pi-1, deployed for ann; `--force`");
    refused(&["on", "nowhere", "1"], "`nowhere`");
    refused(&["on", "bench", "99"], "switch_refused");
    assert!(lab.coordinator.cli(USER, &["switch", "off", "bench", "1"]).is_err(), "users switch nothing");
    assert!(switch.is_on(1));
    order(&["off", "bench", "1", "--force"]).unwrap();
    assert!(!switch.is_on(1));
    let said = order(&["cycle", "bench", "1", "2", "--force"]).unwrap();
    assert!(said.contains("port 1 of bench is on") && said.contains("port 2 of bench is on"), "{said}");

    // Nothing that was said, stored or answered holds a secret.
    let log = lab.coordinator.logged();
    let store =
        ["store.sqlite", "store.sqlite-wal"].map(|name| fs::read(lab.coordinator.data().join(name)).unwrap());
    let store = String::from_utf8_lossy(&store.concat()).into_owned();
    assert!(store.contains("bench.secrets"), "what is looked through is what has the switch");
    for secret in [COMMUNITY, PASSWORD] {
        assert!(!log.contains(secret) && !shown.contains(secret) && !store.contains(secret));
    }
}

#[test]
fn a_switch_is_looked_at_and_registered() {
    let (lab, switch) = lab(1, "", "");
    switch.detect_for(std::time::Duration::ZERO);
    switch.set(1, true);
    let secrets = lab.directory.path().join("bench.secrets");
    let (secrets, address) = (secrets.to_string_lossy(), switch.address().to_string());
    let snmp = ["--snmp", &address, "--snmp-version", "3", "--secrets", &secrets];
    let found = lab.coordinator.cli(ADMIN, &[&["switch", "detect"][..], &snmp].concat()).unwrap();
    for expected in
        ["PiSeduce simulated switch", "standard", "1: 1-5", "370 W", "spanning tree", "[switch.driver.snmp]"]
    {
        assert!(found.contains(expected), "no {expected} in\n{found}");
    }
    let json = lab.coordinator.cli(ADMIN, &[&["switch", "detect", "--json"][..], &snmp].concat()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let found: DetectedView = serde_json::from_value(json["detected"].clone()).unwrap();
    let entry = lab.file("found.toml", &found.entry.replace("NAME", "found"));
    lab.coordinator.cli(ADMIN, &["node", "import", &entry]).unwrap();
    lab.coordinator.cli(ADMIN, &[&["switch", "add", "added"][..], &snmp].concat()).unwrap();
    let taken = lab.coordinator.cli(ADMIN, &[&["switch", "add", "added"][..], &snmp].concat()).unwrap_err();
    assert!(taken.to_string().contains("node import"), "{taken}");
    let list = lab.coordinator.cli(ADMIN, &["switch", "list"]).unwrap();
    assert!(list.contains("found") && list.contains("added"), "{list}");

    let wrong = lab.file("wrong.secrets", "user = \"nobody\"\n");
    let wrong = ["switch", "detect", "--snmp", &address, "--snmp-version", "3", "--secrets", &wrong];
    let error = lab.coordinator.cli(ADMIN, &wrong).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn nobody_is_powered_on_beyond_the_budget_and_who_waits_is_told() {
    let (lab, switch) = lab(2, "", "budget_watts = 20\n");
    lab.deploy(&[]);
    let seen = || {
        let log = lab.coordinator.logged();
        format!("{:?} {:?}, log: {:?}", lab.status(0), lab.status(1), log.lines().last())
    };
    wait_for("a node that waits for power", 60.0, seen, |seen| seen.contains("it may deliver 20 W"));
    assert!(!(switch.is_on(1) && switch.is_on(2)), "13 W each are more than 20 W");
}

#[test]
fn a_node_that_is_seen_elsewhere_fails_and_nothing_is_cut() {
    let (lab, switch) = lab(2, "", "");
    let (one, two) = (&lab.rack.nodes[0], &lab.rack.nodes[1]);
    switch.plug(1, &two.mac);
    switch.plug(2, &one.mac);
    switch.detect_for(std::time::Duration::ZERO);
    switch.set(2, true);
    switch.set(1, true);
    let key = lab.file("key", SSH_KEY);
    lab.coordinator.cli(USER, &["reserve", &one.name, "--for", "1h"]).unwrap();
    lab.coordinator.cli(USER, &["deploy", &one.name, "--environment", "story", "--ssh-key", &key]).unwrap();
    let failed = lab.wait_for(0, State::Failed, 60.0).cause.unwrap().to_string();
    assert!(failed.starts_with("wrong_port") && failed.contains("at port 2, not at 1"), "{failed}");
    assert!(switch.is_on(1) && switch.is_on(2), "nothing was cut");
}

#[test]
fn an_agent_that_outlives_its_power_cut_stops_its_deployment() {
    let lab = Lab::new(2);
    // The cables of both boards are swapped, and the switch shows no addresses.
    let switch = lab.rack.wired_switch(|port| if port <= 2 { 3 - port } else { port }).unwrap();
    let entry = switch.entry(lab.directory.path(), "bench", "2c").unwrap() + "check_stations = false\n";
    let inventory = lab.file("poe.toml", &lab.rack.inventory_behind(&entry));
    lab.coordinator.cli(ADMIN, &["node", "import", &inventory]).unwrap();
    let (one, key) = (&lab.rack.nodes[0].name, lab.file("key", SSH_KEY));
    lab.coordinator.cli(USER, &["reserve", one, "--for", "1h"]).unwrap();
    lab.coordinator.cli(USER, &["deploy", one, "--environment", "story", "--ssh-key", &key]).unwrap();
    lab.wait_for(0, State::NfsBootOn, 60.0);
    switch.set(2, true);
    wait_for(
        "the agent to work",
        60.0,
        || lab.status(0),
        |status| status.as_ref().is_some_and(|status| status.state >= State::EnvCopy),
    );
    lab.coordinator.cli(USER, &["reboot", one]).unwrap();
    let failed = lab.wait_for(0, State::Failed, 60.0).cause.unwrap().to_string();
    assert!(failed.starts_with("wrong_port: the agent of the boot before still speaks"), "{failed}");
}

#[test]
fn forty_eight_ports_are_cycled_at_once_and_spaced() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator =
        Coordinator::start(directory.path(), "boot_spacing_ms = 50\nboots_in_flight = 48\n").unwrap();
    coordinator.add_user(ADMIN, "admin").unwrap();
    let switch = SimulatedSwitch::start(48, Box::new(|_, _| {})).unwrap();
    (1..=48).for_each(|port| switch.plug(port, &format!("02:00:00:00:00:{port:02x}")));
    let file = directory.path().join("poe.toml");
    fs::write(&file, switch.entry(directory.path(), "bench", "2c").unwrap()).unwrap();
    coordinator.cli(ADMIN, &["node", "import", &file.to_string_lossy()]).unwrap();
    std::thread::scope(|scope| {
        for port in 1..=48 {
            let cycle = ["switch".to_owned(), "cycle".into(), "bench".into(), port.to_string()];
            let coordinator = &coordinator;
            scope.spawn(move || coordinator.cli(ADMIN, &cycle.each_ref().map(String::as_str)).unwrap());
        }
    });
    let sets = switch.sets();
    let on: Vec<_> = sets.iter().filter(|(_, _, on)| *on).map(|(at, port, _)| (*at, *port)).collect();
    assert_eq!((sets.len(), on.len()), (96, 48), "each was switched off and on, once");
    assert!((1..=48).all(|port| on.iter().any(|(_, on)| *on == port)), "{on:?}");
    assert!(on.windows(2).all(|pair| pair[1].0.since(pair[0].0).as_millis() >= 40), "{on:?}");
    assert_eq!(switch.most_in_flight(), 1);
}

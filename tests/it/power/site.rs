//! Site recovery: a switch that restarts, and a room that was dark.

use super::orders::{lab, lab_on};
use crate::firmware::{add_boot_root, quick};
use piseduce_coordinator::api::SwitchDetails;
use piseduce_coordinator::netboot::dnsmasq::Host;
use piseduce_protocol::state::State;
use piseduce_protocol::status::DeploymentStatus;
use piseduce_tests::dnsmasq::Dnsmasq;
use piseduce_tests::firmware::Model;
use piseduce_tests::firmware::room::Room;
use piseduce_tests::lab::{ADMIN, Lab, SSH_KEY, USER};
use piseduce_tests::rack_network::{BRIDGE, HEAD, RackNetwork, address};
use piseduce_tests::wait::wait_for;
use std::sync::Arc;

/// Which nodes of the room are what when it gets dark.
const DEPLOYED: std::ops::Range<usize> = 0..8;
const DEPLOYING: std::ops::Range<usize> = 8..28;
const ROOM: usize = 60;

fn deploy(lab: &Lab, range: std::ops::Range<usize>) {
    let nodes = &lab.names()[range];
    let key = lab.file("key", SSH_KEY);
    lab.coordinator.cli(USER, &[&["reserve", "--for", "4h"], nodes].concat()).unwrap();
    let form = ["--environment", "story", "--ssh-key", &key];
    lab.coordinator.cli(USER, &[&["deploy"], nodes, &form].concat()).unwrap();
}

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

#[test]
fn a_dark_room_of_60_firmwares_whose_head_comes_last_loses_nobody() {
    let macs: Vec<String> = (1..=ROOM).map(|number| format!("dc:a6:32:00:00:{number:02x}")).collect();
    let network = Arc::new(RackNetwork::new(&macs).unwrap());
    network.head.within(|| {
        let host = |(mac, number): (&String, u8)| Host {
            mac: mac.clone(),
            name: format!("pi-{number}"),
            ip: Some(address(number)),
            is_pi3: false,
        };
        let hosts: Vec<Host> = macs.iter().zip(1..).map(host).collect();
        let limits = "restart_budget = 0\nboots_in_flight = 8\n";
        let netboot = format!("[[netboot.network]]\ninterface = \"{BRIDGE}\"\nhead = \"{HEAD}/24\"\n");
        let (mut lab, switch) = lab_on(&network, &format!("{limits}{netboot}"), "");
        add_boot_root(&lab.coordinator.data());
        let place = lab.directory.path().join("dnsmasq");
        let dhcp = || Dnsmasq::start(&place, BRIDGE, HEAD, &hosts).unwrap();
        let dnsmasq = dhcp();
        let room = Room::start(&network, &lab.rack, Model::Pi4, &quick(Model::Pi4)).unwrap();
        lab.rack.connect(&room.socket);
        deploy(&lab, DEPLOYED);
        DEPLOYED.for_each(|index| drop(lab.wait_for(index, State::Deployed, 180.0)));
        deploy(&lab, DEPLOYING);
        let working = |status: &Option<DeploymentStatus>| {
            status.as_ref().is_some_and(|status| status.state >= State::EnvCopy)
        };
        wait_for("deployments in their middle", 120.0, || lab.status(DEPLOYING.start), working);

        lab.coordinator.kill();
        drop(dnsmasq);
        switch.power_fails();
        (1..=u32::try_from(ROOM).unwrap()).for_each(|port| switch.set(port, true));
        switch.power_returns();
        let told_before: Vec<usize> = (0..ROOM).map(|index| room.said(index).len()).collect();
        let said = |index: usize, words: &str| {
            room.said(index)[told_before[index]..].iter().filter(|line| line.contains(words)).count()
        };
        // Nobody answers: who has a card boots it, who has none asks again and again.
        for index in DEPLOYED {
            wait_for("the card to boot", 60.0, || said(index, "kernel from the card"), |count| *count > 0);
        }
        for index in [DEPLOYING.end, ROOM - 1] {
            wait_for("another question", 60.0, || said(index, "no usable DHCP answer"), |count| *count > 1);
        }
        let _dnsmasq = dhcp();
        lab.coordinator.resume().unwrap();
        for index in DEPLOYED.chain(DEPLOYING) {
            let deployed = lab.wait_for(index, State::Deployed, 300.0);
            assert_eq!(lab.history(deployed.id).deployment.restarts, 0, "nobody pays for the dark");
        }
        let free = DEPLOYING.end..ROOM;
        let off = || free.clone().all(|index| !switch.is_on(u32::try_from(index + 1).unwrap()));
        wait_for("free nodes to be off", 60.0, off, |off| *off);
    });
}

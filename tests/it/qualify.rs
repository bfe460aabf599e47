//! Nodes are qualified: deployed, cut off and freed again and again, also while the head does not answer.

use crate::firmware::{add_boot_root, quick};
use piseduce_protocol::id::DeploymentId;
use piseduce_protocol::state::State;
use piseduce_tests::coordinator::Place;
use piseduce_tests::dnsmasq::Dnsmasq;
use piseduce_tests::firmware::Model;
use piseduce_tests::firmware::room::Room;
use piseduce_tests::lab::{self, ADMIN, Lab, SSH_KEY, USER};
use piseduce_tests::rack_network::{BRIDGE, HEAD, RackNetwork};
use piseduce_tests::relay::Relay;
use std::path::Path;
use std::sync::Arc;

#[test]
fn a_node_is_qualified_and_one_that_does_not_come_back_is_left_as_it_is() {
    // A copy that lasts for some seconds, so that it can be cut off.
    let (network, place) = (lab::network(1), Place::of_head());
    let http = Relay::for_boards(&network, place.nodes).unwrap();
    http.throttle(500_000);
    let limits = "restart_after_s = 5\nblocked_max_s = 15\n";
    let lab = Lab::at(&place.http_through(&http), &network, limits);
    let page = lab.file("page.md", "");
    let key = lab.file("key", SSH_KEY);
    let form = ["--environment", "story", "--ssh-key", &key, "--cycles", "2", "--page", &page];
    let qualify = [&["node", "qualify", "pi-1"], &form[..]].concat();
    let said = lab.coordinator.cli(USER, &qualify).unwrap();
    let written = std::fs::read_to_string(&page).unwrap();
    for expected in
        ["# Raspberry Pi 4 Model B Rev 1.4\n", "2 of 2 cycles passed on ", "CYCLE 2", "- restarts: 0 0\n"]
    {
        assert!(said.contains(expected) && written.contains(expected), "`{expected}` is not in\n{said}");
    }
    assert!(!written.contains(&lab.rack.nodes[0].mac), "a page names no board: {written}");
    assert_eq!(lab.status(0), None);
    let resumed =
        lab.history(DeploymentId(2)).journal.iter().filter(|entry| entry.state == State::NfsBootOn).count();
    assert!(
        resumed
            > lab
                .history(DeploymentId(1))
                .journal
                .iter()
                .filter(|entry| entry.state == State::NfsBootOn)
                .count()
    );

    lab.rack.set_agent(0, Path::new("/bin/sleep"));
    let ended = lab.coordinator.cli_output(USER, &qualify).unwrap();
    assert_eq!(ended.status.code(), Some(3));
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(
        said.contains("0 of 2 cycles passed")
            && said.contains("lost instead of deployed, kernel_sent_no_agent"),
        "{said}"
    );
    assert_eq!(lab.status(0).unwrap().state, State::Lost);
    let refused = lab.coordinator.cli(USER, &qualify).unwrap_err().to_string();
    assert!(refused.contains("you hold node `pi-1` yourself"), "{refused}");
}

/// Qualifies a board of `model` whose head does not answer for one boot of each cycle; what is said, and whether it passed.
fn qualify_with_head_down(model: Model, more: &str) -> (String, bool) {
    const MAC: &str = "dc:a6:32:00:00:01";
    let network = Arc::new(RackNetwork::new(&[MAC.to_owned()]).unwrap());
    let network_of = network.clone();
    network.head.within(move || {
        let limits = format!("restart_budget = 0\nrestart_after_s = 20\n{more}");
        let lab = Lab::on(&network_of, &limits);
        add_boot_root(&lab.coordinator.data());
        let switch = lab.rack.poe_switch().unwrap();
        let entry = switch.entry(lab.directory.path(), "bench", "3").unwrap();
        let inventory = lab.rack.inventory_behind(&entry);
        let without = lab.file("poe.toml", &inventory);
        lab.coordinator.cli(ADMIN, &["node", "import", &without]).unwrap();
        let place = lab.directory.path().join("dnsmasq");
        let hosts = [piseduce_coordinator::netboot::dnsmasq::Host {
            mac: MAC.into(),
            name: "pi-1".into(),
            ip: Some(piseduce_tests::rack_network::address(1)),
            is_pi3: false,
        }];
        let _dnsmasq = Dnsmasq::start(&place, BRIDGE, HEAD, &hosts).unwrap();
        let room = Room::start(&network_of, &lab.rack, model, &quick(model)).unwrap();
        lab.rack.connect(&room.socket);
        let key = lab.file("key", SSH_KEY);
        let form = ["--environment", "story", "--ssh-key", &key, "--cycles", "1", "--head-down"];
        let qualify = [&["node", "qualify", "pi-1"], &form[..]].concat();
        let refused = lab.coordinator.cli(ADMIN, &qualify).unwrap_err().to_string();
        assert!(refused.contains("`pi-1` has no address of its own"), "{refused}");
        assert_eq!(lab.status(0), None, "nothing was begun");
        let named = "name = \"pi-1\"";
        let with = inventory.replace(named, &format!("{named}\nip = \"10.77.0.11\""));
        let pi3 = with.replace("Raspberry Pi 4 Model B Rev 1.4", "Raspberry Pi 3 Model B Rev 1.2");
        lab.coordinator.cli(ADMIN, &["node", "import", &lab.file("poe.toml", &pi3)]).unwrap();
        let refused = lab.coordinator.cli(ADMIN, &qualify).unwrap_err().to_string();
        assert!(refused.contains("is a Pi 3, which boots its card over the network only"), "{refused}");
        lab.coordinator.cli(ADMIN, &["node", "import", &lab.file("poe.toml", &with)]).unwrap();
        let output = lab.coordinator.cli_output(ADMIN, &qualify).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = room.said(0);
        assert!(told.iter().any(|line| line.contains("no answer for")), "{told:#?}\n{said}");
        (said, output.status.success())
    })
}

#[test]
fn a_board_that_boots_its_card_without_the_head_passes() {
    let (said, passed) = qualify_with_head_down(Model::Pi4, "");
    assert!(passed && said.contains("1 of 1 cycles passed"), "{said}");
    assert!(said.contains(", and once more while TFTP does not answer;"), "{said}");
}

#[test]
fn a_board_that_stays_black_without_the_head_does_not() {
    let times = "env_boot_restart_after_s = 20\nenv_boot_blocked_max_s = 20\nblocked_max_s = 20\n";
    let (said, passed) = qualify_with_head_down(Model::Pi5, times);
    assert!(!passed && said.contains("lost instead of deployed"), "{said}");
    assert!(said.contains(", while the head did not answer"), "{said}");
}

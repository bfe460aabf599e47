//! Stories of the virtual rack: real kernels, a real network boot, real cards cut off in the middle. They take minutes and run one
//! after the other; `make test` tells the first, `make test-rack` all.
#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

use piseduce_coordinator::api::NodeCheckView;
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::state::State;
use piseduce_protocol::status::DeploymentStatus;
use piseduce_tests::firmware::{From, Model};
use piseduce_tests::process::run;
use piseduce_tests::virtual_lab::{Made, USER, VirtualLab, tail};
use piseduce_tests::virtual_rack::{Board, Happened, VirtualRack};
use piseduce_tests::wait::wait_for;

/// A machine with two cores emulates three boards at once; a slow one is given time.
const DEPLOYED_SECONDS: f64 = 500.0;

/// Tells a story in the network of a rack with these boards.
fn with_rack(models: &[Model], limits: &str, story: impl FnOnce(&mut VirtualLab) + Send) {
    let made = Made::ready(&|line| piseduce_coordinator::print::line(line)).unwrap();
    let directory = tempfile::Builder::new().prefix("piseduce-rack-story-").tempdir().unwrap();
    let rack = VirtualRack::new(&directory.path().join("rack"), models).unwrap();
    rack.network.head.within(|| {
        let mut lab = VirtualLab::new(directory.path(), &rack, &made, limits).unwrap();
        lab.register(&made).unwrap();
        story(&mut lab);
    });
}

fn is_copying(now: &DeploymentStatus) -> bool {
    now.state == State::EnvCopy && now.progress.as_ref().is_some_and(|progress| progress.done > 20_000_000)
}

fn is_configuring(now: &DeploymentStatus) -> bool {
    matches!(now.state, State::SystemConf | State::UserConf)
}

fn is_deployed(now: &DeploymentStatus) -> bool {
    now.state == State::Deployed
}

fn port(board: &Board) -> u32 {
    board.identity.number.try_into().unwrap()
}

/// Cuts a board's power as a person at the switch does.
fn cut(lab: &VirtualLab, board: &Board) {
    lab.rack.switch.set(port(board), false);
    let is_off = || board.happened().last().is_some_and(|(_, what)| *what == Happened::Off);
    wait_for("the board to be dark", 10.0, is_off, |off| *off);
}

/// The same, and has the node rebooted.
fn cut_and_reboot(lab: &VirtualLab, board: &Board) {
    cut(lab, board);
    lab.coordinator.cli(USER, &["reboot", &board.identity.name]).unwrap();
}

/// Lets the user of a node in, and looks whether it runs from its own card, grown.
fn looks_well(lab: &VirtualLab, board: &Board) {
    let answer = lab.log_in(board, "cat /etc/hostname; df --output=source,size -B 1M / | tail -1");
    let answer = answer.unwrap_or_else(|error| panic!("{error:#}\n{}", tail(&board.said(), 40)));
    let words: Vec<&str> = answer.split_ascii_whitespace().collect();
    assert_eq!(words[..2], [board.identity.name.as_str(), "/dev/mmcblk0p2"], "{answer}");
    assert!(words[2].parse::<u32>().unwrap() > 3000, "its root did not grow: {answer}");
}

/// What a board says while the NFS server is away.
const NO_NFS: &str = "asking again";

/// What started a board's kernels so far.
fn kernels(board: &Board) -> Vec<From> {
    let kernels = board.happened().into_iter().filter_map(|(_, what)| match what {
        Happened::Kernel(from) => Some(from),
        _ => None,
    });
    kernels.collect()
}

#[test]
fn three_nodes_are_deployed_although_two_of_them_lose_power() {
    with_rack(&[Model::Pi4, Model::Pi5, Model::Pi4], "boot_spacing_ms = 200\n", |lab| {
        let lab = &*lab;
        let boot_roots = &lab.boot_roots;
        lab.use_boot_root(&boot_roots.image, &["--model", "Raspberry Pi 5"]).unwrap();
        lab.use_boot_root(&boot_roots.nfs, &["--node", "pi-3"]).unwrap();
        let _nfs = lab.serve_nfs().unwrap();
        lab.deploy().unwrap();
        let [first, second, third] = &lab.rack.boards[..] else { panic!("three boards") };
        std::thread::scope(|scope| {
            let network = &lab.rack.network.head;
            scope.spawn(move || {
                network.within(|| {
                    lab.wait_for(first, "pi-1 to copy", DEPLOYED_SECONDS, is_copying);
                    cut_and_reboot(lab, first);
                });
            });
            scope.spawn(move || {
                network.within(|| {
                    lab.wait_for(second, "pi-2 to be configured", DEPLOYED_SECONDS, is_configuring);
                    cut_and_reboot(lab, second);
                });
            });
        });
        for board in [first, second, third] {
            lab.wait_for(
                board,
                &format!("{} to be deployed", board.identity.name),
                DEPLOYED_SECONDS,
                is_deployed,
            );
            looks_well(lab, board);
        }
        assert_eq!(kernels(first), [From::Network, From::Network, From::Card]);
        assert_eq!(kernels(third), [From::Network, From::Card]);
        assert!(third.said().contains("piseduce: network up, 10.77.0.13"), "{}", tail(&third.said(), 40));
        assert!(third.said().contains("boot root copied from 10.77.0.1:/"), "{}", tail(&third.said(), 40));
        assert!(second.said().contains("initramfs_2712: "), "a Pi 5 takes what belongs to its kernel");
        assert!(!lab.coordinator.logged().contains("piseduce.token="), "no token in the log");
        let check: NodeCheckView = lab.coordinator.get(USER, "nodes/pi-3/check").unwrap();
        let order = check.facts.iter().find(|(name, _)| name == "BOOT_ORDER");
        assert_eq!(order.map(|(_, value)| value.as_str()), Some("0xf12"), "{:?}", check.facts);
    });
}

#[test]
fn an_nfs_server_that_is_away_delays_a_boot_and_stops_no_work() {
    with_rack(&[Model::Pi4], "", |lab| {
        let board = &lab.rack.boards[0];
        lab.use_boot_root(&lab.boot_roots.nfs, &[]).unwrap();
        lab.deploy().unwrap();
        let waits = || board.said().contains(NO_NFS);
        wait_for("the boot root to miss its NFS server", 100.0, waits, |waits| *waits);
        let nfs = lab.serve_nfs().unwrap();
        lab.wait_for(board, "pi-1 to copy", DEPLOYED_SECONDS, is_copying);
        drop(nfs);
        lab.wait_for(board, "pi-1 to be deployed", DEPLOYED_SECONDS, is_deployed);
        looks_well(lab, board);
        assert_eq!(kernels(board), [From::Network, From::Card], "one boot was enough");
    });
}

#[test]
fn every_model_is_deployed_from_ram_and_from_nfs() {
    with_rack(&[Model::Pi3, Model::Pi3Plus, Model::Pi5], "boot_spacing_ms = 200\n", |lab| {
        let [pi3, pi3_plus, pi5] = &lab.rack.boards[..] else { panic!("three boards") };
        lab.use_boot_root(&lab.boot_roots.nfs, &["--node", "pi-1"]).unwrap();
        lab.use_boot_root(&lab.boot_roots.image, &["--node", "pi-3"]).unwrap();
        let _nfs = lab.serve_nfs().unwrap();
        lab.deploy().unwrap();
        for board in [pi3, pi3_plus, pi5] {
            lab.wait_for(board, "a deployment", DEPLOYED_SECONDS, is_deployed);
            looks_well(lab, board);
        }
        assert!(pi3.said().contains("boot root copied from "), "{}", tail(&pi3.said(), 40));
        assert_eq!(
            kernels(pi3_plus),
            [From::Network, From::Network],
            "a Pi 3 gets its card's kernel from here"
        );
        assert_eq!(kernels(pi5), [From::Network, From::Card]);
    });
}

#[test]
fn who_breaks_the_boot_order_is_found_when_the_node_is_given_back() {
    let limits = "restart_budget = 0\nrestart_after_s = 100\nblocked_max_s = 100\nboot_spacing_ms = 200\n";
    with_rack(&[Model::Pi4, Model::Pi4, Model::Pi4], limits, |lab| {
        let [first, second, third] = &lab.rack.boards[..] else { panic!("three boards") };
        lab.deploy().unwrap();
        for board in [first, second, third] {
            lab.wait_for(board, "a deployment", DEPLOYED_SECONDS, is_deployed);
        }
        // Root on a node can do both.
        first.set_up(|settings| settings.boot_order = 0xf21);
        second.write_eeprom("[all]\nBOOT_ORDER=0xf2\n").unwrap();
        lab.coordinator.cli(USER, &["destroy", "pi-1", "pi-2", "pi-3"]).unwrap();
        let quarantined = |name: &str| {
            let status = || lab.status(name).filter(|status| status.state == State::Quarantined);
            wait_for("the quarantine", 400.0, status, Option::is_some).unwrap().cause.unwrap()
        };
        let cause = quarantined("pi-1");
        assert!(cause.is(CauseKind::BootsCardFirst), "{cause}\n{}", tail(&first.said(), 30));
        let cause = quarantined("pi-2");
        assert!(cause.is(CauseKind::BootOrderNoCard), "{cause}\n{}", tail(&second.said(), 30));
        wait_for("the node to be free", 200.0, || lab.status("pi-3"), Option::is_none);
        assert!((1..=3).all(|port| !lab.rack.switch.is_on(port)));

        // Mended, it passes its test.
        second.write_eeprom("[all]\nBOOT_ORDER=0xf12\n").unwrap();
        lab.coordinator.cli(USER, &["node", "test", "pi-2"]).unwrap();
        wait_for("the node to be free", 300.0, || lab.status("pi-2"), Option::is_none);
    });
}

#[test]
fn a_board_out_of_the_box_is_discovered_registered_and_deployed() {
    with_rack(&[Model::Pi5], "", |lab| {
        let board = &lab.rack.boards[0];
        lab.use_boot_root(&lab.boot_roots.image, &["--model", "Raspberry Pi 5"]).unwrap();
        lab.coordinator.cli(USER, &["node", "retire", "pi-1"]).unwrap();
        let first = piseduce_tests::virtual_rack::address_of(1).unwrap().to_string();
        let discover = ["node", "discover", "--switch", "poe-1", "1", "--first-ip", &first, "--import"];
        let said = lab.coordinator.cli(USER, &discover).unwrap();
        for expected in [
            format!("serial = \"{}\"", board.identity.serial),
            "model = \"Raspberry Pi 5 Model B Rev 1.0\"".into(),
            "card of 4294 MB (CID ".into(),
            "# registered: 1 nodes".into(),
        ] {
            assert!(said.contains(&expected), "`{expected}` is not in\n{said}\n{}", tail(&board.said(), 30));
        }
        assert!(!said.contains("# boot_order"), "its bootloader is set up: {said}");
        lab.deploy().unwrap();
        lab.wait_for(board, "pi-1 to be deployed", DEPLOYED_SECONDS, is_deployed);
        looks_well(lab, board);
        let cards = lab.coordinator.cli(USER, &["card", "list"]).unwrap();
        assert!(cards.contains("good") && cards.contains("pi-1"), "{cards}");
    });
}

#[test]
fn a_cable_that_is_out_while_the_kernel_is_fetched_only_costs_time() {
    with_rack(&[Model::Pi4], "", |lab| {
        let rack = lab.rack;
        let board = &rack.boards[0];
        board.set_up(|settings| settings.tftp_file_ms = 3000);
        lab.deploy().unwrap();
        let asks = || board.said().contains("config.txt: ");
        wait_for("the firmware to ask", 60.0, asks, |asks| *asks);
        lab.rack.network.plug(1, false).unwrap();
        let gave_up = || board.said().contains("no answer for 3 s");
        wait_for("the firmware to give up", 30.0, gave_up, |gave_up| *gave_up);
        lab.rack.network.plug(1, true).unwrap();
        lab.wait_for(board, "the agent", 200.0, is_copying);
    });
}

#[test]
fn a_card_that_boots_something_else_is_named() {
    let limits = "restart_budget = 0\nrestart_after_s = 100\nblocked_max_s = 100\n";
    with_rack(&[Model::Pi4], limits, |lab| {
        let rack = lab.rack;
        let board = &rack.boards[0];
        let made = Made::ready(&|_| {}).unwrap();
        let card = format!("of={}", board.card.display());
        run(
            "dd",
            &[&format!("if={}", made.image.display()), &card, "bs=1M", "conv=notrunc,sparse", "status=none"],
        )
        .unwrap();
        // raspi-config's order: the card first.
        board.set_up(|settings| settings.boot_order = 0xf21);
        lab.deploy().unwrap();
        let lost = || lab.status("pi-1").filter(|status| status.state == State::Lost);
        let cause = wait_for("the node to be lost", 250.0, lost, Option::is_some).unwrap().cause.unwrap();
        assert!(cause.is(CauseKind::BootsCardFirst), "{cause}\n{}", tail(&board.said(), 30));
    });
}

#[test]
fn a_head_that_is_away_neither_stops_a_copy_nor_keeps_a_deployed_system_down() {
    with_rack(&[Model::Pi4], "", |lab| {
        let rack = lab.rack;
        let board = &rack.boards[0];
        board.set_up(|settings| settings.tftp_file_ms = 2000);
        lab.deploy().unwrap();
        lab.wait_for(board, "the copy", 200.0, is_copying);
        lab.coordinator.kill();
        lab.coordinator.resume().unwrap();
        lab.wait_for(board, "pi-1 to be deployed", DEPLOYED_SECONDS, is_deployed);
        assert_eq!(kernels(board), [From::Network, From::Card], "the copy went on in the same boot");
        lab.coordinator.kill();
        cut(lab, board);
        rack.switch.set(1, true);
        let again = || kernels(board).len();
        wait_for("the card to be booted", 60.0, again, |count| *count == 3);
        lab.coordinator.resume().unwrap();
        assert_eq!(kernels(board)[2], From::Card);
        let lets_in = || lab.log_in(board, "true").is_ok();
        wait_for("the old system", 120.0, lets_in, |lets_in| *lets_in);
        looks_well(lab, board);
    });
}

//! Boards that nobody registered are found port by port, told apart, and registered when somebody confirms it.

use crate::firmware::{add_boot_root, quick};
use piseduce_protocol::enrolment::BoardInventory;
use piseduce_protocol::id::Serial;
use piseduce_protocol::path;
use piseduce_tests::bench_boot_root;
use piseduce_tests::board::EEPROM;
use piseduce_tests::coordinator::Coordinator;
use piseduce_tests::dnsmasq::Dnsmasq;
use piseduce_tests::firmware::Model;
use piseduce_tests::firmware::room::Room;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::process::{command, program, run};
use piseduce_tests::rack_network::{BRIDGE, HEAD, RackNetwork};
use piseduce_tests::switch::SimulatedSwitch;
use piseduce_tests::wait::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A rack of boards behind a PoE switch, of which only the first is registered.
fn with_room(count: u8, model: Model, story: impl FnOnce(&Lab, &SimulatedSwitch) + Send) {
    let macs: Vec<String> = (1..=count).map(|number| format!("dc:a6:32:00:00:0{number}")).collect();
    let network = Arc::new(RackNetwork::new(&macs).unwrap());
    let boards = network.clone();
    network.head.within(move || {
        let lab = Lab::on(&boards, "");
        // Boards would be invited into the one of bench nodes, which no firmware boots.
        bench_boot_root::remove_all(&lab.coordinator.data()).unwrap();
        let switch = lab.rack.poe_switch().unwrap();
        let entry = switch.entry(lab.directory.path(), "bench", "3").unwrap();
        let protecting = entry.replace("off_time_ms", "protected_ports = [\"5\", \"6\", \"7\"]\noff_time_ms");
        let inventory = lab.file("poe.toml", &lab.rack.inventory_behind(&protecting));
        lab.coordinator.cli(ADMIN, &["node", "import", &inventory]).unwrap();
        for number in 2..=count {
            lab.coordinator.cli(ADMIN, &["node", "retire", &format!("pi-{number}")]).unwrap();
        }
        let place = lab.directory.path().join("dnsmasq");
        let _dnsmasq = Dnsmasq::start(&place, BRIDGE, HEAD, &[]).unwrap();
        let room = Room::start(&boards, &lab.rack, model, &quick(model)).unwrap();
        lab.rack.connect(&room.socket);
        story(&lab, &switch);
    });
}

const DISCOVER: [&str; 6] = ["node", "discover", "--switch", "bench", "--within", "8s"];

#[test]
fn boards_are_discovered_one_port_after_the_other_and_registered() {
    with_room(3, Model::Pi4, |lab, switch| {
        let discover = [&DISCOVER[..], &["--first-ip", "10.77.0.20"]].concat();
        assert!(lab.coordinator.cli(USER, &discover).is_err(), "for administrators");
        let cut = lab.coordinator.cli_output(ADMIN, &[&discover[..], &["2", "99"]].concat()).unwrap();
        let found = String::from_utf8(cut.stdout).unwrap();
        let why = String::from_utf8_lossy(&cut.stderr);
        assert!(
            !cut.status.success() && found.contains("name = \"pi-2\""),
            "what was found is told: {found}{why}"
        );
        let said = lab.coordinator.cli(ADMIN, &[&discover[..], &["--import"]].concat()).unwrap();
        for expected in [
            "name = \"pi-2\"\nserial = \"1000000000000002\"\nmac = \"dc:a6:32:00:00:02\"\nmodel = \"Raspberry Pi 4\"",
            "port = \"2\"\nip = \"10.77.0.20\"",
            "port = \"3\"\nip = \"10.77.0.21\"",
            "# port 4: nothing draws power there",
            "# registered: 2 nodes",
        ] {
            assert!(said.contains(expected), "`{expected}` is not in\n{said}");
        }
        assert!(!said.contains("pi-1") && !said.contains("port 5"), "known and protected: {said}");
        assert!((1..=7).all(|port| !switch.is_on(port)));
        assert_eq!(lab.node(2).ip, Some([10, 77, 0, 21].into()));
    });
}

#[test]
fn an_invited_board_tells_in_the_boot_root_what_its_firmware_does_not() {
    with_room(2, Model::Pi5, |lab, switch| {
        fs::create_dir_all(lab.rack.place(1)).unwrap();
        fs::write(lab.rack.place(1).join(EEPROM), "[all]\nBOOT_ORDER=0xf41\n").unwrap();
        let discover = [&DISCOVER[..], &["2"]].concat();
        let said = lab.coordinator.cli_output(ADMIN, &discover).unwrap();
        let asides = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(asides.contains("only what firmware tells: there is no boot root"), "{asides}");
        let found = String::from_utf8(said.stdout).unwrap();
        assert!(found.contains("fill in its serial number"), "a Pi 5 shows the end of it only: {found}");

        add_boot_root(&lab.coordinator.data());
        let said = lab.coordinator.cli(ADMIN, &[&discover[..], &["--import"]].concat()).unwrap();
        let memory =
            said.lines().find_map(|line| line.strip_prefix("# ")?.split_once(" MB of memory, card of "));
        assert!(memory.unwrap().0.parse::<u64>().unwrap() > 500, "{said}");
        for expected in [
            "# boot_order",
            "serial = \"1000000000000002\"\nmac = \"dc:a6:32:00:00:02\"",
            "# registered: 1 nodes",
        ] {
            assert!(said.contains(expected), "`{expected}` is not in\n{said}");
        }
        assert!(!switch.is_on(2));
        assert!(!lab.coordinator.logged().contains("piseduce.token="));
        // Whoever was not invited is not believed, whatever it tells.
        let inventory = BoardInventory {
            serial: Serial(2),
            mac: "dc:a6:32:00:00:02".into(),
            model: "Raspberry Pi 5".into(),
            memory_kib: 1,
            card: None,
            bootloader: vec![],
        };
        let body = lab.directory.path().join("told");
        for (bytes, expected) in [(inventory.encode(), "404"), (b"\xff".to_vec(), "422")] {
            fs::write(&body, bytes).unwrap();
            let (data, url) = (
                format!("@{}", body.display()),
                format!("http://{}{}", lab.coordinator.nodes, path::enrolment(&"0".repeat(32))),
            );
            let code =
                run("curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", &data, &url]);
            assert_eq!(code.unwrap(), expected);
        }
    });
}

/// The command line as a user of `coordinator` has it.
fn as_admin(command: &mut Command, coordinator: &Coordinator) {
    command.env("PISEDUCE_URL", format!("http://{}", coordinator.people));
    command.env("PISEDUCE_TOKEN_FILE", coordinator.token_file(ADMIN));
}

#[test]
fn at_a_terminal_somebody_is_asked_and_ctrl_c_leaves_no_port_on() {
    with_room(2, Model::Pi4, |lab, switch| {
        let said = |answer: &str| {
            let line = format!("{} {} 2", program("piseduce").display(), DISCOVER.join(" "));
            let mut terminal = command("script");
            terminal.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
            as_admin(&mut terminal, &lab.coordinator);
            let mut terminal = terminal.spawn().unwrap();
            terminal.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
            let output = terminal.wait_with_output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let no = said("n\n");
        assert!(
            no.contains("register these 1 nodes as proposed? y or n") && !no.contains("# registered"),
            "{no}"
        );
        assert!(lab.coordinator.cli(ADMIN, &["node", "show", "pi-2"]).is_err());

        let mut cut = command(program("piseduce"));
        cut.args(DISCOVER).arg("2").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        as_admin(&mut cut, &lab.coordinator);
        let cut = cut.spawn().unwrap();
        wait_for("power at the port", 20.0, || switch.is_on(2), |on| *on);
        kill_process(Pid::from_child(&cut), Signal::INT).unwrap();
        let ended = cut.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
        wait_for("the port to be off", 20.0, || switch.is_on(2), |on| !*on);

        let yes = said("y\n");
        assert!(yes.contains("# registered: 1 nodes"), "{yes}");
        assert!(lab.coordinator.cli(ADMIN, &["node", "show", "pi-2"]).is_ok());
    });
}

//! What a board's firmware gets from the real coordinator over TFTP, at the two ends of a cable. The client is curl's:
//! somebody else's idea of the protocol. No board was asked.

use piseduce_coordinator::api::{DiscoveredView, NodeView};
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::state::State;
use piseduce_tests::bench_boot_root;
use piseduce_tests::board::BootSource;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::namespace::Namespace;
use piseduce_tests::process::run;
use piseduce_tests::rack_network::{BRIDGE, HEAD, address};
use piseduce_tests::wait::wait_for;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// Somebody on the boards' network.
const STRANGER: &str = "dc:a6:32:09:09:09";
const STRANGERS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);

/// What somebody at `from` gets over TFTP for a name; none: there is no such file.
fn fetch(from: &Namespace, name: &str) -> Option<Vec<u8>> {
    let mut curl = from.command("curl");
    curl.args(["--silent", "--show-error", "--max-time", "20", "--tftp-blksize", "1024"]);
    let output = curl.arg(format!("tftp://{HEAD}/{name}")).output().unwrap();
    match output.status.code() {
        Some(0) => Some(output.stdout),
        // CURLE_TFTP_NOTFOUND
        Some(68) => None,
        _ => panic!("{name}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn text(from: &Namespace, name: &str) -> String {
    String::from_utf8(fetch(from, name).unwrap_or_else(|| panic!("{name} is not found"))).unwrap()
}

/// The place of a board in the rack, without the board: `mac` is plugged in there, at the board's address.
fn take_place(lab: &Lab, mac: &str) -> Namespace {
    let place = &lab.network.boards[0];
    let lines =
        ["link set eth0 down".into(), format!("link set eth0 address {mac}"), "link set eth0 up".into()];
    place.ip_all(&lines).unwrap();
    place.ip(&format!("address replace {}/24 dev eth0", address(1))).unwrap();
    // The head forgets who was there.
    lab.network.head.ip(&format!("neighbour flush dev {BRIDGE}")).unwrap();
    place.clone()
}

/// A lab with one node whose boot root nobody could boot, and whose own firmware asks for nothing.
fn lab(limits: &str) -> Lab {
    let lab = Lab::with_limits(1, limits);
    lab.rack.connect(&BootSource::Nobody);
    let files = [("start4.elf", 3000), ("bootcode.bin", 512), ("kernel8.img", 300_000)]
        .map(|(name, bytes)| (name, vec![7; bytes]));
    bench_boot_root::add(&lab.coordinator.data(), "one", "panic=10", &files).unwrap();
    lab
}

/// The prefix under which the node's firmware asks.
fn prefix(lab: &Lab) -> String {
    lab.rack.nodes[0].serial[8..].into()
}

fn waiting(lab: &Lab) -> String {
    lab.status(0).and_then(|status| status.waiting).unwrap_or_default()
}

#[test]
fn a_boards_firmware_gets_the_boot_root_and_its_token_and_nobody_else_does() {
    let lab = lab("");
    let (own, prefix) = (lab.rack.nodes[0].mac.clone(), prefix(&lab));
    let stranger = lab.network.stranger(STRANGER, STRANGERS_ADDRESS).unwrap();
    let others = |name: &str| fetch(&stranger, &format!("{prefix}/{name}"));
    assert_eq!(fetch(&stranger, "00c0ffee/start4.elf"), None);
    assert_eq!(others("cmdline.txt"), None, "another board asks for it");
    let found: Vec<DiscoveredView> = lab.coordinator.get(ADMIN, "discovered").unwrap();
    let [board] = &found[..] else { panic!("{found:?}") };
    assert_eq!((board.mac.as_deref(), &*board.address), (Some(STRANGER), &*STRANGERS_ADDRESS.to_string()));
    assert_eq!((board.model.as_deref(), board.questions), (Some("Pi 4, Pi 400 or CM4"), 2));
    let shown = lab.coordinator.cli(ADMIN, &["node", "discovered"]).unwrap();
    assert!(shown.contains(STRANGER) && shown.contains("Pi 4"), "{shown}");
    assert!(lab.coordinator.cli(USER, &["node", "discovered"]).is_err(), "for administrators only");

    // Nobody has the node, and its port is off.
    let board = take_place(&lab, &own);
    let ask = |name: &str| fetch(&board, &format!("{prefix}/{name}"));
    assert_eq!(text(&board, &format!("{prefix}/cmdline.txt")), "panic=10\n");
    let alarm = || lab.coordinator.get::<NodeView>(USER, "nodes/pi-1").unwrap().alarm;
    let alarm = wait_for("the alarm", 10.0, alarm, Option::is_some).unwrap();
    assert!(alarm.starts_with("wrong_port_or_spoofed: the firmware of pi-1"), "{alarm}");
    assert!(lab.coordinator.cli(USER, &["node", "show", "pi-1"]).unwrap().contains(&alarm));

    lab.deploy(&[]);
    let asks = |words: &'static str| wait_for(words, 30.0, || waiting(&lab), |told| told.contains(words));
    asks("the node's firmware to ask for the boot root");
    take_place(&lab, &own);
    assert_eq!(ask("start4.elf").unwrap(), [7; 3000]);
    asks("the node's firmware to fetch the kernel");
    let line = text(&board, &format!("{prefix}/cmdline.txt"));
    assert!(line.starts_with("panic=10 piseduce.site=main ") && line.contains(" piseduce.token="), "{line}");
    assert_eq!(ask("kernel8.img").unwrap(), [7; 300_000]);
    asks("the agent's hello; the firmware has fetched the boot root");
    assert_eq!(fetch(&board, "bootcode.bin").unwrap(), [7; 512], "a Pi 3 begins without its prefix");
    for missing in ["start.elf", "config.txt"] {
        assert_eq!(fetch(&board, missing), None, "{missing} without its prefix");
    }
    assert_eq!(ask("pieeprom.upd"), None);
    assert_eq!(others("cmdline.txt"), None, "the token is the node's alone");
    take_place(&lab, "dc:a6:32:09:09:0a");
    assert_eq!(ask("cmdline.txt"), None, "whatever address another board takes");
    let alarm = lab.coordinator.get::<NodeView>(USER, "nodes/pi-1").unwrap().alarm;
    assert_eq!(alarm, None, "it was switched on since");
    assert!(!lab.coordinator.logged().contains("piseduce.token="), "no token in the log");
}

/// What the nodes' listener says to somebody at `from` who gets a path.
fn get(lab: &Lab, from: &Namespace, path: &str) -> (String, String) {
    let mut curl = from.command("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--max-time",
        "20",
        "--path-as-is",
        "--write-out",
        "\n%{http_code}",
    ]);
    let output = curl.arg(format!("http://{}{path}", lab.coordinator.nodes)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = said.rsplit_once('\n').unwrap_or_else(|| panic!("{path}: {output:?}"));
    (code.into(), body.into())
}

#[test]
fn no_http_route_gives_a_command_line_and_a_stranger_gets_nothing_over_tftp() {
    let lab = Lab::new(1);
    // An agent that never says hello leaves its boot open for others.
    lab.rack.set_agent(0, Path::new("/usr/bin/yes"));
    lab.deploy(&[]);
    lab.wait_for(0, State::NfsBootOn, 30.0);
    let line = lab.rack.place(0).join("tree/proc/cmdline");
    let line = || fs::read_to_string(&line).unwrap_or_default();
    let line = wait_for("the node's credentials", 30.0, line, |line| line.contains("piseduce.token="));
    let token = line.split_once("piseduce.token=").unwrap().1.split_ascii_whitespace().next().unwrap();
    let (serial, prefix, mac) = (&lab.rack.nodes[0].serial, prefix(&lab), &lab.rack.nodes[0].mac);
    let stranger = lab.network.stranger(STRANGER, STRANGERS_ADDRESS).unwrap();
    let mac_prefix = mac.replace(':', "-");
    let paths = [
        format!("/boot/v1/{serial}"),
        format!("/boot/v1/{prefix}"),
        format!("/boot/v2/{serial}"),
        format!("/boot/{serial}"),
        format!("/api/v1/boot/{serial}"),
        format!("/{serial}/cmdline.txt"),
        format!("/{prefix}/cmdline.txt"),
        format!("/{mac_prefix}/cmdline.txt"),
        "/cmdline.txt".into(),
        format!("/boot-files/1/1/../../../{prefix}/cmdline.txt"),
    ];
    for from in [&lab.network.head, &stranger, &lab.network.boards[0]] {
        for path in &paths {
            let (code, body) = get(&lab, from, path);
            assert!(
                code == "404" && !body.contains("piseduce.") && !body.contains(token),
                "{path}: {code} {body}"
            );
        }
    }
    for name in ["cmdline.txt", "kernel8.img", "config.txt", "start4.elf"] {
        for name in [format!("{prefix}/{name}"), format!("{mac_prefix}/{name}"), name.to_owned()] {
            assert_eq!(fetch(&stranger, &name), None, "{name}");
        }
    }
    assert_eq!(lab.status(0).unwrap().state, State::NfsBootOn, "it changes nothing for the node");
}

#[test]
fn a_pi_3_gets_its_cards_boot_files_until_it_is_freed() {
    let lab = Lab::new(1);
    lab.rack.set_model(0, "Raspberry Pi 3 Model B Plus Rev 1.3");
    let none = lab.coordinator.cli(ADMIN, &["node", "boot-files", "pi-1"]).unwrap_err().to_string();
    assert!(none.contains("boots no card over the network"), "{none}");
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 180.0);
    let board = &lab.network.boards[0];
    let ask = |name: &str| fetch(board, &format!("{}/{name}", prefix(&lab)));
    assert_eq!(fetch(board, "bootcode.bin").unwrap(), b"no firmware");
    assert_eq!(ask("start.elf").unwrap(), b"no firmware either");
    assert_eq!(ask("start4.elf").unwrap(), b"nor for a Pi 4", "and nothing of the boot root");
    let line = text(board, &format!("{}/cmdline.txt", prefix(&lab)));
    assert!(line.contains("root=PARTUUID=") && !line.contains(" resize"), "{line}");
    let shown = lab.coordinator.cli(USER, &["node", "boot-files", "pi-1"]).unwrap();
    assert!(shown.starts_with("pi-1: boot files since ") && shown.contains("by agent"), "{shown}");
    assert!(shown.contains("kernel8.img"), "{shown}");

    let boot = lab.directory.path().join("boot");
    fs::create_dir(&boot).unwrap();
    for (name, text) in [("start.elf", "newer"), ("config.txt", ""), ("cmdline.txt", "root=x"), ("ssh", "")] {
        fs::write(boot.join(name), text).unwrap();
    }
    let archive = lab.directory.path().join("boot.tar").to_string_lossy().into_owned();
    run("tar", &["-cf", &archive, "-C", &boot.to_string_lossy(), "."]).unwrap();
    let renew = ["node", "boot-files", "pi-1", "--renew", &archive];
    lab.coordinator.add_user("bob", "user").unwrap();
    assert!(lab.coordinator.cli("bob", &renew).is_err(), "for who holds the node only");
    let renewed = lab.coordinator.cli(USER, &renew).unwrap();
    assert!(renewed.contains(&format!("by {USER}")) && !renewed.contains("ssh"), "{renewed}");
    assert_eq!(ask("start.elf").unwrap(), b"newer");
    assert_eq!(ask("kernel8.img"), None);

    lab.coordinator.cli(USER, &["destroy", "pi-1"]).unwrap();
    lab.wait_until_free(0, 120.0);
    let board = take_place(&lab, &lab.rack.nodes[0].mac);
    let asked = fetch(&board, &format!("{}/start.elf", prefix(&lab)));
    assert_ne!(asked, Some(b"newer".to_vec()), "the next user's board boots nothing of it");
}

#[test]
fn a_firmware_that_goes_no_further_and_a_card_that_boots_instead_are_named() {
    let lab = lab("restart_budget = 0\nrestart_after_s = 60\nblocked_max_s = 60\n");
    let own = lab.rack.nodes[0].mac.clone();
    let name = format!("{}/start4.elf", prefix(&lab));
    let board = take_place(&lab, &own);
    assert!(fetch(&board, &name).is_some());
    let ssh = board.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 22)).unwrap());
    lab.deploy(&[]);
    let asks = || waiting(&lab).contains("to ask for the boot root");
    wait_for("the node to be on", 30.0, asks, |asks| *asks);
    take_place(&lab, &own);
    // The head knows who is there once somebody speaks, here in the name of nobody.
    assert_eq!(fetch(&board, "00c0ffee/start4.elf"), None);
    let lost = || lab.status(0).filter(|status| status.state == State::Lost);
    let cause = wait_for("the node to be lost", 59.0, lost, Option::is_some).unwrap().cause.unwrap();
    assert!(cause.is(CauseKind::BootsCardFirst), "{cause}");
    drop(ssh);

    lab.coordinator.cli(USER, &["deploy-again", "pi-1"]).unwrap();
    wait_for("the node to be on", 30.0, asks, |asks| *asks);
    take_place(&lab, &own);
    assert!(fetch(&board, &name).is_some());
    let cause = wait_for("the node to be lost", 90.0, lost, Option::is_some).unwrap().cause.unwrap();
    assert!(cause.is(CauseKind::FirmwareStopped), "{cause}");
}

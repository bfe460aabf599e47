//! What a board's firmware gets from the real coordinator over TFTP, at the two ends of a cable. The client is curl's:
//! somebody else's idea of the protocol. No board was asked.

use piseduce_coordinator::api::{DiscoveredView, NodeView};
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::state::State;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::namespace::Namespace;
use piseduce_tests::process::run;
use piseduce_tests::wait::wait_for;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;

const HEAD: &str = "10.99.7.1";
const BOARD: &str = "10.99.7.2";
/// Where nothing listens: the bench node's own firmware is to ask for nothing.
const NOWHERE: &str = "127.0.0.1:1";

/// A head and a board at the two ends of a cable.
struct Cable {
    head: Namespace,
    board: Namespace,
}

impl Cable {
    /// A board with this hardware address.
    fn new(mac: &str) -> Cable {
        let (head, board) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        head.ip(&format!("link add cable type veth peer name eth0 netns {}", board.process())).unwrap();
        head.ip(&format!("address add {HEAD}/24 dev cable")).unwrap();
        head.ip("link set cable up").unwrap();
        let cable = Cable { head, board };
        cable.is_board(mac);
        cable.board.ip(&format!("address add {BOARD}/24 dev eth0")).unwrap();
        cable
    }

    /// Another board at the same address.
    fn is_board(&self, mac: &str) {
        self.board.ip(&format!("link set eth0 address {mac}")).unwrap();
        self.board.ip("link set eth0 up").unwrap();
        // The head forgets who was there.
        self.head.ip("neighbour flush dev cable").unwrap();
    }

    /// What the board gets for a name; none: there is no such file.
    fn ask(&self, name: &str) -> Option<Vec<u8>> {
        let mut curl = self.board.command("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--tftp-blksize", "1024"]);
        let output = curl.arg(format!("tftp://{HEAD}/{name}")).output().unwrap();
        match output.status.code() {
            Some(0) => Some(output.stdout),
            // CURLE_TFTP_NOTFOUND
            Some(68) => None,
            _ => panic!("{name}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.ask(name).unwrap_or_else(|| panic!("{name} is not found"))).unwrap()
    }
}

/// A lab with one node whose coordinator answers over TFTP, with a boot root that nobody could boot.
fn lab(limits: &str) -> Lab {
    let lab = Lab::with_limits(1, &format!("{limits}[netboot]\ntftp = \"{HEAD}:69\"\n"));
    lab.rack.connect(NOWHERE);
    boot_root(&lab.coordinator.data().join("boot-roots"));
    lab
}

fn boot_root(roots: &Path) {
    let files = roots.join("one/files");
    fs::create_dir_all(&files).unwrap();
    let content = serde_json::json!({ "bytes": 0, "blake3": "" });
    let mut listed = serde_json::Map::new();
    for (name, bytes) in [("start4.elf", 3000), ("bootcode.bin", 512), ("kernel8.img", 300_000)] {
        fs::write(files.join(name), vec![7; bytes]).unwrap();
        listed.insert(name.into(), content.clone());
    }
    let description = serde_json::json!({
        "schema": 1, "version": "one", "kind": "ram", "command_line": "panic=10", "packages": {}, "agent": "0",
        "files": listed,
    });
    fs::write(roots.join("one/boot-root.json"), description.to_string()).unwrap();
    symlink("one", roots.join("current")).unwrap();
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
    let stranger = "dc:a6:32:09:09:09";
    let cable = Cable::new(stranger);
    cable.head.within(|| {
        let lab = lab("");
        let (own, prefix) = (lab.rack.nodes[0].mac.clone(), prefix(&lab));
        let ask = |name: &str| cable.ask(&format!("{prefix}/{name}"));

        assert_eq!(cable.ask("00c0ffee/start4.elf"), None);
        assert_eq!(ask("cmdline.txt"), None, "another board asks for it");
        let found: Vec<DiscoveredView> = lab.coordinator.get(ADMIN, "discovered").unwrap();
        let [board] = &found[..] else { panic!("{found:?}") };
        assert_eq!((board.mac.as_deref(), board.address.as_str()), (Some(stranger), BOARD));
        assert_eq!((board.model.as_deref(), board.questions), (Some("Pi 4, Pi 400 or CM4"), 2));
        let shown = lab.coordinator.cli(ADMIN, &["node", "discovered"]).unwrap();
        assert!(shown.contains(stranger) && shown.contains("Pi 4"), "{shown}");
        assert!(lab.coordinator.cli(USER, &["node", "discovered"]).is_err(), "for administrators only");

        // Nobody has the node, and its port is off.
        cable.is_board(&own);
        assert_eq!(cable.text(&format!("{prefix}/cmdline.txt")), "panic=10\n");
        let alarm = || lab.coordinator.get::<NodeView>(USER, "nodes/pi-1").unwrap().alarm;
        let alarm = wait_for("the alarm", 10.0, alarm, Option::is_some).unwrap();
        assert!(alarm.starts_with("wrong_port_or_spoofed: the firmware of pi-1"), "{alarm}");
        assert!(lab.coordinator.cli(USER, &["node", "show", "pi-1"]).unwrap().contains(&alarm));

        lab.deploy(&[]);
        let asks = |words: &'static str| wait_for(words, 30.0, || waiting(&lab), |told| told.contains(words));
        asks("the node's firmware to ask for the boot root");
        assert_eq!(ask("start4.elf").unwrap(), [7; 3000]);
        asks("the node's firmware to fetch the kernel");
        let line = cable.text(&format!("{prefix}/cmdline.txt"));
        assert!(
            line.starts_with("panic=10 piseduce.site=main ") && line.contains(" piseduce.token="),
            "{line}"
        );
        assert_eq!(ask("kernel8.img").unwrap(), [7; 300_000]);
        asks("the agent's hello; the firmware has fetched the boot root");
        assert_eq!(cable.ask("bootcode.bin").unwrap(), [7; 512], "a Pi 3 begins without its prefix");
        for missing in ["start.elf", "config.txt"] {
            assert_eq!(cable.ask(missing), None, "{missing} without its prefix");
        }
        assert_eq!(ask("pieeprom.upd"), None);
        cable.is_board(stranger);
        assert_eq!(ask("cmdline.txt"), None, "the token is the node's alone");
        let alarm = lab.coordinator.get::<NodeView>(USER, "nodes/pi-1").unwrap().alarm;
        assert_eq!(alarm, None, "it was switched on since");
        assert!(!lab.coordinator.logged().contains("piseduce.token="), "no token in the log");
    });
}

#[test]
fn a_pi_3_gets_its_cards_boot_files_until_it_is_freed() {
    let cable = Cable::new("dc:a6:32:00:00:01");
    cable.head.within(|| {
        let lab = lab("");
        lab.rack.connect(&lab.coordinator.nodes.to_string());
        lab.rack.set_model(0, "Raspberry Pi 3 Model B Plus Rev 1.3");
        let none = lab.coordinator.cli(ADMIN, &["node", "boot-files", "pi-1"]).unwrap_err().to_string();
        assert!(none.contains("boots no card over the network"), "{none}");
        lab.deploy(&[]);
        lab.wait_for(0, State::Deployed, 180.0);
        let ask = |name: &str| cable.ask(&format!("{}/{name}", prefix(&lab)));
        assert_eq!(cable.ask("bootcode.bin").unwrap(), b"no firmware");
        assert_eq!(ask("start.elf").unwrap(), b"no firmware either");
        assert_eq!(ask("start4.elf").unwrap(), b"nor for a Pi 4", "and nothing of the boot root");
        let line = cable.text(&format!("{}/cmdline.txt", prefix(&lab)));
        assert!(line.contains("root=PARTUUID=") && !line.contains(" resize"), "{line}");
        let shown = lab.coordinator.cli(USER, &["node", "boot-files", "pi-1"]).unwrap();
        assert!(shown.starts_with("pi-1: boot files since ") && shown.contains("by agent"), "{shown}");
        assert!(shown.contains("kernel8.img"), "{shown}");

        let boot = lab.directory.path().join("boot");
        fs::create_dir(&boot).unwrap();
        for (name, text) in
            [("start.elf", "newer"), ("config.txt", ""), ("cmdline.txt", "root=x"), ("ssh", "")]
        {
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
        wait_for("the node to be free", 120.0, || lab.status(0), Option::is_none);
        assert_ne!(ask("start.elf"), Some(b"newer".to_vec()), "the next user's board boots nothing of it");
    });
}

#[test]
fn a_firmware_that_goes_no_further_and_a_card_that_boots_instead_are_named() {
    let own = "dc:a6:32:00:00:01";
    let cable = Cable::new(own);
    cable.head.within(|| {
        let lab = lab("restart_budget = 0\nrestart_after_s = 60\nblocked_max_s = 60\n");
        assert_eq!(lab.rack.nodes[0].mac, own);
        let name = format!("{}/start4.elf", prefix(&lab));
        assert!(cable.ask(&name).is_some());
        let ssh = cable.board.within(|| TcpListener::bind((BOARD, 22)).unwrap());
        lab.deploy(&[]);
        let lost = || lab.status(0).filter(|status| status.state == State::Lost);
        let cause = wait_for("the node to be lost", 59.0, lost, Option::is_some).unwrap().cause.unwrap();
        assert!(cause.is(CauseKind::BootsCardFirst), "{cause}");
        drop(ssh);

        lab.coordinator.cli(USER, &["deploy-again", "pi-1"]).unwrap();
        let asks = || waiting(&lab).contains("to ask for the boot root");
        wait_for("the node to be on", 30.0, asks, |asks| *asks);
        assert!(cable.ask(&name).is_some());
        let cause = wait_for("the node to be lost", 90.0, lost, Option::is_some).unwrap().cause.unwrap();
        assert!(cause.is(CauseKind::FirmwareStopped), "{cause}");
    });
}

//! `piseduce netboot`: dnsmasq's settings as they are rendered, and what the check finds in a network that is sound, and in those that
//! are not.

use piseduce_tests::coordinator::{Coordinator, Place, free_udp_address};
use piseduce_tests::dnsmasq::Dnsmasq;
use piseduce_tests::lab::ADMIN;
use piseduce_tests::nfs_server::{NfsServer, export_in};
use piseduce_tests::process::run;
use piseduce_tests::rack_network::{BRIDGE, HEAD, RackNetwork};
use piseduce_tests::switch::SimulatedSwitch;
use piseduce_tests::wait::wait_for;
use serde_json::Value;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const MAC: &str = "dc:a6:32:00:00:01";

const NODE: &str = "[[node]]\nname = \"pi-1\"\nserial = \"1000000000000001\"\nmac = \"dc:a6:32:00:00:01\"\n\
    model = \"Raspberry Pi 4\"\nswitch = \"sw\"\n";

/// A head on a network with one board, which is registered.
struct Head {
    directory: tempfile::TempDir,
    coordinator: Coordinator,
}

impl Head {
    fn new(network: &str) -> Head {
        let directory = tempfile::tempdir().unwrap();
        let settings = format!(
            "[netboot]\ntftp = \"{HEAD}:69\"\n[[netboot.network]]\ninterface = \"{BRIDGE}\"\nhead = \"{HEAD}/24\"\n{network}"
        );
        let coordinator = Coordinator::start(&directory.path().join("head"), &settings).unwrap();
        coordinator.add_user(ADMIN, "admin").unwrap();
        fs::create_dir(directory.path().join("dnsmasq")).unwrap();
        let head = Head { directory, coordinator };
        head.import("ip = \"10.77.0.11\"");
        head
    }

    fn import(&self, ip: &str) {
        let inventory = self.directory.path().join("rack.toml");
        let text = format!("[[switch]]\nname = \"sw\"\ndriver = \"manual\"\n{NODE}port = \"1\"\n{ip}\n");
        fs::write(&inventory, text).unwrap();
        self.coordinator.cli(ADMIN, &["node", "import", &inventory.to_string_lossy()]).unwrap();
    }

    fn rendered(&self) -> PathBuf {
        self.directory.path().join("dnsmasq")
    }

    fn netboot(&self, arguments: &[&str]) -> std::process::Output {
        let (settings, output) = (self.coordinator.settings(), self.rendered());
        let end = ["--config", &*settings.to_string_lossy(), "--output", &*output.to_string_lossy()]
            .map(str::to_owned);
        let end: Vec<&str> = end.iter().map(String::as_str).collect();
        self.coordinator.cli_output(ADMIN, &[&["netboot"], arguments, &end].concat()).unwrap()
    }

    fn render(&self) -> String {
        let output = self.netboot(&["render"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the check says of these things; the first of each name.
    fn check(&self) -> impl Fn(&str) -> (String, String) + use<> {
        self.check_with(&[])
    }

    fn check_with(&self, arguments: &[&str]) -> impl Fn(&str) -> (String, String) + use<> {
        let output = self.netboot(&[&["check", "--json"], arguments].concat());
        let document: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        let checks = document["netboot"]["checks"].as_array().unwrap().clone();
        move |name| {
            let found = checks.iter().find(|check| check["name"] == name);
            let found = found.unwrap_or_else(|| panic!("no {name} in {checks:#?}"));
            let text = |key: &str| found[key].as_str().unwrap().to_owned();
            (text("verdict"), format!("{}: {}", text("found"), text("advice")))
        }
    }
}

#[test]
fn what_is_rendered_serves_a_network_and_the_check_finds_what_is_wrong_with_it() {
    let network = RackNetwork::new(&[MAC.to_owned()]).unwrap();
    network.head.within(|| {
        let head = Head::new("range = \"10.77.0.100-10.77.0.120\"\n");
        let of = head.check();
        assert_eq!(of("rendered").0, "fail");
        assert!(of("rendered").1.contains("`piseduce netboot render`"), "{:?}", of("rendered"));
        assert!(of("dhcp").1.contains("no DHCP server of this head answers"), "{:?}", of("dhcp"));

        assert!(head.render().contains("`systemctl restart dnsmasq` makes it so"));
        assert!(head.render().contains("nothing has changed"));
        let dnsmasq = Dnsmasq::run(&head.rendered()).unwrap();
        let of = head.check();
        for sound in ["rendered", "interface", "dhcp", "tftp"] {
            assert_eq!(of(sound).0, "ok", "{:?}; {}", of(sound), dnsmasq.logged());
        }
        assert_eq!(of("boot_root").0, "fail", "none was built");
        assert_eq!(of("isolation").0, "warn");

        head.import("ip = \"10.77.0.12\"");
        assert_eq!(head.check()("rendered").0, "fail", "the inventory has changed");
        assert!(head.render().contains("`systemctl reload dnsmasq` makes it so"));
        head.import("ip = \"10.78.0.12\"");
        let said = head.check()("addresses").1;
        assert!(said.starts_with("node pi-1 has the address 10.78.0.12, which is on no network"), "{said}");
        head.import("ip = \"10.77.0.12\"");

        // Somebody else on the same wire.
        let other = &network.boards[0];
        other.ip("link set eth0 up").unwrap();
        other.ip("address add 10.77.0.66/24 dev eth0").unwrap();
        let place = head.directory.path().join("other");
        let _other = other.within(|| Dnsmasq::start(&place, "eth0", [10, 77, 0, 66].into(), &[]).unwrap());
        let (verdict, said) = head.check()("foreign_dhcp");
        assert!(verdict == "fail" && said.starts_with("10.77.0.66 ("), "{said}");

        // Somebody with the node's address, which the coordinator has heard.
        other.ip("link set eth0 address 02:00:00:00:00:77").unwrap();
        other.ip("address add 10.77.0.12/24 dev eth0").unwrap();
        let hello = || UdpSocket::bind("10.77.0.12:0").unwrap().send_to(b"x", (HEAD, 9)).unwrap();
        other.within(hello);
        let alarms = || head.coordinator.cli(ADMIN, &["alarms"]).unwrap();
        let conflict = "02:00:00:00:00:77 on br0 says that it has 10.77.0.12, which is pi-1's";
        let told = wait_for("the alarm", 10.0, alarms, |told| told.contains(conflict));
        assert!(told.contains("10.77.0.66"), "the check's own question was answered: {told}");
        assert!(!told.contains("wrong_port"), "which was no question of the node: {told}");
    });
}

#[test]
fn an_export_is_rendered_and_asked_for_as_a_node_would() {
    let network = RackNetwork::new(&[MAC.to_owned()]).unwrap();
    let exported = tempfile::Builder::new().prefix("piseduce-export-").tempdir().unwrap();
    // As `boot-root build` asks for: everybody may read it.
    fs::set_permissions(exported.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = exported.path().to_string_lossy().into_owned();
    network.head.within(|| {
        let head = Head::new(&format!("[netboot.nfs]\ndirectory = \"{path}\"\nserver = \"nfs-ganesha\"\n"));
        let exports = head.directory.path().join("exports");
        fs::create_dir(&exports).unwrap();
        let place = head.directory.path().join("nfs");
        let check = || head.check_with(&["--exports", &exports.to_string_lossy()])("nfs");
        let (verdict, said) = check();
        assert!(verdict == "fail" && said.contains(&format!("no NFS server answers at {HEAD}")), "{said}");
        let output = head.netboot(&["render", "--exports", &exports.to_string_lossy()]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("`systemctl restart nfs-ganesha`"), "{said}");
        let rendered = export_in(&exports);
        let server = NfsServer::start(&place, HEAD, &rendered).unwrap();
        let (verdict, said) = check();
        assert!(verdict == "ok", "{said}");
        fs::set_permissions(exported.path(), fs::Permissions::from_mode(0o700)).unwrap();
        drop(server);
        let server = NfsServer::start(&place, HEAD, &rendered).unwrap();
        let (verdict, said) = check();
        assert!(verdict == "fail" && said.contains("does not let nodes on br0 read"), "{said}");
        drop(server);
        fs::set_permissions(exported.path(), fs::Permissions::from_mode(0o755)).unwrap();

        let other = |name: &str, path: &str, more: &str| {
            let file = head.directory.path().join(name);
            let text = format!(
                "EXPORT {{ Export_Id = 1; Path = \"{path}\"; Pseudo = \"{path}\"; FSAL {{ Name = VFS; }} {more} }}\n"
            );
            fs::write(&file, text).unwrap();
            file
        };
        let writable = other("writable", &path, "Access_Type = RW; Squash = No_Root_Squash;");
        let server = NfsServer::start(&place, HEAD, &writable).unwrap();
        let (verdict, said) = check();
        assert!(verdict == "fail" && said.contains("is exported for writing"), "{said}");
        drop(server);
        let elsewhere = other("elsewhere", &place.to_string_lossy(), "Access_Type = RO;");
        let _server = NfsServer::start(&place, HEAD, &elsewhere).unwrap();
        let (verdict, said) = check();
        assert!(verdict == "fail" && said.contains("(status 2)"), "{said}");
    });
}

#[test]
fn beside_another_server_that_gives_addresses_only_what_to_boot_is_said() {
    let network = RackNetwork::new(&[MAC.to_owned()]).unwrap();
    network.head.within(|| {
        let head = Head::new("dhcp = \"proxy\"\n");
        head.render();
        let _proxy = Dnsmasq::run(&head.rendered()).unwrap();
        let other = &network.boards[0];
        other.ip("link set eth0 up").unwrap();
        other.ip("address add 10.77.0.66/24 dev eth0").unwrap();
        let place = head.directory.path().join("other");
        let _other = other.within(|| Dnsmasq::start(&place, "eth0", [10, 77, 0, 66].into(), &[]).unwrap());
        let of = head.check();
        assert_eq!(of("dhcp").0, "ok", "{:?}", of("dhcp"));
        assert_eq!(of("foreign_dhcp").0, "ok", "{:?}", of("foreign_dhcp"));
    });
}

#[test]
fn a_switch_that_holds_a_board_back_and_a_board_that_would_not_come_back_are_named() {
    let network = RackNetwork::new(&[MAC.to_owned()]).unwrap();
    network.head.within(|| {
        let head = Head::new("");
        let (verdict, said) = head.check()("stp");
        assert!(verdict == "warn" && said.contains("switch sw is not asked by SNMP"), "{said}");
        let (verdict, said) = head.check()("bootloader");
        assert!(verdict == "warn" && said.contains("1 of 1 nodes were never in the boot root"), "{said}");
        assert!(head.check()("eeprom").1.contains("root on a node can write its EEPROM"));

        let switch = SimulatedSwitch::start(4, Box::new(|_, _| {})).unwrap();
        let entry = switch.entry(head.directory.path(), "poe", "3").unwrap();
        let behind = |port: u32| {
            let inventory = head.directory.path().join("poe.toml");
            let node = format!("{}port = \"{port}\"\n", NODE.replace("\"sw\"", "\"poe\""));
            fs::write(&inventory, format!("{entry}{node}")).unwrap();
            head.coordinator.cli(ADMIN, &["node", "import", &inventory.to_string_lossy()]).unwrap();
            head.check()("stp")
        };
        let (verdict, said) = behind(1);
        assert!(verdict == "fail" && said.contains("cuts pi-1 off for up to 30 s"), "{said}");
        let (verdict, said) = behind(2);
        assert!(verdict == "ok", "{said}");

        let settings = r#"[["BOOT_ORDER","0xf41"]]"#;
        let hello = format!(
            "{{\"serial\":\"1000000000000001\",\"mac\":\"{MAC}\",\"model\":\"Raspberry Pi 4 Model B\",\"kernel\":\"k\",\
             \"protocol\":[1,1],\"agent\":\"0\",\"card\":null,\"bootloader\":{settings},\"doing\":null}}"
        );
        head.coordinator.cli(ADMIN, &["reserve", "pi-1", "--for", "1h"]).unwrap();
        // As an agent of its only deployment would have said.
        let store = head.coordinator.data().join("store.sqlite");
        let insert = format!("INSERT INTO agent_hellos SELECT id, 1, 1, '{hello}', 1 FROM deployments");
        run("sqlite3", &["-cmd", ".timeout 20000", &store.to_string_lossy(), &insert]).unwrap();
        let (verdict, said) = head.check()("bootloader");
        assert!(verdict == "fail" && said.contains("pi-1: boot_order_unreachable: "), "{said}");
    });
}

#[test]
fn settings_without_a_network_and_a_network_without_its_interface_are_named() {
    let address = free_udp_address().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let settings = format!("[netboot]\ntftp = \"{address}\"\n");
    let coordinator =
        Coordinator::start_at(&Place::free().unwrap(), &directory.path().join("head"), &settings).unwrap();
    let config = coordinator.settings();
    let error =
        coordinator.cli(ADMIN, &["netboot", "render", "--config", &config.to_string_lossy()]).unwrap_err();
    assert!(error.to_string().contains("names no network: add a [[netboot.network]]"), "{error}");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        format!("{text}[[netboot.network]]\ninterface = \"nowhere0\"\nhead = \"10.9.0.1/24\"\n"),
    )
    .unwrap();
    let output =
        coordinator.cli_output(ADMIN, &["netboot", "check", "--config", &config.to_string_lossy()]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("FAIL  interface        there is no interface nowhere0"), "{said}");
    assert!(!output.status.success());
}

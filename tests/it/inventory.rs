//! The inventory as operators change it: exchanged boards and outlets, outlets under two names, what is no longer in the file, switches
//! that get another name or go.

use piseduce_tests::coordinator::Coordinator;
use piseduce_tests::lab::ADMIN;
use serde_json::Value;
use std::fs;

struct Head {
    directory: tempfile::TempDir,
    coordinator: Coordinator,
}

const LCUS: &str =
    "[[switch]]\nname = \"relays\"\n[switch.driver.serial]\ndevice = \"/dev/none\"\nboard = \"lcus\"\n";
const MANUAL: &str = "[[switch]]\nname = \"sw\"\ndriver = \"manual\"\n";

/// A node whose serial number and address end with `board`.
fn node(name: &str, board: u8, switch: &str, port: &str, ip: u8) -> String {
    format!(
        "[[node]]\nname = \"{name}\"\nserial = \"10000000000000{board:02x}\"\nmac = \"dc:a6:32:00:00:{board:02x}\"\n\
         model = \"4B\"\nswitch = \"{switch}\"\nport = \"{port}\"\nip = \"10.9.0.{ip}\"\n"
    )
}

impl Head {
    fn new() -> Head {
        let directory = tempfile::tempdir().unwrap();
        let coordinator = Coordinator::start(&directory.path().join("head"), "").unwrap();
        coordinator.add_user(ADMIN, "admin").unwrap();
        Head { directory, coordinator }
    }

    /// Imports these entries; what was said.
    fn import(&self, entries: &[String]) -> Result<String, String> {
        let file = self.directory.path().join("rack.toml");
        fs::write(&file, entries.concat()).unwrap();
        self.cli(&["node", "import", &file.to_string_lossy()])
    }

    fn cli(&self, arguments: &[&str]) -> Result<String, String> {
        self.coordinator.cli(ADMIN, arguments).map_err(|error| format!("{error:#}"))
    }

    fn refused(&self, entries: &[String], expected: &str) {
        let said = self.import(entries).unwrap_err();
        assert!(said.contains(expected), "`{expected}` is not in: {said}");
    }

    fn port_of(&self, node: &str) -> String {
        let nodes: Vec<Value> = self.coordinator.get(ADMIN, "nodes").unwrap();
        let found = nodes.iter().find(|known| known["name"] == node).unwrap();
        format!("{} {} {}", found["port"], found["mac"], found["ip"]).replace('"', "")
    }
}

#[test]
fn an_outlet_has_one_name_and_one_node() {
    let head = Head::new();
    head.refused(
        &[LCUS.into(), node("a", 1, "relays", "1", 1), node("b", 2, "relays", "01", 2)],
        "port `1 of switch relays` is in use",
    );
    for wrong in ["x", "256", "0"] {
        head.refused(&[LCUS.into(), node("a", 1, "relays", wrong, 1)], "node a at switch relays: port `");
    }
    head.import(&[LCUS.into(), node("a", 1, "relays", "007", 1)]).unwrap();
    assert!(head.port_of("a").starts_with("7 "), "{}", head.port_of("a"));
    // A switch whose new driver has no such outlet.
    let other = LCUS.replace("\"lcus\"", "{ raw = { on = { left = \"41\" }, off = { left = \"61\" } } }");
    head.refused(&[other], "node a at switch relays: port `7`");
    let protected = LCUS.replace("[switch.driver", "protected_ports = [\"07\"]\n[switch.driver");
    head.refused(&[protected], "node a, which could not be switched there");
}

#[test]
fn two_nodes_exchange_boards_outlets_and_addresses_in_one_import() {
    let head = Head::new();
    head.import(&[MANUAL.into(), node("a", 1, "sw", "1", 1), node("b", 2, "sw", "2", 2)]).unwrap();
    let said = head.import(&[node("a", 1, "sw", "2", 2), node("b", 2, "sw", "1", 1)]).unwrap();
    assert!(said.contains("0 added, 2 changed"), "{said}");
    assert_eq!(head.port_of("a"), "2 dc:a6:32:00:00:01 10.9.0.2");
    let said = head.import(&[node("a", 2, "sw", "2", 2), node("b", 1, "sw", "1", 1)]).unwrap();
    assert!(said.contains("0 added, 2 changed"), "{said}");
    assert_eq!(head.port_of("a"), "2 dc:a6:32:00:00:02 10.9.0.2");
    // One that is not in the file keeps what is its own, and nothing of a refused import stays.
    head.refused(&[node("a", 2, "sw", "1", 3)], "node b is plugged there");
    head.refused(&[node("a", 1, "sw", "2", 2)], "node b has the same last 8 digits");
    assert_eq!(head.port_of("a"), "2 dc:a6:32:00:00:02 10.9.0.2");
}

#[test]
fn an_import_says_what_it_did_and_what_it_does_not_name_and_an_export_imports_again() {
    let head = Head::new();
    head.refused(&[MANUAL.into(), MANUAL.into()], "switch `sw` is in the inventory twice");
    let twice = [MANUAL.into(), node("a", 1, "sw", "1", 1), node("a", 2, "sw", "2", 2)];
    head.refused(&twice, "node `a` is in the inventory twice");
    let both = [MANUAL.into(), LCUS.into(), node("a", 1, "sw", "1", 1), node("b", 2, "relays", "2", 2)];
    let said = head.import(&both).unwrap();
    assert!(said.contains("switches: 2 added, 0 changed, 0 unchanged\nnodes: 2 added"), "{said}");
    let said = head.import(&[MANUAL.into(), node("a", 1, "sw", "1", 1)]).unwrap();
    assert!(
        said.contains("switches: 0 added, 0 changed, 1 unchanged\nnodes: 0 added, 0 changed, 1"),
        "{said}"
    );
    assert!(said.contains("still registered: b (`piseduce node retire`"), "{said}");
    assert!(said.contains("still registered: relays (`piseduce switch remove`"), "{said}");

    let exported = head.cli(&["node", "export"]).unwrap();
    let said = head.import(&[exported]).unwrap();
    assert!(
        said.contains("switches: 0 added, 0 changed, 2 unchanged\nnodes: 0 added, 0 changed, 2"),
        "{said}"
    );
    assert!(!said.contains("still registered"), "{said}");
}

#[test]
fn a_switch_gets_another_name_and_goes_when_it_powers_nobody() {
    let head = Head::new();
    head.import(&[MANUAL.into(), LCUS.into(), node("a", 1, "sw", "1", 1)]).unwrap();
    assert!(head.cli(&["switch", "rename", "none", "x"]).unwrap_err().contains("no switch `none`"));
    assert!(
        head.cli(&["switch", "rename", "sw", "relays"]).unwrap_err().contains("a switch `relays` already")
    );
    head.cli(&["switch", "rename", "sw", "poe-1"]).unwrap();
    let nodes: Vec<Value> = head.coordinator.get(ADMIN, "nodes").unwrap();
    assert_eq!(nodes[0]["switch"], "poe-1");
    assert!(head.cli(&["switch", "list"]).unwrap().contains("poe-1"));
    let said = head.cli(&["switch", "remove", "poe-1"]).unwrap_err();
    assert!(said.contains("it powers a; move or retire"), "{said}");
    // The history of a retired node keeps the row, and the name is free.
    head.cli(&["node", "retire", "a"]).unwrap();
    head.cli(&["switch", "remove", "poe-1"]).unwrap();
    head.cli(&["switch", "remove", "relays"]).unwrap();
    let switches: Vec<Value> = head.coordinator.get(ADMIN, "switches").unwrap();
    assert!(switches.is_empty(), "{switches:?}");
    head.import(&[MANUAL.replace("\"sw\"", "\"poe-1\""), node("a", 1, "poe-1", "1", 1)]).unwrap();
}

#[test]
fn what_a_terminal_would_obey_what_blocks_and_what_never_ends_is_refused() {
    let head = Head::new();
    let escape = |text: &str| text.replace("ESC", "\\u001b[31m");
    head.refused(
        &[escape("[[switch]]\nname = \"sESC\"\ndriver = \"manual\"\n")],
        "switch name `s\\u{1b}[31m` is not",
    );
    let port = escape(&node("a", 1, "sw", "ESC", 1));
    head.refused(&[MANUAL.into(), port], "port `\\u{1b}[31m` is none of a switch");
    head.refused(
        &[escape(&LCUS.replace("none", "ESC"))],
        "`device` of its driver `serial` is `/dev/\\u{1b}[31m`",
    );
    let missing = head.coordinator.cli_output(ADMIN, &["node", "show", "\u{1b}[31m"]).unwrap();
    assert!(!missing.status.success() && !missing.stderr.contains(&0x1b), "{missing:?}");

    // A pipe, at which a reader would wait for a writer.
    let pipe = head.directory.path().join("secrets");
    piseduce_tests::process::run("mkfifo", &["-m", "600", &pipe.to_string_lossy()]).unwrap();
    let snmp = format!(
        "[[switch]]\nname = \"poe\"\n[switch.driver.snmp]\naddress = \"127.0.0.1:1\"\nversion = \"2c\"\nsecrets = {pipe:?}\n"
    );
    head.import(&[snmp]).unwrap();
    let shown = head.cli(&["switch", "show", "poe"]).unwrap_err();
    assert!(shown.contains("is no file"), "{shown}");

    let names: Vec<String> = (0..10_001).map(|number| format!("x{number}")).collect();
    let file = head.directory.path().join("reserve.json");
    fs::write(&file, serde_json::json!({"nodes": names, "seconds": 3600}).to_string()).unwrap();
    let token = fs::read_to_string(head.coordinator.token_file(ADMIN)).unwrap();
    let url = format!("http://{}/api/v1/reservations", head.coordinator.people);
    let authorization = format!("Authorization: Bearer {}", token.trim());
    let data = format!("@{}", file.display());
    let common = ["--silent", "--max-time", "20", "--header", "Content-Type: application/json"];
    let arguments = [&common[..], &["--header", &authorization, "--data", &data, &url]].concat();
    let answer = piseduce_tests::process::run("curl", &arguments).unwrap();
    assert!(answer.contains("10001 nodes are named; 10000 are possible at once"), "{answer}");
}

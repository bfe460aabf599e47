//! `piseduce doctor`: every kind of trouble of a head node is found, named, and told with what to do.

use piseduce_tests::coordinator::Coordinator;
use piseduce_tests::process::{command, mortal_command, program, run};
use piseduce_tests::{images, wait};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// A user that nothing here belongs to.
const NOBODY: u32 = 65534;

/// A head node with an environment and a switch, as its first day left it.
struct Head {
    directory: tempfile::TempDir,
    coordinator: Coordinator,
}

/// What a doctor said.
struct Said {
    well: bool,
    checks: Vec<Value>,
    error: String,
}

impl Said {
    /// The verdict on a check, with what was found and advised.
    fn of(&self, name: &str) -> (String, String) {
        let all = || format!("{:#?}", self.checks);
        let check = self.checks.iter().find(|check| check["name"] == name);
        let check = check.unwrap_or_else(|| panic!("no check {name}: {}", all()));
        let text = |key: &str| check[key].as_str().unwrap_or_else(|| panic!("no {key}: {check}")).to_owned();
        (text("verdict"), format!("{}: {}", text("found"), text("advice")))
    }

    fn verdicts(&self, verdict: &str) -> Vec<&str> {
        let those = self.checks.iter().filter(|check| check["verdict"] == verdict);
        those.map(|check| check["name"].as_str().unwrap()).collect()
    }
}

impl Head {
    fn new() -> Head {
        let directory = tempfile::tempdir().unwrap();
        let coordinator = Coordinator::start(&directory.path().join("head"), "").unwrap();
        let head = Head { directory, coordinator };
        head.coordinator.add_user("root", "admin").unwrap();
        let settings = head.settings();
        let image = images::story().unwrap();
        let add = [
            "environment",
            "add",
            "lab",
            &image.to_string_lossy(),
            "--any-architecture",
            "--config",
            &settings,
        ];
        head.coordinator.cli("root", &add).unwrap();
        let poe = head.directory.path().join("poe");
        fs::copy("/bin/true", &poe).unwrap();
        let rack = head.directory.path().join("rack.toml");
        let entry = format!(
            "[[switch]]\nname = \"sw\"\ndriver.command.argv = [{poe:?}, \"{{action}}\", \"{{port}}\"]\n"
        );
        fs::write(&rack, entry).unwrap();
        head.coordinator.cli("root", &["node", "import", &rack.to_string_lossy()]).unwrap();
        head
    }

    fn stopped() -> Head {
        let mut head = Head::new();
        head.coordinator.terminate();
        head
    }

    fn settings(&self) -> String {
        self.coordinator.settings().to_string_lossy().into_owned()
    }

    fn change_settings(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.coordinator.settings()).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(self.coordinator.settings(), text.replacen(from, to, 1)).unwrap();
    }

    fn data(&self, name: &str) -> PathBuf {
        self.coordinator.data().join(name)
    }

    fn sql(&self, statement: &str) {
        run("sqlite3", &[&self.data("store.sqlite").to_string_lossy(), statement]).unwrap();
    }

    fn doctor(&self) -> Said {
        let mut doctor = mortal_command(program("piseduce"));
        said(doctor.args(["doctor", "--json", "--config", &self.settings()]))
    }

    /// Asks the doctor, who must find `name` wrong and mention `parts`.
    fn fails(&self, name: &str, parts: &[&str]) {
        let said = self.doctor();
        let (verdict, text) = said.of(name);
        assert_eq!(verdict, "fail", "{name}: {text}");
        for part in parts {
            assert!(text.contains(part), "{name}: `{part}` is not in: {text}");
        }
        assert!(!said.well && said.error.contains("failed"), "{}", said.error);
    }
}

fn said(doctor: &mut std::process::Command) -> Said {
    let output = doctor.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|wrong| panic!("{wrong}: {} {error}", String::from_utf8_lossy(&output.stdout)));
    assert_eq!(document["schema"], 1);
    let checks = document["doctor"]["checks"].as_array().unwrap().clone();
    Said { well: output.status.success(), checks, error }
}

#[test]
fn network_boot_is_looked_at_where_it_is_set() {
    let mut head = Head::stopped();
    let address = piseduce_tests::coordinator::free_udp_address().unwrap();
    head.change_settings("[limits]", &format!("[netboot]\ntftp = \"{address}\"\n[limits]"));
    let other = std::net::UdpSocket::bind(address).unwrap();
    head.fails("tftp", &["another program has", "end the other TFTP server"]);
    drop(other);
    head.fails("boot_root", &["no boot root was built", "piseduce boot-root build --debian --ram"]);
    let version = head.data("boot-roots/one");
    fs::create_dir_all(version.join("files")).unwrap();
    fs::write(version.join("files/config.txt"), "a=1").unwrap();
    let hash = "0000000000000000000000000000000000000000000000000000000000000000";
    let describe = |hash: &str| {
        let files = serde_json::json!({ "config.txt": { "bytes": 3, "blake3": hash } });
        let description = serde_json::json!({
            "schema": 1, "version": "one", "kind": "ram", "command_line": "", "packages": {}, "agent": "", "files": files,
        });
        fs::write(version.join("boot-root.json"), description.to_string()).unwrap();
    };
    describe(hash);
    std::os::unix::fs::symlink("one", head.data("boot-roots/current")).unwrap();
    head.fails("boot_root", &["files/config.txt is missing, cannot be read or is damaged"]);
    describe(&piseduce_protocol::id::Hash::of(b"a=1").to_string());
    head.coordinator.resume().unwrap();
    let said = head.doctor();
    assert_eq!((said.of("tftp").0, said.of("boot_root").0), ("ok".into(), "ok".into()), "{:#?}", said.checks);
    assert!(said.of("tftp").1.contains("boards are answered at"));
}

#[test]
fn a_sound_head_is_found_sound_running_and_stopped() {
    let mut head = Head::new();
    let link = || head.doctor().of("broker_link");
    wait::wait_for("the link to the broker", 20.0, link, |(verdict, _)| verdict == "ok");
    let said = head.doctor();
    assert!(said.well && said.verdicts("fail").is_empty(), "{:#?}", said.checks);
    assert!(said.of("coordinator").1.contains("has been running for"));
    assert!(said.of("people").1.contains("the running coordinator has it"));
    // The bench is on loopback, which no board would reach.
    assert_eq!((said.of("nodes").0, said.of("broker").0), ("warn".into(), "warn".into()));
    for sound in ["settings", "directory", "owner", "free_space", "file_system", "site_key"] {
        assert_eq!(said.of(sound).0, "ok", "{sound}");
    }
    for sound in ["store", "journal", "images", "switches"] {
        assert_eq!(said.of(sound).0, "ok", "{sound}");
    }
    head.coordinator.terminate();
    let said = head.doctor();
    assert!(!said.well, "{:#?}", said.checks);
    assert_eq!(said.of("coordinator").0, "fail");
    assert!(said.of("coordinator").1.contains("does not run"));
    assert!(said.of("people").1.contains("is free"));
    let lines = command(program("piseduce")).args(["doctor", "--config", &head.settings()]).output().unwrap();
    assert_eq!(lines.status.code(), Some(1));
    let lines = String::from_utf8(lines.stdout).unwrap();
    assert!(lines.contains("\nok    store "), "{lines}");
}

#[test]
fn what_is_wrong_with_addresses_is_told() {
    let mut head = Head::stopped();
    let taken = TcpListener::bind(head.coordinator.people).unwrap();
    head.fails("people", &["held by another program", "ss -ltnp"]);
    drop(taken);
    let nodes = format!("advertised_address = \"{}\"", head.coordinator.nodes);
    head.change_settings(&nodes, "advertised_address = \"203.0.113.9:8070\"");
    head.fails("nodes", &["203.0.113.9", "nodes.advertised_address"]);
    // Now it runs, and nobody answers where nodes are told to go.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    head.change_settings("203.0.113.9:8070", &free.to_string());
    head.coordinator.resume().unwrap();
    head.fails("nodes", &["nobody answers at", &free.to_string()]);
    let own = format!("listen = \"{}\"", head.coordinator.people);
    head.change_settings(&own, &format!("listen = \"{free}\""));
    let (verdict, text) = head.doctor().of("people");
    assert!(verdict == "warn" && text.contains("restart it"), "{text}");
}

#[test]
fn what_is_wrong_with_files_is_told() {
    let head = Head::stopped();
    let key = head.data("site.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    head.fails("site_key", &["mode 0644", "others may read it"]);
    fs::write(&key, "short").unwrap();
    head.fails("site_key", &["5 bytes instead of 32"]);
    fs::remove_file(&key).unwrap();

    chown(head.data("store.sqlite"), Some(NOBODY), None).unwrap();
    head.fails("owner", &["1 files", "store.sqlite", "chown -R"]);
    chown(head.data("store.sqlite"), Some(0), None).unwrap();

    head.change_settings("free_space_mb = 64", "free_space_mb = 999999999");
    head.fails("free_space", &["999999999 MB must stay free"]);
    head.change_settings("free_space_mb = 999999999", "free_space_mb = 64");

    let pack = fs::read_dir(head.data("images/packs")).unwrap().next().unwrap().unwrap().path();
    let length = pack.metadata().unwrap().len();
    fs::File::options().write(true).open(&pack).unwrap().set_len(length - 1).unwrap();
    head.fails("images", &["environment lab", "bytes instead of", "piseduce environment add"]);
    fs::remove_file(&pack).unwrap();
    head.fails("images", &["environment lab", "is missing"]);

    fs::remove_file(head.directory.path().join("poe")).unwrap();
    head.fails("switches", &["poe", "switch sw"]);
    assert!(!key.exists(), "the doctor changes nothing");
}

#[test]
fn what_is_wrong_with_the_store_is_told() {
    let head = Head::stopped();
    head.sql("UPDATE journal SET unix_ms = 9000000000000");
    head.fails("journal", &["the last entry is of 2255-", "set the clock"]);
    head.sql("PRAGMA user_version = 99");
    head.fails("store", &["version 99", "or a later one"]);
    let file = head.data("store.sqlite");
    let mut bytes = fs::read(&file).unwrap();
    let length = bytes.len();
    bytes[4096..length - 4096].fill(0x5a);
    fs::write(&file, &bytes).unwrap();
    head.fails("store", &["restore"]);
    fs::write(&file, "not a database, but long enough to be looked at as one").unwrap();
    head.fails("store", &["file is not a database"]);
}

#[test]
fn a_coordinator_that_hangs_is_told_from_one_that_does_not_run() {
    let head = Head::new();
    let held = fs::read_to_string(head.data("addresses.json")).unwrap();
    // As if it answered no more: what stands there is nobody's address.
    fs::write(head.data("addresses.json"), "{}").unwrap();
    head.fails("coordinator", &["does not answer"]);
    fs::write(head.data("addresses.json"), held).unwrap();
    assert_eq!(head.doctor().of("coordinator").0, "ok");
}

#[test]
fn who_may_not_look_is_told_who_may() {
    let head = Head::stopped();
    let everybodys = fs::Permissions::from_mode(0o755);
    // Another user can reach neither the program where it was built nor the settings.
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), everybodys.clone()).unwrap();
    fs::set_permissions(head.directory.path(), everybodys).unwrap();
    let copy = place.path().join("piseduce");
    fs::copy(program("piseduce"), &copy).unwrap();
    let doctor = |user: u32| {
        let mut doctor = command("setpriv");
        let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
        doctor.args([&uid, &gid, "--clear-groups", "--"]).arg(&copy);
        said(doctor.args(["doctor", "--json", "--config", &head.settings()]))
    };
    let stranger = doctor(NOBODY);
    let (verdict, text) = stranger.of("directory");
    assert!(verdict == "fail" && text.contains("run this as root or as that user"), "{text}");
    assert!(!stranger.well);
    // The service's own user may, root's files given.
    give(&head.coordinator.data(), NOBODY);
    let own = doctor(NOBODY);
    assert_eq!(own.verdicts("fail"), ["coordinator"], "{:#?}", own.checks);
    assert_eq!(own.of("store").0, "ok");
    let roots = head.doctor();
    assert_eq!(
        roots.verdicts("fail"),
        ["coordinator"],
        "root may look as well, and leaves nothing that is root's"
    );
    assert_eq!(doctor(NOBODY).of("owner").0, "ok");
}

fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), user));
    }
}

#[test]
fn settings_that_are_wrong_are_what_is_told() {
    let head = Head::stopped();
    head.change_settings("[limits]", "[limitz]");
    head.fails("settings", &["limitz", "not a setting"]);
}

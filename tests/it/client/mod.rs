//! The command line as a stranger and a program meet it: errors that say what to do, exit codes, JSON whose
//! fields stay, logs, exports.

mod errors;
mod json;
mod many;
mod records;

use piseduce_tests::coordinator::Coordinator;
use piseduce_tests::lab::{ADMIN, USER};
use serde_json::Value;
use std::fs;
use std::process::Output;

const SWITCH: &str =
    "[[switch]]\nname = \"poe-1\"\ndriver.command.argv = [\"true\", \"{action}\", \"{port}\"]\n";

/// A node of an inventory; `name`, serial number, address and port all end with the same number.
fn node(number: u64, switch: &str) -> String {
    format!(
        "[[node]]\nname = \"pi-{number}\"\nserial = \"10000000000000{number:02}\"\nmac = \"dc:a6:32:00:00:{number:02}\"\n\
         model = \"Raspberry Pi 4 Model B\"\nswitch = \"{switch}\"\nport = \"{number}\"\n"
    )
}

/// A coordinator with a node that nobody powers on.
struct Office {
    directory: tempfile::TempDir,
    coordinator: Coordinator,
}

impl Office {
    fn new() -> Office {
        let directory = tempfile::tempdir().unwrap();
        let coordinator = Coordinator::start(&directory.path().join("head"), "").unwrap();
        coordinator.add_user(ADMIN, "admin").unwrap();
        coordinator.add_user(USER, "user").unwrap();
        let office = Office { directory, coordinator };
        let rack = office.file("rack.toml", &(SWITCH.to_owned() + &node(1, "poe-1")));
        office.coordinator.cli(ADMIN, &["node", "import", &rack]).unwrap();
        office
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// An environment `lab`, and the file with the key of who may log in there.
    fn environment(&self) -> String {
        let image = piseduce_tests::images::story().unwrap();
        let (image, settings) = (image.to_string_lossy(), self.settings());
        let add = ["environment", "add", "lab", &image, "--any-architecture", "--config", &settings];
        self.coordinator.cli(ADMIN, &add).unwrap();
        self.file("key.pub", piseduce_tests::lab::SSH_KEY)
    }

    fn settings(&self) -> String {
        self.coordinator.settings().to_string_lossy().into_owned()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the program answers to programs: the objects on standard output.
fn json(coordinator: &Coordinator, user: &str, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["--json"], arguments].concat();
    let output = coordinator.cli_output(user, &arguments).unwrap();
    assert!(said(&output).is_empty(), "{arguments:?}: {}", said(&output));
    objects(&output.stdout)
}

fn objects(text: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(text);
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.iter().all(|object| object["schema"] == 1), "{text}");
    objects
}

/// Checks that `value` is an object with at least these fields: they may be added, but never taken away.
fn check_fields(value: &Value, fields: &[&str]) {
    let found: Vec<&String> =
        value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().collect();
    for field in fields {
        assert!(found.iter().any(|known| known == field), "no `{field}` among {found:?}");
    }
}

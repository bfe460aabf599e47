//! The floors of the house: a room names only rooms on lower floors, and rooms of one floor do not name
//! each other. See the code map in ARCHITECTURE.md.

use piseduce_tests::process::workspace;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The coordinator's rooms, ground floor first.
const COORDINATOR: [&[&str]; 9] = [
    &["clock", "clock_trust", "descriptors", "print", "private", "signal"],
    &["domain", "serial_port", "service_manager"],
    &["api", "machine", "permission", "credentials"],
    &["bus", "console", "image", "netboot", "power", "store"],
    &["runner"],
    &["http"],
    &["config"],
    &["data_directory"],
    &["app", "client", "operate"],
];

/// What the client may name although it stands on the top floor: it speaks HTTP and knows nothing else.
const CLIENT: [&str; 4] = ["api", "client", "domain", "print"];

/// The agent's rooms, ground floor first.
const AGENT: [&[&str]; 10] = [
    &["clock"],
    &["backoff", "cancel", "identity", "log", "meter", "vitals"],
    &["tool"],
    &["card"],
    &["image", "tree"],
    &["os"],
    &["step"],
    &["agent", "enrolment", "link"],
    &["worker"],
    &["runner"],
];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The rooms of the crate that a file names, with the lines that do.
fn named(text: &str) -> Vec<(String, String)> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        line.match_indices("crate::").filter_map(move |(at, word)| {
            let before = line[..at].chars().next_back();
            let is_path_start = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
            let room: String =
                line[at + word.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            (is_path_start && !room.is_empty()).then(|| (room, line.trim().to_owned()))
        })
    })
    .collect()
}

fn check(krate: &str, floors: &[&[&str]]) -> Vec<String> {
    let floor_of: BTreeMap<&str, usize> = floors
        .iter()
        .enumerate()
        .flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, floor)))
        .collect();
    let root = workspace().join(krate).join("src");
    let mut complaints = Vec::new();
    for file in sources(&root) {
        let inside = file.strip_prefix(&root).unwrap();
        let first = inside.iter().next().unwrap().to_string_lossy();
        let room = first.strip_suffix(".rs").unwrap_or(&first);
        if ["lib", "main"].contains(&room) {
            continue;
        }
        let Some(own) = floor_of.get(room) else {
            complaints.push(format!(
                "{krate}: room `{room}` stands on no floor: add it to this test and the code map"
            ));
            continue;
        };
        for (other, line) in named(&fs::read_to_string(&file).unwrap()) {
            let (other, at) = (other.as_str(), inside.display());
            let Some(floor) = floor_of.get(other) else { continue };
            if other != room && floor >= own {
                complaints.push(format!(
                    "{krate}/src/{at}: `{room}` must not name `{other}`, which is not below it: {line}"
                ));
            }
            if room == "client" && krate == "coordinator" && !CLIENT.contains(&other) {
                complaints.push(format!("{krate}/src/{at}: the client knows the API only: {line}"));
            }
        }
    }
    complaints
}

#[test]
fn no_room_names_one_that_is_not_below_it() {
    let complaints = [check("coordinator", &COORDINATOR), check("node-agent", &AGENT)].concat();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn protocol_knows_no_std() {
    for file in sources(&workspace().join("protocol/src")) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("std::"), "{} names std", file.display());
    }
}

#[test]
fn files_stay_short_enough_to_be_read() {
    for krate in ["protocol", "coordinator", "node-agent", "tests"] {
        for file in sources(&workspace().join(krate))
            .into_iter()
            .filter(|file| !file.iter().any(|part| part == "target"))
        {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().take_while(|line| !line.starts_with("mod tests {")).count();
            assert!(code <= 420, "{} has {code} lines before its tests", file.display());
            assert!(text.starts_with("//!"), "{} does not say what it is", file.display());
        }
    }
}

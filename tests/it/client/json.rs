//! Results for programs, whose fields may be added but never taken away; and for eyes.

use super::{Office, check_fields, json, node};
use piseduce_tests::lab::{ADMIN, Lab, SSH_KEY, USER};
use serde_json::Value;

const NODE: [&str; 9] =
    ["name", "serial", "mac", "model", "switch", "port", "power", "deployment", "until_unix_ms"];
const STATUS: [&str; 10] = [
    "id",
    "run",
    "process",
    "state",
    "since_unix_ms",
    "waiting",
    "cause",
    "progress",
    "environment",
    "owner",
];
const DEPLOYMENT: [&str; 7] =
    ["node", "registered", "restarts", "evidence", "until_unix_ms", "known_hosts", "fingerprint"];
const ENTRY: [&str; 9] = ["id", "unix_ms", "actor", "run", "process", "state", "phase", "cause", "detail"];

#[test]
fn json_of_lists_and_answers_keeps_its_fields() {
    let office = Office::new();
    let (coordinator, settings) = (&office.coordinator, office.settings());
    let one = |user: &str, arguments: &[&str], name: &str| {
        let objects = json(coordinator, user, arguments);
        let [object] = &objects[..] else { panic!("{arguments:?}: {objects:?}") };
        check_fields(object, &["schema", name]);
        object[name].clone()
    };
    let rack = office.file("rack.toml", &node(1, "poe-1"));
    check_fields(&one(ADMIN, &["node", "import", &rack], "imported"), &["added", "changed", "unchanged"]);
    let reservation = one(USER, &["reserve", "pi-1", "--for", "1h"], "reservation");
    check_fields(&reservation, &["id", "owner", "until_unix_ms", "nodes"]);
    let nodes = one(USER, &["node", "list"], "nodes");
    for node in [&nodes[0], &one(USER, &["node", "show", "pi-1"], "node")] {
        check_fields(node, &NODE);
        check_fields(&node["deployment"], &STATUS);
        assert!(node["deployment"]["waiting"].as_str().unwrap().starts_with("its form"), "{node}");
    }
    let deployments = one(USER, &["deployment", "list"], "deployments");
    let deployment = one(USER, &["deployment", "show", "1"], "deployment");
    for deployment in [&deployments[0], &deployment] {
        check_fields(deployment, &STATUS);
        check_fields(deployment, &DEPLOYMENT);
    }
    check_fields(&deployment, &["journal", "exit_code", "output"]);
    check_fields(&deployment["journal"][0], &ENTRY);
    let logs = one(USER, &["deployment", "logs", "pi-1"], "logs");
    check_fields(&logs, &["deployment", "node", "run", "present_run", "state", "journal", "agent", "script"]);
    let started = one(USER, &["cancel", "pi-1"], "started");
    check_fields(&started[0], &["node", "deployment"]);
    assert_eq!(one(USER, &["deployment", "watch"], "rested").as_array().map(Vec::len), Some(0));

    assert_eq!(one(USER, &["environment", "list"], "environments").as_array().map(Vec::len), Some(0));
    let user = one(ADMIN, &["user", "add", "tom", "--config", &settings], "user");
    check_fields(&user, &["name", "role", "token", "token_file"]);
    check_fields(&one(ADMIN, &["user", "list", "--config", &settings], "users")[0], &["name", "role"]);
}

#[test]
fn json_of_a_deployment_from_image_to_destroy_keeps_its_fields() {
    let lab = Lab::new(1);
    let coordinator = &lab.coordinator;
    let image = piseduce_tests::images::story().unwrap();
    let (image, settings) = (image.to_string_lossy(), coordinator.settings());
    let add = [
        "environment",
        "add",
        "other",
        &image,
        "--any-architecture",
        "--config",
        &settings.to_string_lossy(),
    ];
    let environment =
        ["name", "manifest", "image_bytes", "family", "family_evidence", "architecture", "added_unix_ms"];
    check_fields(&json(coordinator, ADMIN, &add)[0]["environment"], &environment);
    check_fields(&json(coordinator, USER, &["environment", "list"])[0]["environments"][0], &environment);
    check_fields(&json(coordinator, USER, &["environment", "show", "other"])[0]["environment"], &environment);
    let removed = &json(coordinator, ADMIN, &["environment", "remove", "other"])[0]["removed"];
    check_fields(removed, &["name", "kept_for_deployments", "kept_for_environments"]);
    assert_eq!(removed["name"], "other");

    coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let key = lab.file("key.pub", SSH_KEY);
    let deploy = ["deploy", "pi-1", "--environment", "story", "--ssh-key", &key, "--wait"];
    let lines = json(coordinator, USER, &deploy);
    let (last, changes) = lines.split_last().unwrap();
    for change in changes {
        check_fields(&change["status"], &["node", "deployment"]);
        check_fields(&change["status"]["deployment"], &STATUS);
    }
    let states: Vec<&Value> = changes.iter().map(|line| &line["status"]["deployment"]["state"]).collect();
    assert!(states.len() > 1 && states.last() == Some(&&Value::from("deployed")), "{states:?}");
    check_fields(&last["rested"][0], &STATUS);
    check_fields(&last["rested"][0], &DEPLOYMENT);
    assert_eq!(last["rested"][0]["state"], "deployed");

    let followed = json(coordinator, USER, &["deployment", "logs", "pi-1", "--follow"]);
    let of = |name: &str| followed.iter().filter(|line| line.get(name).is_some()).count();
    assert!(of("entry") >= 15 && of("line") >= 9 && of("script") == 1, "{followed:?}");
    let line = followed.iter().find_map(|line| line.get("line")).unwrap();
    check_fields(line, &["id", "boot", "unix_ms", "text"]);
    let script = followed.iter().find_map(|line| line.get("script")).unwrap();
    check_fields(script, &["exit_code", "output", "unix_ms"]);
    let gone = json(coordinator, USER, &["destroy", "pi-1", "--wait"]);
    assert_eq!(gone.last().unwrap()["rested"][0]["state"], "ended");
}

/// Everything that an eye reads is worth a look: run with `--nocapture`.
#[test]
fn tables_are_aligned_and_have_no_colours_in_a_pipe() {
    let office = Office::new();
    office.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    for arguments in [
        &["node", "list"][..],
        &["node", "show", "pi-1"],
        &["deployment", "list"],
        &["deployment", "show", "1"],
        &["deployment", "logs", "1"],
    ] {
        let text = office.coordinator.cli(USER, arguments).unwrap();
        println!("$ piseduce {}\n{text}", arguments.join(" "));
        assert!(!text.contains('\u{1b}') && text.lines().all(|line| line == line.trim_end()), "{text}");
    }
    let list = office.coordinator.cli(USER, &["node", "list"]).unwrap();
    let mut lines = list.lines();
    let column = lines.next().unwrap().find("STATE").unwrap();
    assert_eq!(lines.next().unwrap().find("initialized"), Some(column), "{list}");
}

//! What goes wrong, as a stranger reads it: each error names the thing, says what to do, and has its exit code.

use super::{Office, check_fields, node, objects, said};
use piseduce_tests::lab::{ADMIN, USER};
use std::fs;

#[test]
fn every_error_names_the_thing_says_what_to_do_and_has_its_exit_code() {
    let office = Office::new();
    let (coordinator, here) = (&office.coordinator, office.directory.path());
    coordinator.add_user("bob", "user").unwrap();
    coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let token = |name: &str, text: &str| fs::write(coordinator.token_file(name), text).unwrap();
    token("eve", "0123\n");
    token("empty", "\n");
    let foreign = format!("http://{}", coordinator.nodes);
    let people = format!("http://{}", coordinator.people);
    let no_toml = office.file("no.toml", "[[node]]\nname = pi\n");
    let no_field = office.file("field.toml", &node(2, "poe-1").replace("mac =", "address ="));
    let twin = office.file("twin.toml", &node(2, "poe-1").replace("0002\"", "0001\""));
    let no_switch = office.file("switch.toml", &node(2, "poe-9"));
    let settings = office.settings();
    let no_image = here.join("no.img").to_string_lossy().into_owned();
    let nowhere = here.join("nowhere/export.json").to_string_lossy().into_owned();
    let secret = office.file("password", "\n");
    let password = ["deploy", "pi-1", "--environment", "lab", "--password-file", &secret];
    let list = ["node", "list"];
    #[rustfmt::skip]
    let cases: Vec<(&str, Vec<&str>, i32, &str, &str)> = vec![
        (USER, vec!["node", "show", "pi-9"], 5, "there is no node `pi-9`", "`piseduce node list`"),
        (USER, vec!["node", "show", "../a b"], 5, "there is no node `../a b`", "`piseduce node list`"),
        (USER, vec!["reboot", "pi-9"], 5, "there is no node `pi-9`", "`piseduce node list`"),
        (USER, vec!["environment", "show", "lab"], 5, "there is no environment `lab`", "`piseduce environment list`"),
        (USER, vec!["deployment", "show", "77"], 5, "there is no deployment `77`", "`piseduce deployment list`"),
        (USER, vec!["deployment", "logs", "1", "--run", "9"], 5, "deployment 1 has no run 9", "its runs are 1 to 1"),
        ("bob", vec!["deployment", "logs", "pi-1"], 5, "user bob may not do this: the node is held by ann", ""),
        ("bob", vec!["deployment", "export", "1"], 5, "user bob may not do this: the node is held by ann", ""),
        ("bob", vec!["reserve", "pi-1", "--for", "1h"], 5, "node `pi-1` is held by ann until 20", "choose another"),
        ("eve", list.to_vec(), 5, "the coordinator does not know the token in", "`piseduce user add`"),
        ("empty", list.to_vec(), 1, "empty.token holds no token", "--token-file"),
        ("nobody", list.to_vec(), 1, "nobody.token: No such file or directory", "--token-file"),
        (USER, vec!["--url", "http://127.0.0.1:1", "node", "list"], 4, "no answer from the coordinator at http://127.0.0.1:1: Connection refused", "is `piseduce serve` running"),
        (USER, vec!["--url", &foreign, "node", "list"], 4, "not like a PiSeduce coordinator", "people's listener"),
        (USER, vec!["--url", "head:8080", "node", "list"], 2, "invalid value 'head:8080' for '--url <URL>': expected is an address such as", ""),
        (USER, vec!["--url", "https://head", "node", "list"], 2, "speaks plain HTTP", ""),
        (ADMIN, vec!["node", "import", &no_toml], 1, "no.toml is not an inventory: TOML parse error at line 2", "nothing was imported"),
        (ADMIN, vec!["node", "import", &no_field], 1, "unknown field `address`", "nothing was imported"),
        (ADMIN, vec!["node", "import", &nowhere], 1, "export.json: No such file", ""),
        (ADMIN, vec!["node", "import", &twin], 5, "serial number `1000000000000001` is in use: node pi-1 has the same last 8 digits", "nothing was"),
        (ADMIN, vec!["node", "import", &no_switch], 5, "there is no switch `poe-9`", "[[switch]]"),
        (ADMIN, vec!["deployment", "export", "1", "--output", &nowhere], 1, "failed to write", ""),
        (ADMIN, vec!["user", "add", "ann", "--config", &settings], 1, "there is a user `ann` already", ""),
        (ADMIN, vec!["environment", "add", "lab", &no_image, "--config", &settings], 1, "no.img", ""),
        (ADMIN, vec!["user", "list", "--config", &nowhere], 1, "failed to read", ""),
        (USER, password.to_vec(), 1, "password is empty: it should be the password", ""),
        (USER, vec!["reserve", "pi-1", "--for", "soon"], 2, "invalid value 'soon' for '--for <TIME>'", ""),
        (USER, vec!["deploy", "pi-1"], 2, "--environment <NAME>", ""),
        (USER, vec!["destory", "pi-1"], 2, "unrecognized subcommand 'destory'", "'destroy'"),
        (USER, vec!["--url", &people, "deployment", "watch", "pi-9"], 5, "there is no node `pi-9`", ""),
    ];
    for (user, arguments, code, message, hint) in cases {
        let output = coordinator.cli_output(user, &arguments).unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.starts_with("error: ") && text.contains(message), "{arguments:?}: {text}");
        assert!(text.contains(hint) && output.stdout.is_empty(), "{arguments:?}: {text}");

        let output = coordinator.cli_output(user, &[&["--json"], &arguments[..]].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let [error] = &objects(&output.stderr)[..] else { panic!("{arguments:?}: {}", said(&output)) };
        check_fields(error, &["schema", "code", "message", "hint"]);
        assert!(!error["code"].as_str().unwrap().is_empty() && output.stdout.is_empty(), "{error}");
    }
}

#[test]
fn a_part_of_several_requests_that_was_carried_out_is_told() {
    let office = Office::new();
    let two = office.file("two.toml", &node(2, "poe-1"));
    office.coordinator.cli(ADMIN, &["node", "import", &two]).unwrap();
    office.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    // The first is ours, the second nobody's: that is known before the first is touched.
    let unknown = office.coordinator.cli_output(USER, &["cancel", "pi-1", "pi-9"]).unwrap();
    assert_eq!(unknown.status.code(), Some(5), "{}", said(&unknown));
    assert!(unknown.stdout.is_empty(), "nothing was done");
    let partly = office.coordinator.cli_output(USER, &["cancel", "pi-1", "pi-2"]).unwrap();
    assert_eq!(partly.status.code(), Some(5));
    assert_eq!(String::from_utf8_lossy(&partly.stdout), "pi-1: deployment 1\n");
    assert!(said(&partly).contains("node `pi-2` is free"), "{}", said(&partly));
}

#[test]
fn a_program_without_arguments_and_its_help_tell_exit_codes_and_commands() {
    let office = Office::new();
    let help = |arguments: &[&str]| office.coordinator.cli_output(USER, arguments).unwrap();
    let bare = help(&[]);
    assert_eq!(bare.status.code(), Some(2));
    let asked = help(&["--help"]);
    assert_eq!(asked.status.code(), Some(0));
    for text in [said(&bare), String::from_utf8_lossy(&asked.stdout).into_owned()] {
        for expected in ["Usage: piseduce", "deploy ", "deployment ", "130  interrupted", "--json"] {
            assert!(text.contains(expected), "no {expected} in {text}");
        }
    }
    let completions = help(&["completions", "bash"]);
    assert!(String::from_utf8_lossy(&completions.stdout).contains("deploy-again"));
}

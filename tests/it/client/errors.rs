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
        (USER, vec!["--url", &foreign, "node", "list"], 5, "there is no resource `/api/v1/nodes`", "people's listener"),
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
fn of_several_nodes_those_that_can_do_it_do_and_every_other_says_why_not() {
    let office = Office::new();
    office.coordinator.add_user("bob", "user").unwrap();
    let more = office.file("more.toml", &[2, 3].map(|number| node(number, "poe-1")).concat());
    office.coordinator.cli(ADMIN, &["node", "import", &more]).unwrap();
    office.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    office.coordinator.cli("bob", &["reserve", "pi-3", "--for", "1h"]).unwrap();
    let reserve = ["reserve", "pi-2", "pi-1", "pi-9", "pi-3", "--for", "1h"];
    let none = office.coordinator.cli_output(USER, &reserve).unwrap();
    assert!(said(&none).contains("3 nodes stand in the way, so nothing was done: "), "{}", said(&none));
    for expected in ["you hold node `pi-1` yourself", "there is no node `pi-9`", "node `pi-3` is held by bob"]
    {
        assert!(said(&none).contains(expected), "no {expected} in {}", said(&none));
    }
    let cancel = ["cancel", "pi-2", "pi-1", "pi-9", "pi-3", "pi-1"];
    let partly = office.coordinator.cli_output(USER, &cancel).unwrap();
    assert_eq!(partly.status.code(), Some(5));
    assert_eq!(String::from_utf8_lossy(&partly.stdout), "pi-1: deployment 1\n");
    let text = said(&partly);
    assert!(text.starts_with("error: 3 of 4 nodes stand in the way:\n"), "{text}");
    for expected in [
        "pi-2: node `pi-2` is free: nobody holds it",
        "pi-9: there is no node `pi-9`",
        "pi-3: user ann may not do this: the node is held by bob",
        "`piseduce reserve` holds it for you",
        "`piseduce node list`",
    ] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
    let drain = ["node", "drain", "pi-2", "pi-9", "--reason", "its fan rattles"];
    let partly = office.coordinator.cli_output(ADMIN, &drain).unwrap();
    assert_eq!(String::from_utf8_lossy(&partly.stdout), "pi-2: out of service\n");
    assert!(
        said(&partly).contains("1 of 2 nodes stand in the way:\n  pi-9: there is no"),
        "{}",
        said(&partly)
    );
    let retired = office.coordinator.cli_output(ADMIN, &["node", "retire", "pi-2", "pi-3"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&retired.stdout), "pi-2: retired\n");
    assert!(said(&retired).contains("pi-3: node `pi-3` is in use: deployment 2"), "{}", said(&retired));
}

#[test]
fn a_form_goes_to_all_its_nodes_or_to_none_and_every_obstacle_is_named() {
    let office = Office::new();
    let more = office.file("more.toml", &[2, 3].map(|number| node(number, "poe-1")).concat());
    office.coordinator.cli(ADMIN, &["node", "import", &more]).unwrap();
    office.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let key = office.environment();
    let deploy = |nodes: &[&str]| {
        let deploy = [&["deploy", "--environment", "lab", "--ssh-key", &key], nodes].concat();
        office.coordinator.cli_output(USER, &deploy).unwrap()
    };
    let refused = deploy(&["pi-1", "pi-2", "pi-9"]);
    let text = said(&refused);
    assert_eq!(refused.status.code(), Some(5), "{text}");
    assert!(text.contains("2 of 3 nodes stand in the way, so nothing was done: pi-2: node"), "{text}");
    assert!(text.contains("; pi-9: there is no node `pi-9`") && refused.stdout.is_empty(), "{text}");
    office.coordinator.cli(USER, &["reserve", "pi-2", "--for", "1h"]).unwrap();
    assert!(deploy(&["pi-1"]).status.success());
    // The machine's own refusals stop the others, too.
    let twice = said(&deploy(&["pi-1", "pi-2"]));
    assert!(
        twice.contains("1 of 2 nodes stand in the way, so nothing was done: pi-1: a deployment is"),
        "{twice}"
    );
    assert!(office.coordinator.cli(USER, &["node", "show", "pi-2"]).unwrap().contains("initialized"));
}

#[test]
fn what_somebody_else_holds_is_given_back_only_by_an_administrator_who_means_it() {
    let office = Office::new();
    office.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let refused = office.coordinator.cli_output(ADMIN, &["cancel", "pi-1"]).unwrap();
    assert_eq!(refused.status.code(), Some(5));
    assert!(said(&refused).contains("node `pi-1` is held by ann") && said(&refused).contains("`--yes`"));
    office.coordinator.cli(ADMIN, &["cancel", "pi-1", "--yes"]).unwrap();
    office.coordinator.cli(ADMIN, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let mine = office.coordinator.cli_output(ADMIN, &["node", "test", "pi-1"]).unwrap();
    assert!(said(&mine).contains("you hold node `pi-1` yourself"), "{}", said(&mine));
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

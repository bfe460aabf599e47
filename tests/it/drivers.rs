//! Switches of other kinds than a program: a person who switches by hand, and the examples of the notes.

use piseduce_protocol::state::State;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::rack;
use piseduce_tests::wait::wait_for;

/// The lab's inventory, but its switch is a person.
fn by_hand(lab: &Lab, more: &str) -> String {
    let inventory = lab.rack.inventory();
    let lines = inventory.lines().map(|line| match line.starts_with("driver.command") {
        true => format!("driver = \"manual\"\n{more}"),
        false => format!("{line}\n"),
    });
    lines.collect()
}

/// Waits until the node of a lab waits for words that contain `expected`.
fn wait_for_words(lab: &Lab, expected: &str) -> String {
    let words = || lab.status(0).and_then(|status| status.waiting).unwrap_or_default();
    wait_for(expected, 60.0, words, |words| words.contains(expected))
}

/// The person goes to the rack, switches, and says so.
fn switch_by_hand(lab: &Lab, action: &str) -> String {
    rack::ask(&lab.directory.path().join("rack/switch.sock"), action, "1").unwrap();
    lab.coordinator.cli(ADMIN, &["switch", "done", "bench", "1"]).unwrap()
}

#[test]
fn a_deployment_waits_for_the_person_who_switches_by_hand() {
    let lab = Lab::new(1);
    let import = |more: &str| {
        let inventory = lab.file("by-hand.toml", &by_hand(&lab, more));
        lab.coordinator.cli(ADMIN, &["node", "import", &inventory]).unwrap();
    };
    import("");
    let refused = lab.coordinator.cli(ADMIN, &["switch", "done", "bench", "1"]).unwrap_err().to_string();
    assert!(refused.contains("nobody was asked to switch port 1"), "{refused}");
    lab.deploy(&[]);
    let words = wait_for_words(&lab, "off by hand");
    assert!(words.contains("switch port 1 of bench off") && words.contains("`piseduce switch done bench 1`"));
    let refused = lab.coordinator.cli(USER, &["switch", "done", "bench", "1"]).unwrap_err().to_string();
    assert!(refused.contains("may not"), "{refused}");
    let said = switch_by_hand(&lab, "off");
    assert!(said.contains("port 1 of bench is off"), "{said}");
    wait_for_words(&lab, "on by hand");
    // What was asked is asked again of a switch whose settings changed meanwhile.
    import("budget_watts = 100\n");
    switch_by_hand(&lab, "on");
    lab.wait_for(0, State::Deployed, 60.0);
}

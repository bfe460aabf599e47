//! What stands in the way of boards themselves: their switches' spanning tree, and what their bootloaders are set to.

use crate::domain::driver::Driver;
use crate::domain::guard::{self, Action, Finding, Guards};
use crate::domain::node::Node;
use crate::domain::switch::Switch;
use crate::operate::check::Check;
use crate::power;
use crate::store::Contents;
use piseduce_protocol::report::Hello;

/// Whether switches let boards speak as soon as their link is up.
pub(super) async fn spanning_tree(contents: &Contents) -> Vec<Check> {
    let mut checks = Vec::new();
    for switch in &contents.switches {
        let nodes = contents.nodes.iter().filter(|node| node.attributes.switch == switch.attributes.name);
        let nodes: Vec<&Node> = nodes.collect();
        if !nodes.is_empty() {
            checks.push(of_switch(switch, &nodes).await);
        }
    }
    checks
}

async fn of_switch(switch: &Switch, nodes: &[&Node]) -> Check {
    let (check, name) = ("stp", &switch.attributes.name);
    const ADVICE: &str = "make the nodes' ports edge ports (portfast); firmware-notes/network.md";
    let Driver::Snmp(settings) = &switch.attributes.driver else {
        return Check::warn(check, format!("not looked at: switch {name} is not asked by SNMP"), ADVICE);
    };
    let held_back = match power::held_back(settings).await {
        Ok(Some(held_back)) => held_back,
        Ok(None) => {
            let found = format!("switch {name} does not tell whether its spanning tree holds nodes back");
            return Check::warn(check, found, ADVICE);
        }
        Err(error) => {
            let found = format!("switch {name} cannot be asked: {:#}", anyhow::Error::new(error));
            return Check::warn(check, found, "`piseduce switch show` says more");
        }
    };
    let bridge_port = |node: &Node| settings.bridge_port(&node.attributes.port);
    let named = |is_meant: &dyn Fn(&Node) -> bool| {
        let meant = nodes.iter().filter(|node| is_meant(node));
        meant.map(|node| node.attributes.name.as_str()).collect::<Vec<&str>>().join(", ")
    };
    let held = named(&|node| bridge_port(node).is_some_and(|port| held_back.contains_key(&port)));
    let unknown = named(&|node| bridge_port(node).is_none());
    if !held.is_empty() {
        let found = format!("switch {name} cuts {held} off for up to 30 s each time the link comes up");
        return Check::fail(check, found, ADVICE);
    }
    if !unknown.is_empty() {
        let found = format!("at which bridge ports of switch {name} {unknown} are is not known");
        return Check::warn(
            check,
            found,
            "add `bridge_offsets` of their groups; `piseduce switch detect` finds them",
        );
    }
    Check::ok(check, format!("switch {name} holds nothing back at the ports of its {} nodes", nodes.len()))
}

/// What is known of the nodes' bootloaders, and what cannot be.
pub(super) fn bootloaders(contents: &Contents, guards: &Guards) -> Vec<Check> {
    const ADVICE: &str = "`piseduce node check` says how to mend it";
    let name = "bootloader";
    let mut checks = Vec::new();
    let mut sound = 0;
    for node in &contents.nodes {
        // A newer coordinator may have left words that this one does not know.
        let hello = contents.hellos.get(&node.id).and_then(|hello| serde_json::from_str::<Hello>(hello).ok());
        let Some(hello) = hello else { continue };
        let mut findings = guard::examine(&hello.model, &hello.bootloader);
        findings.retain(|finding| guards.action(finding) != Action::Ignore);
        if findings.is_empty() {
            sound += 1;
            continue;
        }
        let refused = findings.iter().any(|finding| guards.action(finding) == Action::Refuse);
        let said: Vec<String> =
            findings.iter().map(|Finding { kind, seen }| format!("{kind}: {seen}")).collect();
        let found = format!("{}: {}", node.attributes.name, said.join("; "));
        checks.push(if refused {
            Check::fail(name, found, ADVICE)
        } else {
            Check::warn(name, found, ADVICE)
        });
    }
    let unseen = contents.nodes.len() - sound - checks.len();
    if unseen > 0 {
        let found = format!("{unseen} of {} nodes were never in the boot root", contents.nodes.len());
        checks.push(Check::warn(name, found, "`piseduce node test` brings them there"));
    } else if checks.is_empty() && sound > 0 {
        checks.push(Check::ok(name, format!("nothing found at {sound} nodes")));
    }
    if contents.nodes.iter().any(|node| !node.attributes.is_pi3()) {
        checks.push(Check::warn(
            "eeprom",
            "not looked at: root on a node can write its EEPROM unless a jumper or test point forbids it",
            "where users are not trusted, protect it; firmware-notes/eeprom.md",
        ));
    }
    checks
}

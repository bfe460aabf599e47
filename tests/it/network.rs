//! Bad days of the network, with a relay in front of broker and HTTP: held, cut, slow and damaging connections. What is
//! not the node's fault costs the node nothing.

use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::state::State;
use piseduce_tests::cards::Card;
use piseduce_tests::coordinator::Place;
use piseduce_tests::lab::{self, Lab};
use piseduce_tests::monitor::Monitor;
use piseduce_tests::mosquitto::Mosquitto;
use piseduce_tests::relay::{BOTH, Cut, Flip, Relay, Way};
use piseduce_tests::wait::{pause, seconds, wait_for};
use std::collections::BTreeSet;

/// Slow enough that a copy of the small image goes on for as long as a story needs it.
const SLOW: u64 = 30_000;

/// What of the small image is in use and has to be on a card, in bytes.
const STORY_IN_USE: u64 = 22_000_000;

/// What a copy of the small image writes to a card without content, in bytes.
const STORY_WRITTEN: u64 = 13 << 20;

/// A lab whose nodes come to the coordinator's HTTP through a relay.
fn lab_behind_http(limits: &str) -> (Lab, Relay) {
    let (network, place) = (lab::network(1), Place::of_head());
    let http = Relay::for_boards(&network, place.nodes).unwrap();
    (Lab::at(&place.http_through(&http), &network, limits), http)
}

/// A lab whose agents come to the broker through one relay, and to HTTP through another.
fn lab_behind_both() -> (Lab, Relay, Relay) {
    let (network, place) = (lab::network(1), Place::of_head());
    let relay = |target| Relay::for_boards(&network, target).unwrap();
    let (agents, http) = (relay(place.broker), relay(place.nodes));
    (Lab::at(&place.agents_through(&agents).http_through(&http), &network, ""), agents, http)
}

/// Looks at the node for `duration` seconds; it must stay in `state`.
fn stays_in(lab: &Lab, state: State, duration: f64) {
    let until = seconds() + duration;
    while seconds() < until {
        let now = lab.status(0).unwrap();
        assert_eq!(now.state, state, "{now:?}\n{}", lab.story_of(0));
        pause();
    }
}

/// The node gets deployed in the boot that it is in, without a restart.
fn ends_well_in_one_boot(lab: &Lab) {
    let deployed = lab.wait_for(0, State::Deployed, 90.0);
    assert_eq!(lab.history(deployed.id).deployment.restarts, 0, "{}", lab.story_of(0));
    let trace = std::fs::read_to_string(lab.rack.place(0).join("trace.log")).unwrap();
    assert_eq!(trace.matches("boots the boot root with credentials").count(), 1, "{trace}");
}

/// How many bytes of its card the node has done.
fn done(lab: &Lab) -> u64 {
    lab.status(0).and_then(|status| status.progress).map_or(0, |progress| progress.done)
}

/// Waits until the node has done this much of its card, which is slowed down by `http` so that it goes on after that.
fn wait_until_done(lab: &Lab, http: &Relay, bytes: u64) {
    http.throttle(SLOW);
    lab.deploy(&[]);
    lab.wait_for(0, State::EnvCopy, 30.0);
    wait_for("some of the image", 60.0, || done(lab), |done| *done > bytes);
}

/// What the agent has logged.
fn agent_log(lab: &Lab) -> String {
    std::fs::read_to_string(lab.rack.place(0).join("kernel.log")).unwrap_or_default()
}

/// Our own link is held for so many seconds while a node copies.
fn hold_our_link(duration: f64) {
    let mut broker = Mosquitto::new().unwrap();
    let (network, place) = (lab::network(1), Place::of_head());
    let ours = Relay::to(broker.address).unwrap();
    let http = Relay::for_boards(&network, place.nodes).unwrap();
    broker.start();
    // With these limits a node that is silent for 5 s is restarted, once the link is old enough to count its silence.
    let limits = "restart_after_s = 5\nblocked_max_s = 15\n";
    let lab = Lab::at(&place.at(&broker, ours.address()).http_through(&http), &network, limits);
    let up = || lab.coordinator.logged().contains("link to the broker is up");
    wait_for("the link", 30.0, up, |up| *up);
    wait_until_done(&lab, &http, 0);
    let began = seconds();
    ours.hold(&BOTH);
    let waits = || lab.status(0).unwrap().waiting.unwrap_or_default();
    wait_for("the named wait", 20.0, waits, |waits| waits.contains("our own link to the broker"));
    http.pass();
    stays_in(&lab, State::EnvCopy, duration - (seconds() - began));
    ours.pass();
    ends_well_in_one_boot(&lab);
}

#[test]
fn our_own_link_that_is_held_for_20_s_blames_no_node() {
    hold_our_link(20.0);
}

#[test]
fn our_own_link_that_is_held_for_60_s_blames_no_node() {
    hold_our_link(60.0);
}

/// A node's link is held for so many seconds while it copies, in these directions.
fn hold_a_nodes_link(duration: f64, ways: &[Way]) {
    let (lab, agents, http) = lab_behind_both();
    wait_until_done(&lab, &http, 0);
    agents.hold(ways);
    http.pass();
    stays_in(&lab, State::EnvCopy, duration);
    agents.pass();
    ends_well_in_one_boot(&lab);
}

#[test]
fn a_nodes_link_that_is_held_for_20_s_is_resumed() {
    hold_a_nodes_link(20.0, &BOTH);
}

#[test]
fn a_nodes_link_that_is_held_for_60_s_is_resumed() {
    hold_a_nodes_link(60.0, &BOTH);
}

#[test]
fn a_node_that_says_nothing_for_20_s_and_hears_all_is_resumed() {
    hold_a_nodes_link(20.0, &[Way::Out]);
}

#[test]
fn a_link_that_is_cut_in_state_after_state_costs_nothing() {
    let (lab, agents, _http) = lab_behind_both();
    let monitor = Monitor::connect(&lab.coordinator);
    lab.deploy(&[]);
    let run = lab.run_of(0);
    let mut cuts = BTreeSet::new();
    for (state, how) in State::AGENTS.into_iter().zip([Cut::Reset, Cut::Finish].into_iter().cycle()) {
        let event = monitor.wait_for(run, state, 60.0);
        if event.state == state && agents.cut(how) > 0 {
            cuts.insert(state);
        }
    }
    ends_well_in_one_boot(&lab);
    assert!(cuts.len() >= 5 && agents.accepted() > cuts.len(), "only cut in {cuts:?}");
}

#[test]
fn a_slow_network_shows_progress_and_is_no_reason_for_a_restart() {
    let (lab, http) = lab_behind_http("restart_after_s = 5\nblocked_max_s = 15\n");
    wait_until_done(&lab, &http, 0);
    let mut seen = BTreeSet::new();
    let mut look = || {
        let status = lab.status(0).unwrap();
        seen.insert(status.progress.map_or(0, |progress| progress.done));
        (status.state, seen.len())
    };
    let look = wait_for("progress in several steps", 60.0, &mut look, |(state, steps)| {
        *steps >= 3 || *state != State::EnvCopy
    });
    assert_eq!(look.0, State::EnvCopy, "{} steps", look.1);
    http.pass();
    ends_well_in_one_boot(&lab);
}

#[test]
fn a_head_that_is_away_for_longer_than_the_agents_patience_costs_no_node_and_no_full_rewrite() {
    let (lab, http) = lab_behind_http("");
    wait_until_done(&lab, &http, STORY_IN_USE / 4 * 3);
    http.hold(&BOTH);
    let attempts = || lab.history(lab.run_of(0).0).deployment.restarts;
    wait_for("the agent to lose its patience", 120.0, attempts, |restarts| *restarts == 1);
    http.pass();
    let deployed = lab.wait_for(0, State::Deployed, 90.0);
    let history = lab.history(deployed.id);
    assert_eq!(history.deployment.restarts, 1, "{}", lab.story_of(0));
    let trace = std::fs::read_to_string(lab.rack.place(0).join("trace.log")).unwrap();
    assert_eq!(
        trace.matches("boots the boot root with credentials").count(),
        1,
        "the same agent goes on: {trace}"
    );
    let details = history.journal.iter().filter_map(|entry| entry.detail.as_deref());
    let written = details.filter_map(|detail| detail.split_once(" bytes written, ")?.0.parse::<u64>().ok());
    let written: Vec<u64> = written.collect();
    assert!(
        matches!(written[..], [written] if written < STORY_WRITTEN / 4 * 3),
        "{written:?} bytes were written"
    );
}

#[test]
fn a_byte_damaged_in_a_chunk_never_reaches_the_card() {
    let (lab, http) = lab_behind_http("");
    // The manifest is the first body; some chunks after it are damaged, each once.
    http.flip(Way::Back, &Flip::in_body(40).nth(1));
    http.flip(Way::Back, &Flip::in_body(1000).nth(4).times(2));
    lab.deploy(&[]);
    ends_well_in_one_boot(&lab);
    assert!(http.flipped() >= 2, "{} bytes were damaged", http.flipped());
    let log = agent_log(&lab);
    assert!(log.contains("a chunk came wrong over the network"), "{log}");
}

#[test]
fn a_network_that_damages_everything_fails_with_its_name_and_leaves_no_card_that_boots() {
    let (lab, http) = lab_behind_http("");
    http.flip(Way::Back, &Flip::in_body(40).nth(2).times(usize::MAX / 2));
    lab.deploy(&[]);
    let failed = || {
        lab.status(0).filter(|status| matches!(status.state, State::Failed | State::Lost | State::Deployed))
    };
    let status = wait_for("the end", 90.0, failed, Option::is_some).unwrap();
    assert!(status.cause.is_some_and(|cause| cause.is(CauseKind::HashMismatch)), "{}", lab.story_of(0));
    lab.rack.crash(0);
    assert!(!lab.rack.with_card(0, Card::is_bootable).unwrap());
}

#[test]
fn a_byte_damaged_in_mqtt_is_dropped_counted_and_said_again() {
    let (lab, agents, http) = lab_behind_both();
    // Behind the topic of a PUBLISH come two bytes of packet id, then the sealed message.
    agents.flip(Way::Back, &Flip::after(*b"/command", 2 + 30).nth(2));
    agents.flip(Way::Out, &Flip::after(*b"/report", 2 + 30).nth(3));
    lab.deploy(&[]);
    ends_well_in_one_boot(&lab);
    assert_eq!((agents.flipped(), http.flipped()), (2, 0));
    let (log, agent) = (lab.coordinator.logged(), agent_log(&lab));
    assert!(log.contains("message dropped") && log.contains("dropped=1"), "{log}");
    assert!(agent.contains("a command was dropped") && agent.contains("dropped=1"), "{agent}");
}

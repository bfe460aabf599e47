//! "Waiting for …": every wait that the machine can come to has words of its own.

use crate::machine::{Bench, happy_path, release_path};
use crate::walks::alphabet;
use piseduce_coordinator::clock::{Instant, UnixMs};
use piseduce_coordinator::domain::deployment::{Active, Condition, Form, Phase, Rest, Resting, Then};
use piseduce_coordinator::machine::admission::Lack;
use piseduce_coordinator::machine::waiting::{Around, waiting};
use piseduce_coordinator::machine::{Live, Moment, Policy};
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::state::State;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn around() -> Around<'static> {
    Around {
        node: "pi-1",
        switch: "poe-1",
        port: "7",
        by_hand: false,
        trouble: None,
        form_until: UnixMs(1_795_447_800_000),
        lack: Lack::Turn,
        booting: vec!["pi-2", "pi-3"],
    }
}

fn words(live: &Live, link_since: Option<u64>) -> Option<String> {
    let at = live.clocks.counted_to;
    waiting(live, Moment { at, link_since: link_since.map(Instant) }, &Policy::default(), &around())
}

/// Everything that the machine comes to within two events of every place between the open form and the freed node.
fn everywhere() -> Vec<Live> {
    let mut course = vec![Bench::open()];
    for make in happy_path().into_iter().chain(release_path()) {
        let mut next = course.last().unwrap().clone();
        next.step(make);
        course.push(next);
    }
    let mut all = Vec::new();
    for bench in course {
        for (first, _) in alphabet(&bench) {
            let mut once = bench.clone();
            once.event(&first);
            for (second, _) in alphabet(&once) {
                let mut twice = once.clone();
                twice.event(&second);
                all.push(twice.live);
            }
            all.push(once.live);
        }
        all.push(bench.live);
    }
    all
}

/// The place of a deployment, by which its wait differs from others.
fn place(live: &Live) -> String {
    match &live.deployment.condition {
        Condition::Active(Active { purpose, state, phase }) => {
            let phase = match phase {
                Phase::Stopping(Then::Destroy(_)) => "stopping, to destroy".into(),
                phase => format!("{phase:?}"),
            };
            format!("{} {state} {phase}", purpose.process())
        }
        // Whatever it was to become, there is one way out.
        Condition::Resting(Rest { state: Resting::Quarantined, .. }) => "quarantined".into(),
        Condition::Resting(rest) => format!("{} after {}", rest.state.state(), live.deployment.registered),
        Condition::Open | Condition::Ended(_) => live.deployment.state().to_string(),
    }
}

#[test]
fn every_wait_has_words_and_no_two_have_the_same() {
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for live in everywhere() {
        let place = place(&live);
        let told = words(&live, Some(0));
        let rests = matches!(live.deployment.state(), State::Deployed | State::Ended);
        assert_eq!(told.is_none(), rests, "{place}: {told:?}");
        let Some(told) = told else { continue };
        assert!(told.len() > 15 && !told.ends_with('.') && !told.contains("the end of"), "{place}: {told}");
        // A reboot and a deployment boot the same card; a wait in another state is another one.
        let other = places.insert(told.clone(), place.clone());
        assert!(other.as_ref().is_none_or(|other| *other == place), "{other:?} and {place}: {told}");
    }
    let seen: Vec<&String> = places.values().collect();
    for state in State::ALL.iter().filter(|state| !matches!(state, State::Deployed | State::Ended)) {
        let is_there = |place: &&String| place.split(' ').any(|word| word == state.name());
        assert!(seen.iter().any(is_there), "{state} was not come to");
    }
}

/// A deployment in the work of `state`, whose clocks stand so.
fn working(state: State, blocked: u64, idle: u64, beat: Option<u64>) -> Live {
    let mut live = Bench::open().live;
    live.deployment.form = Some(Arc::new(Bench::form()));
    let purpose = piseduce_coordinator::domain::deployment::Purpose::Deploy;
    live.deployment.condition = Condition::Active(Active { purpose, state, phase: Phase::Work });
    live.clocks.counted_to = Instant(1_000_000);
    live.clocks.blocked = Duration::from_secs(blocked);
    live.clocks.idle = Duration::from_secs(idle);
    live.clocks.last_beat = beat.map(|ago| Instant(1_000_000 - ago * 1000));
    live
}

#[test]
fn an_agents_wait_tells_link_silence_busy_card_and_stuck_work_apart() {
    let told = |blocked, idle, beat, link| {
        words(&working(State::EnvCopy, blocked, idle, beat), link).expect("an agent's work is a wait")
    };
    let normal = told(0, 0, Some(1), Some(0));
    let cases = [
        (normal.clone(), "write the image"),
        (told(0, 0, Some(1), None), "our own link to the broker"),
        (told(0, 0, Some(60), Some(990_000)), "to find our new link"),
        (told(0, 0, Some(60), Some(0)), "a heartbeat of the agent"),
        (told(60, 3, Some(1), Some(0)), "the card, which is busy"),
        (told(60, 60, Some(1), Some(0)), "its work does not move"),
    ];
    for (text, expected) in &cases {
        assert!(text.contains(expected), "{text}");
        assert!(*text == normal || text.contains("env_copy"), "{text}");
    }
}

#[test]
fn who_waits_for_a_place_is_told_who_has_it() {
    let mut bench = Bench::open();
    happy_path()[..3].iter().for_each(|make| bench.step(*make));
    let moment = Moment { at: Instant(1_000_000), link_since: None };
    let told = |lack| waiting(&bench.live, moment, &Policy::default(), &Around { lack, ..around() }).unwrap();
    let places = told(Lack::Places(2, false));
    assert!(places.starts_with("one of the 2 places to boot at switch poe-1"), "{places}");
    assert!(places.ends_with("booting now: pi-2, pi-3"), "{places}");
    assert!(told(Lack::Places(2, true)).starts_with("one of the 2 places of Pi 3s"));
    let turn = told(Lack::Turn);
    assert!(turn.starts_with("its turn to be powered on by switch poe-1"), "{turn}");
    let watts = told(Lack::Watts { budget: 60, drawn: 52, needed: 13 });
    assert!(
        watts.contains("may deliver 60 W") && watts.contains("draw 52 W") && watts.contains("one 13 W"),
        "{watts}"
    );
}

#[test]
fn a_silent_switch_an_open_form_and_a_rest_say_what_comes_next() {
    let mut bench = Bench::open();
    assert!(words(&bench.live, None).unwrap().contains("freed at 2026-11-23T"));
    happy_path()[..2].iter().for_each(|make| bench.step(*make));
    let asked = words(&bench.live, None).unwrap();
    assert!(asked.contains("switch poe-1 to show that port 7 is off"), "{asked}");
    // A silent switch is no event: only the clock goes on.
    let later = Moment { at: bench.live.clocks.counted_to + Duration::from_secs(60), link_since: None };
    let silent = waiting(&bench.live, later, &Policy::default(), &around()).unwrap();
    assert!(silent.starts_with(&asked) && silent.contains("is asked again and again"), "{silent}");

    let mut live = working(State::EnvCopy, 0, 0, None);
    live.deployment.registered = State::EnvCheck;
    for state in [Resting::Lost, Resting::Failed] {
        let cause = Some(Cause::new(CauseKind::AgentSilent, ""));
        live.deployment.condition = Condition::Resting(Rest { state, cause });
        let told = words(&live, None).unwrap();
        assert!(told.contains("`piseduce reboot pi-1` goes on from env_check"), "{told}");
    }
    let opaque = Form { reports: false, ..Bench::form() };
    let mut live = working(State::EnvBoot, 0, 0, None);
    live.deployment.form = Some(Arc::new(opaque));
    assert!(words(&live, None).unwrap().contains("to ask what to boot"));
}

#[test]
fn a_switch_that_does_not_answer_is_named_with_its_reason() {
    let mut bench = Bench::open();
    happy_path()[..2].iter().for_each(|make| bench.step(*make));
    let moment = Moment { at: bench.live.clocks.counted_to, link_since: Some(Instant(0)) };
    let troubled = Around { trouble: Some("/dev/serial/by-id/relays is not there"), ..around() };
    let told = waiting(&bench.live, moment, &Policy::default(), &troubled).unwrap();
    assert!(told.ends_with("asked again and again: /dev/serial/by-id/relays is not there"), "{told}");
}

#[test]
fn a_person_who_switches_by_hand_is_told_what_to_switch_and_how_to_say_so() {
    let mut seen = 0;
    for live in everywhere() {
        let Condition::Active(active) = &live.deployment.condition else { continue };
        let moment = Moment { at: live.clocks.counted_to, link_since: Some(Instant(0)) };
        let by_hand = Around { by_hand: true, ..around() };
        let told = waiting(&live, moment, &Policy::default(), &by_hand).expect("an active deployment waits");
        let expected = match active.phase {
            Phase::Off => {
                "somebody to switch port 7 of poe-1 off by hand, then `piseduce switch done poe-1 7`"
            }
            Phase::On => "somebody to switch port 7 of poe-1 on by hand, then `piseduce switch done poe-1 7`",
            _ => {
                assert!(!told.contains("by hand"), "{told}");
                continue;
            }
        };
        assert!(told.starts_with(expected), "{told}");
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
}

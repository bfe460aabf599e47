//! What a release rests on beside an agent's word, and what a token in the wrong hands does.

use super::*;
use piseduce_coordinator::domain::boot_evidence::BootEvidence;

/// A node that is given back, up to its wipe.
fn wiping() -> Bench {
    let mut bench = Bench::in_state(State::Deployed);
    bench.ask(Request::Destroy);
    bench.boot();
    assert_eq!(bench.state(), State::Wipe);
    bench
}

fn switch_off(bench: &mut Bench) {
    assert_eq!(bench.state(), State::TurnOff);
    bench.see(Sign::Power(bench.live.deployment.seq, Powered::Off));
}

fn standings(bench: &Bench) -> Vec<(&'static str, EvidenceStanding)> {
    bench.live.deployment.boot_evidence.pieces().iter().map(|piece| (piece.name, piece.standing)).collect()
}

#[test]
fn a_release_rests_on_the_switch_the_firmware_and_the_agents_address() {
    let mut bench = wiping();
    bench.answer(Outcome::Done(String::new()));
    let seq = bench.live.deployment.seq;
    bench.see(Sign::PortShown(seq, PortProof { witness: PortWitness::Switch, place: Place::AtPort }));
    switch_off(&mut bench);
    assert_eq!(bench.state(), State::Ended);
    let seen = |name| (name, EvidenceStanding::Seen);
    let card = ("card", EvidenceStanding::CannotTell);
    let expected = ["port_off", "port_on", "firmware", "agent"].map(seen);
    assert_eq!(standings(&bench), [&expected[..], &[card, seen("place")]].concat());
}

#[test]
fn a_release_that_lacks_a_piece_is_quarantined_and_its_cause_names_what_is_missing() {
    type Take = fn(&mut BootEvidence);
    let take: [(&str, Take); 4] = [
        ("not seen off", |evidence| evidence.off = None),
        ("not seen on", |evidence| evidence.on = None),
        ("fetched no token", |evidence| evidence.firmware = None),
        ("no agent spoke", |evidence| evidence.agent = None),
    ];
    for (missing, take) in take {
        let mut bench = wiping();
        take(&mut bench.live.deployment.boot_evidence);
        bench.answer(Outcome::Done(String::new()));
        switch_off(&mut bench);
        assert_eq!((bench.state(), bench.cause()), (State::Quarantined, Some(CauseKind::ReleaseUnproven)));
        let seen = &bench.live.deployment.cause().unwrap().seen;
        assert!(seen.contains(missing), "{missing}: {seen}");
    }
}

#[test]
fn what_a_site_cannot_see_is_said_and_holds_nobody_back() {
    let mut bench = Bench::in_state(State::Deployed);
    bench.policy.broker_checks_addresses = false;
    bench.ask(Request::Destroy);
    for make in BOOT {
        let seq = bench.live.deployment.seq;
        bench.see(Sign::PortShown(seq, PortProof { witness: PortWitness::Nobody, place: Place::NoTable }));
        bench.step(make);
    }
    bench.answer(Outcome::Done(String::new()));
    let blind = |name| (name, EvidenceStanding::CannotTell);
    assert_eq!(standings(&bench)[..2], ["port_off", "port_on"].map(blind));
    assert_eq!(standings(&bench)[3], blind("agent"));
    switch_off(&mut bench);
    assert_eq!(bench.state(), State::Ended);
}

#[test]
fn evidence_is_of_one_boot_and_an_agent_that_stops_in_order_has_that_of_its_own() {
    let mut bench = Bench::in_state(State::EnvCopy);
    assert_eq!(bench.live.deployment.boot_evidence.missing_for_release(), "");
    let mut again = bench.clone();
    again.see(Sign::BootAsked(Asked::New));
    assert_eq!(
        again.live.deployment.boot_evidence,
        BootEvidence::default(),
        "another boot begins with nothing"
    );
    bench.ask(Request::Destroy);
    bench.answer(Outcome::Done(String::new()));
    bench.answer(Outcome::Done(String::new()));
    switch_off(&mut bench);
    assert_eq!(bench.state(), State::Ended);
}

#[test]
fn an_agent_whose_token_nobody_fetched_is_nobodys() {
    for request in [None, Some(Request::Destroy)] {
        let mut bench = Bench::in_state(State::NfsBootOn);
        let end = if request.is_some() { State::Quarantined } else { State::Failed };
        request.into_iter().for_each(|request| drop(bench.ask(request)));
        bench.step(BOOT[5]);
        switch_off(&mut bench);
        assert_eq!((bench.state(), bench.cause()), (end, Some(CauseKind::IdentityConflict)));
    }
}

#[test]
fn a_token_is_fetched_once_after_the_port_is_on_and_by_one_address() {
    let fetch = |bench: &mut Bench, address| {
        let boot = bench.live.deployment.boot;
        bench.see(Sign::TokenFetched(TokenHolder { boot, address }));
        bench.live.deployment.token_address()
    };
    let mut bench = Bench::open();
    for make in &happy_path()[..4] {
        bench.step(*make);
        assert_eq!(fetch(&mut bench, ADDRESS), None, "{:?}", bench.live.deployment.condition);
    }
    bench.step(happy_path()[4]);
    assert_eq!(fetch(&mut bench, ADDRESS), Some(ADDRESS));
    assert_eq!(fetch(&mut bench, ELSEWHERE), Some(ADDRESS), "the first keeps it");
    bench.step(BOOT[5]);
    bench.see(Sign::BootAsked(Asked::New));
    assert_eq!(bench.live.deployment.token_address(), None, "another boot, another token");
    let before = bench.live.deployment.token.unwrap();
    assert_eq!((before.boot.next(), before.address), (bench.live.deployment.boot, ADDRESS));
}

#[test]
fn a_token_that_others_show_voids_its_boot_and_one_of_another_boot_changes_nothing() {
    for (state, end) in [(State::EnvCopy, State::Failed), (State::NfsBootOn, State::Failed)] {
        let mut bench = Bench::in_state(state);
        let now = bench.live.deployment.clone();
        for boot in [BootNumber(now.boot.0 - 1), now.boot.next()] {
            bench.see(Sign::TokenElsewhere(boot, ELSEWHERE));
        }
        assert_eq!(bench.live.deployment, now);
        bench.see(Sign::TokenElsewhere(now.boot, ELSEWHERE));
        switch_off(&mut bench);
        assert_eq!((bench.state(), bench.cause()), (end, Some(CauseKind::IdentityConflict)));
        let seen = bench.live.deployment.cause().unwrap().seen.clone();
        assert!(seen.contains("10.0.0.66"), "{seen}");
    }
    let mut bench = wiping();
    let boot = bench.live.deployment.boot;
    bench.see(Sign::TokenElsewhere(boot, ELSEWHERE));
    bench.answer(Outcome::Done(String::new()));
    switch_off(&mut bench);
    assert_eq!((bench.state(), bench.cause()), (State::Quarantined, Some(CauseKind::IdentityConflict)));
    let resting = bench.live.deployment.clone();
    bench.see(Sign::TokenElsewhere(boot, ELSEWHERE));
    assert_eq!(bench.live.deployment, resting, "what rests has no token");
}

#[test]
fn another_card_is_named_and_holds_nobody_back() {
    let mut bench = Bench::in_state(State::Deployed);
    bench.ask(Request::Destroy);
    BOOT[..5].iter().for_each(|make| bench.step(*make));
    let card = CardSighting::Changed { before: "aa".into(), now: "bb".into() };
    let (boot, kernel) = (bench.live.deployment.boot, KernelId("k".into()));
    bench.see(Sign::Agent(AgentSign::Hello { boot, kernel, objection: None, card }));
    bench.answer(Outcome::Done(String::new()));
    switch_off(&mut bench);
    assert_eq!(bench.state(), State::Ended);
    let pieces = bench.live.deployment.boot_evidence.pieces();
    let card = pieces.iter().find(|piece| piece.name == "card").unwrap();
    assert_eq!((card.standing, card.seen.as_str()), (EvidenceStanding::Changed, "card bb; before it was aa"));
    assert_eq!(bench.live.deployment.boot_evidence.agent, Some(AgentWitness::Broker));
}

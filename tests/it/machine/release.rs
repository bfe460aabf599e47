//! Giving a node back: it is free only after it has proven that it comes back, and its card is wiped.

use super::*;

/// From a request that ends the deployment up to the hello and the wipe that follows it.
fn release(bench: &mut Bench) {
    let waits = |bench: &Bench, phase: fn(&Phase) -> bool| {
        bench.live.deployment.active().is_some_and(|active| phase(&active.phase))
    };
    if waits(bench, |phase| matches!(phase, Phase::Stopping(_))) {
        return bench.answer(Outcome::Done(String::new()));
    }
    for make in BOOT {
        if bench.state() != State::Wipe {
            bench.step(make);
        }
    }
}

/// What follows the wipe.
fn switch_off(bench: &mut Bench) {
    assert_eq!(bench.state(), State::TurnOff);
    bench.see(Sign::Power(bench.live.deployment.seq, Powered::Off));
}

#[test]
fn cancel_and_destroy_free_a_node_in_every_state_once_it_came_back_and_was_wiped() {
    for request in [Request::Cancel, Request::Destroy, Request::ReservationEnded] {
        let mut bench = Bench::open();
        assert!(matches!(after(&bench, &request).live.deployment.condition, Condition::Ended(_)));
        for event in happy_path() {
            bench.step(event);
            let mut branch = after(&bench, &request);
            if bench.state() == State::Deployed && request == Request::Cancel {
                assert_eq!(branch.effects, [Effect::Refuse(Refusal::Deployed)]);
                continue;
            }
            release(&mut branch);
            assert_eq!(branch.state(), State::Wipe, "{request:?} from {}", bench.state());
            assert_eq!(branch.asked_for(), Ask::Wipe(Wipe::Headers));
            assert!(branch.live.deployment.live_boot().is_some());
            branch.answer(Outcome::Done(String::new()));
            switch_off(&mut branch);
            assert_eq!(branch.state(), State::Ended, "{request:?} from {}", bench.state());
        }
    }
}

fn after(bench: &Bench, request: &Request) -> Bench {
    let mut branch = bench.clone();
    branch.ask(request.clone());
    branch
}

#[test]
fn an_agent_that_stops_in_order_wipes_without_another_boot() {
    let mut bench = Bench::in_state(State::EnvCopy);
    let boot = bench.live.deployment.boot;
    bench.ask(Request::Destroy);
    bench.answer(Outcome::Done(String::new()));
    assert_eq!((bench.state(), bench.live.deployment.boot), (State::Wipe, boot));
}

#[test]
fn a_node_on_its_way_into_the_boot_root_need_not_start_over() {
    for state in [State::NfsBootConf, State::NfsBootOn] {
        let mut bench = Bench::in_state(state);
        let boot = bench.live.deployment.boot;
        bench.ask(Request::Cancel);
        assert_eq!((bench.state(), bench.live.deployment.boot), (state, boot));
        assert_eq!(bench.live.deployment.process(), Process::Destroy);
    }
}

#[test]
fn a_node_that_does_not_come_back_is_switched_off_and_quarantined_with_its_cause() {
    let mut bench = Bench::in_state(State::Deployed);
    bench.ask(Request::Destroy);
    for _ in 0..=bench.policy.restart_budget {
        BOOT[..4].iter().for_each(|make| bench.step(*make));
        bench.pass(100);
    }
    assert_eq!(bench.live.deployment.process(), Process::Isolate);
    for request in [Request::Test, Request::Destroy, Request::HardReboot] {
        assert_eq!(bench.ask(request), [Effect::Refuse(Refusal::BeingIsolated)]);
    }
    switch_off(&mut bench);
    assert_eq!((bench.state(), bench.cause()), (State::Quarantined, Some(CauseKind::NoBootRequest)));
    bench.ask(Request::ReservationEnded);
    for request in [Request::Destroy, Request::Cancel, Request::DeployAgain, Request::HardReboot] {
        assert_eq!(bench.ask(request), [Effect::Refuse(Refusal::Quarantined)]);
    }
    bench.ask(Request::Retire);
    assert_eq!((bench.state(), bench.cause()), (State::Ended, Some(CauseKind::Retired)));
}

#[test]
fn a_card_that_cannot_be_wiped_and_a_second_kernel_quarantine_the_node() {
    let wiping = || {
        let mut bench = Bench::in_state(State::EnvCopy);
        bench.ask(Request::Destroy);
        release(&mut bench);
        bench
    };
    let mut bench = wiping();
    bench.fail(CauseKind::CardError);
    switch_off(&mut bench);
    assert_eq!((bench.state(), bench.cause()), (State::Quarantined, Some(CauseKind::CardError)));
    let mut bench = wiping();
    let boot = bench.live.deployment.boot;
    bench.see(Sign::Agent(AgentSign::Hello {
        boot,
        kernel: KernelId("another".into()),
        objection: None,
        card: CardSighting::Unidentified,
    }));
    switch_off(&mut bench);
    assert_eq!((bench.state(), bench.cause()), (State::Quarantined, Some(CauseKind::IdentityConflict)));
}

#[test]
fn a_quarantined_node_is_free_after_a_test_that_it_passes_and_only_then() {
    let mut bench = Bench::in_state(State::Deployed);
    bench.ask(Request::Destroy);
    bench.pass(11 * 60);
    bench.see(Sign::Power(bench.live.deployment.seq, Powered::Off));
    while bench.live.deployment.active().is_some() {
        bench.wait_for_deadline();
    }
    assert_eq!(bench.state(), State::Quarantined);
    bench.ask(Request::Test);
    assert_eq!((bench.state(), bench.live.deployment.process()), (State::NfsBootConf, Process::Test));
    release(&mut bench);
    bench.answer(Outcome::Done(String::new()));
    switch_off(&mut bench);
    assert_eq!((bench.state(), bench.cause()), (State::Ended, Some(CauseKind::Tested)));
}

#[test]
fn what_somebody_uses_is_not_tested() {
    for state in [State::EnvCopy, State::UserScript, State::Deployed] {
        let mut bench = Bench::in_state(state);
        assert_eq!(bench.ask(Request::Test), [Effect::Refuse(Refusal::InUse)], "{state}");
    }
}

#[test]
fn a_hard_reboot_starts_a_release_over_and_a_release_has_a_budget_of_its_own() {
    let mut bench = Bench::in_state(State::EnvCopy);
    for _ in 0..2 {
        bench.see(Sign::BootAsked(Asked::New));
        bench.boot();
    }
    assert_eq!(bench.live.deployment.restarts, 2);
    bench.ask(Request::Destroy);
    release(&mut bench);
    bench.see(Sign::BootAsked(Asked::New));
    assert_eq!((bench.state(), bench.live.deployment.restarts), (State::NfsBootConf, 1));
    bench.boot();
    bench.ask(Request::HardReboot);
    assert_eq!((bench.state(), bench.live.deployment.restarts), (State::NfsBootConf, 1));
    assert_eq!(bench.live.deployment.process(), Process::Destroy);
}

/// A deployment whose site wipes as `policy` says, given back and wiped as far as it is.
fn given_back(wipe: Wipe, wipe_later: bool) -> Bench {
    let mut bench = Bench::in_state(State::EnvCopy);
    bench.policy = Policy { wipe, wipe_later, ..bench.policy };
    bench.ask(Request::Destroy);
    release(&mut bench);
    bench
}

#[test]
fn the_sites_wipe_is_carried_out_or_recorded() {
    let mut bench = given_back(Wipe::Zero, false);
    assert_eq!(bench.asked_for(), Ask::Wipe(Wipe::Zero));
    bench.answer(Outcome::Done(String::new()));
    assert_eq!(bench.live.deployment.owes, None);

    let mut bench = given_back(Wipe::Zero, true);
    assert_eq!(bench.asked_for(), Ask::Wipe(Wipe::Headers));
    bench.answer(Outcome::Done(String::new()));
    assert_eq!(bench.live.deployment.owes, Some(Owed { wipe: Wipe::Zero, due: false }));
}

#[test]
fn a_wipe_that_is_owed_comes_before_another_users_first_byte_and_never_twice() {
    let owes = Owed { wipe: Wipe::Discard, due: true };
    let mut bench = Bench::open();
    bench.live.deployment.owes = Some(owes);
    happy_path()[..7].iter().for_each(|make| bench.step(*make));
    assert_eq!(bench.asked_for(), Ask::Wipe(Wipe::Discard));
    assert_eq!(bench.live.deployment.process(), Process::Deploy);
    // A restart comes back to it.
    bench.see(Sign::BootAsked(Asked::New));
    bench.boot();
    assert_eq!(bench.asked_for(), Ask::Wipe(Wipe::Discard));
    bench.answer(Outcome::Done(String::new()));
    assert_eq!((bench.state(), bench.live.deployment.owes), (State::EnvCopy, None));
    assert!(matches!(bench.asked_for(), Ask::Work { attempt: 1, verify: Verify::Written, .. }));
    bench.see(Sign::BootAsked(Asked::New));
    bench.boot();
    assert_eq!(bench.state(), State::EnvCopy);
}

#[test]
fn the_same_user_does_not_wait_for_the_wipe_of_their_own_card() {
    let mut bench = Bench::open();
    bench.live.deployment.owes = Some(Owed { wipe: Wipe::Zero, due: false });
    happy_path()[..7].iter().for_each(|make| bench.step(*make));
    assert_eq!(bench.state(), State::EnvCopy);
}

#[test]
fn what_a_guard_objects_to_is_neither_written_nor_freed() {
    let cause = Cause::new(CauseKind::BootOrderUnreachable, "0xf41");
    let hello = |bench: &Bench| {
        let (boot, objection) = (bench.live.deployment.boot, Some(cause.clone()));
        Sign::Agent(AgentSign::Hello {
            boot,
            kernel: KernelId("k".into()),
            objection,
            card: CardSighting::Unidentified,
        })
    };
    let mut bench = Bench::in_state(State::NfsBootOn);
    bench.step(BOOT[4]);
    bench.see(hello(&bench));
    assert_eq!((bench.state(), bench.cause()), (State::Failed, Some(CauseKind::BootOrderUnreachable)));
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::Command(..))), "{:?}", bench.effects);

    let mut bench = Bench::in_state(State::Deployed);
    bench.ask(Request::Destroy);
    for make in &BOOT[..5] {
        bench.step(*make);
    }
    assert_eq!(bench.state(), State::NfsBootOn);
    bench.see(hello(&bench));
    switch_off(&mut bench);
    assert_eq!((bench.state(), bench.cause()), (State::Quarantined, Some(CauseKind::BootOrderUnreachable)));
}

//! The ways back: hard reboots, restarts, deploy again, and what each costs.

use super::*;

#[test]
fn a_hard_reboot_stops_the_agent_and_goes_on_from_every_registered_state() {
    for state in State::AGENTS {
        let mut bench = Bench::in_state(state);
        bench.ask(Request::HardReboot);
        assert_eq!(bench.asked_for(), Ask::Stop, "{state}");
        bench.answer(Outcome::Done(String::new()));
        assert_eq!(bench.state(), State::NfsBootConf, "{state}");
        bench.boot();
        let recopies = [State::SystemConf, State::UserConf].contains(&state);
        let expected = Ask::Work {
            state,
            attempt: 2,
            manifest: Hash([1; 32]),
            verify: Verify::Full,
            recopy_boot: recopies,
        };
        assert_eq!(bench.asked_for(), expected);
        assert_eq!(bench.live.deployment.restarts, 0, "a user's hard reboot costs no restart");
    }
}

#[test]
fn an_agent_that_does_not_stop_is_cut_after_two_seconds() {
    let mut bench = Bench::in_state(State::EnvCopy);
    bench.ask(Request::Destroy);
    assert_eq!(bench.deadline(), Some(bench.moment.at + Duration::from_secs(2)));
    bench.pass(2);
    assert_eq!((bench.state(), bench.live.deployment.process()), (State::NfsBootConf, Process::Destroy));
    bench.see(Sign::ViewServed(bench.live.deployment.seq));
    assert!(matches!(bench.effects[..], [Effect::PowerOff(_)]));
}

#[test]
fn a_stronger_wish_replaces_a_weaker_one_that_waits_for_the_agent() {
    let mut bench = Bench::in_state(State::EnvCopy);
    bench.ask(Request::HardReboot);
    bench.ask(Request::DeployAgain);
    bench.ask(Request::HardReboot);
    bench.ask(Request::Destroy);
    assert_eq!(bench.ask(Request::DeployAgain), [Effect::Refuse(Refusal::BeingDestroyed)]);
    bench.answer(Outcome::Done(String::new()));
    assert_eq!((bench.state(), bench.cause()), (State::Wipe, Some(CauseKind::Destroyed)));
}

#[test]
fn a_hard_reboot_behind_the_commit_boots_the_card_again() {
    for state in [State::EnvBootConf, State::EnvBoot, State::UserScript] {
        let mut bench = Bench::in_state(state);
        bench.ask(Request::HardReboot);
        assert_eq!(bench.state(), State::EnvBootConf, "{state}");
        bench.see(Sign::ViewServed(bench.live.deployment.seq));
        assert!(matches!(bench.effects[..], [Effect::PowerOff(_)]), "{state}");
    }
}

#[test]
fn a_deployed_node_is_rebooted_and_shows_evidence_again() {
    let mut bench = Bench::in_state(State::Deployed);
    bench.ask(Request::HardReboot);
    assert_eq!((bench.state(), bench.live.deployment.process()), (State::TurnOff, Process::Reboot));
    bench.see(Sign::Power(bench.live.deployment.seq, Powered::Off));
    bench.see(Sign::Admitted);
    bench.see(Sign::Power(bench.live.deployment.seq, Powered::On));
    assert_eq!(bench.state(), State::TurnOn);
    bench.see(Sign::FirstBoot(Run(1), FirstBootSign::Booted));
    assert_eq!(bench.state(), State::Deployed);
}

#[test]
fn deploy_again_starts_the_next_run_with_a_full_budget() {
    let mut bench = Bench::in_state(State::EnvCopy);
    bench.see(Sign::BootAsked(Asked::New));
    assert_eq!(bench.live.deployment.restarts, 1);
    bench.ask(Request::DeployAgain);
    let now = &bench.live.deployment;
    assert_eq!((now.run, now.restarts, now.registered), (Run(2), 0, State::NfsBootConf));
    bench.boot();
    assert_eq!(bench.state(), State::EnvCopy);
    assert!(matches!(bench.asked_for(), Ask::Work { attempt: 1, verify: Verify::Written, .. }));
}

#[test]
fn wrong_content_goes_back_to_the_copy_once_and_is_paid_for() {
    for kind in [CauseKind::HashMismatch, CauseKind::FilesystemBroken] {
        let mut bench = Bench::in_state(State::MountPartition);
        bench.fail(kind);
        assert_eq!((bench.state(), bench.live.deployment.restarts), (State::EnvCopy, 1));
        bench.fail(kind);
        assert_eq!((bench.state(), bench.cause()), (State::Failed, Some(kind)));
    }
}

#[test]
fn what_a_node_says_is_a_failure_and_keeps_the_registered_state() {
    let mut bench = Bench::in_state(State::WaitResizing);
    bench.fail(CauseKind::CardError);
    assert_eq!((bench.state(), bench.cause()), (State::Failed, Some(CauseKind::CardError)));
    bench.ask(Request::HardReboot);
    bench.boot();
    assert_eq!(bench.state(), State::WaitResizing);
}

#[test]
fn an_unplanned_boot_in_an_agents_state_costs_a_restart_whoever_caused_it() {
    let mut bench = Bench::in_state(State::EnvCheck);
    for restarts in 1..=2 {
        bench.see(Sign::BootAsked(Asked::New));
        assert_eq!(bench.live.deployment.restarts, restarts);
        bench.boot();
        assert_eq!(bench.state(), State::EnvCheck);
    }
    bench.see(Sign::BootAsked(Asked::New));
    assert_eq!((bench.state(), bench.cause()), (State::Lost, Some(CauseKind::UnexpectedReboot)));
}

#[test]
fn an_agent_that_restarted_gets_its_command_again_and_a_second_kernel_ends_the_run() {
    let mut bench = Bench::in_state(State::EnvCopy);
    let boot = bench.live.deployment.boot;
    let hello = |kernel: &str| {
        Sign::Agent(AgentSign::Hello {
            boot,
            kernel: KernelId(kernel.into()),
            objection: None,
            card: CardSighting::Unidentified,
        })
    };
    let before = bench.live.deployment.clone();
    bench.see(hello("k"));
    assert!(matches!(bench.asked_for(), Ask::Work { state: State::EnvCopy, .. }));
    assert_eq!(bench.live.deployment, before);
    bench.see(hello("another"));
    assert_eq!((bench.state(), bench.live.deployment.process()), (State::TurnOff, Process::Halt));
    bench.see(Sign::Power(bench.live.deployment.seq, Powered::Off));
    assert_eq!((bench.state(), bench.cause()), (State::Failed, Some(CauseKind::IdentityConflict)));
}

#[test]
fn a_heartbeat_that_does_not_know_the_command_brings_it_again() {
    let mut bench = Bench::in_state(State::EnvCopy);
    let ticket = bench.live.deployment.ticket();
    bench.beat(None, false);
    assert!(bench.effects.is_empty(), "it may have been sent before the command came");
    bench.pass(2);
    for last in [None, Some((ticket, Standing::Done))] {
        bench.beat(last, false);
        assert!(matches!(bench.asked_for(), Ask::Work { .. }), "{last:?}");
    }
    bench.beat(Some((ticket, Standing::Working)), false);
    assert!(bench.effects.is_empty());
}

#[test]
fn an_agent_that_does_not_leave_the_boot_root_is_power_cycled_without_a_restart() {
    let mut bench = Bench::open();
    let path = happy_path();
    path[..path.len() - 4].iter().for_each(|make| bench.step(*make));
    assert_eq!(bench.asked_for(), Ask::Reboot);
    assert!(bench.live.deployment.live_boot().is_some());
    bench.pass(60);
    assert!(matches!(bench.effects[..], [Effect::PowerOff(_)]));
    assert_eq!((bench.state(), bench.live.deployment.restarts), (State::EnvBoot, 0));
    assert_eq!(bench.live.deployment.live_boot(), None);
}

#[test]
fn an_image_that_cannot_be_had_is_asked_for_again_from_the_budget_and_fails_in_the_end() {
    let mut bench = Bench::in_state(State::EnvCopy);
    for attempt in [2, 3] {
        bench.answer(Outcome::Failed(Cause::new(CauseKind::ImageUnreachable, "nothing came for 60 s")));
        assert_eq!(bench.state(), State::EnvCopy);
        assert!(matches!(bench.asked_for(), Ask::Work { attempt: found, .. } if found == attempt));
    }
    bench.answer(Outcome::Failed(Cause::new(CauseKind::ImageUnreachable, "nothing came for 60 s")));
    assert_eq!((bench.state(), bench.cause()), (State::Failed, Some(CauseKind::ImageUnreachable)));
}

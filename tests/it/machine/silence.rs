//! What each silence comes to, and when nobody is blamed for one.

use super::*;

#[test]
fn a_node_that_never_boots_is_lost_in_the_end_after_every_restart_of_the_budget() {
    let mut bench = Bench::in_state(State::NfsBootOn);
    for restart in 1..=bench.policy.restart_budget {
        bench.pass(100);
        assert_eq!((bench.state(), bench.live.deployment.restarts), (State::NfsBootConf, restart));
        BOOT[..4].iter().for_each(|make| bench.step(*make));
        assert_eq!(bench.state(), State::NfsBootOn);
    }
    bench.pass(99);
    assert_eq!(bench.state(), State::NfsBootOn);
    bench.pass(1);
    assert_eq!((bench.state(), bench.cause()), (State::Lost, Some(CauseKind::NoBootRequest)));
}

#[test]
fn the_default_limits_leave_room_for_every_restart() {
    Policy::default().check().unwrap();
    let short = Policy { blocked_max: Duration::from_secs(299), ..Policy::default() };
    assert!(short.check().unwrap_err().to_string().contains("at least 300 s"));
}

#[test]
fn a_written_card_that_never_reports_is_power_cycled_and_lost_in_the_end() {
    let mut bench = Bench::in_state(State::EnvBoot);
    for _ in 0..2 {
        bench.pass(200);
        assert_eq!(bench.state(), State::EnvBootConf);
        bench.see(Sign::ViewServed(bench.live.deployment.seq));
        assert!(matches!(bench.effects[..], [Effect::PowerOff(_)]), "{:?}", bench.effects);
        for powered in [Powered::Off, Powered::On] {
            bench.see(Sign::Power(bench.live.deployment.seq, powered));
            bench.see(Sign::Admitted);
        }
        assert_eq!(bench.state(), State::EnvBoot);
    }
    bench.pass(200);
    assert_eq!((bench.state(), bench.cause()), (State::Lost, Some(CauseKind::FirstBootSilent)));
}

#[test]
fn silence_is_named_by_what_was_seen_last() {
    let mut bench = Bench::in_state(State::NfsBootOn);
    bench.see(Sign::BootAsked(Asked::Kernel));
    bench.see(Sign::BootAsked(Asked::Again));
    bench.policy.restart_budget = 0;
    bench.pass(100);
    assert_eq!(bench.cause(), Some(CauseKind::KernelSentNoAgent));

    let mut bench = Bench::in_state(State::NfsBootOn);
    bench.see(Sign::BootAsked(Asked::New));
    bench.policy.restart_budget = 0;
    bench.pass(100);
    assert_eq!(bench.cause(), Some(CauseKind::FirmwareStopped));

    for (asked, expected) in
        [(Asked::Address, CauseKind::NoDhcp), (Asked::Offered([10, 0, 0, 66].into()), CauseKind::DhcpNoTftp)]
    {
        let mut bench = Bench::in_state(State::NfsBootOn);
        bench.see(Sign::BootAsked(Asked::Address));
        bench.see(Sign::BootAsked(asked));
        bench.policy.restart_budget = 0;
        bench.pass(100);
        assert_eq!(bench.cause(), Some(expected));
    }

    let mut bench = Bench::in_state(State::DeletePartition);
    bench.policy.restart_budget = 0;
    bench.pass(100);
    assert_eq!(bench.cause(), Some(CauseKind::AgentSilent));

    let mut bench = Bench::in_state(State::DeletePartition);
    bench.policy.restart_budget = 0;
    bench.pass(90);
    bench.beat(Some((bench.live.deployment.ticket(), Standing::Working)), false);
    bench.pass(10);
    assert_eq!(bench.cause(), Some(CauseKind::AgentStuck));
}

#[test]
fn a_firmware_that_asks_for_new_files_is_not_blocked_and_one_that_goes_round_in_circles_is() {
    let mut bench = Bench::in_state(State::NfsBootOn);
    for _ in 0..5 {
        bench.see(Sign::BootAsked(Asked::New));
        bench.pass(90);
    }
    assert_eq!(bench.state(), State::NfsBootOn);
    bench.see(Sign::BootAsked(Asked::Again));
    bench.pass(10);
    assert_eq!((bench.state(), bench.live.deployment.restarts), (State::NfsBootConf, 1));

    let mut bench = Bench::in_state(State::NfsBootOn);
    for _ in 0..2 {
        bench.see(Sign::BootAsked(Asked::Kernel));
        bench.pass(50);
    }
    assert_eq!(bench.state(), State::NfsBootConf, "a kernel that crashes and is fetched again");
}

#[test]
fn a_node_that_boots_its_card_instead_is_powered_off_and_on_and_told_from_a_silent_one() {
    let mut bench = Bench::in_state(State::NfsBootOn);
    bench.see(Sign::CardAnswers);
    assert_eq!((bench.state(), bench.live.deployment.restarts), (State::NfsBootConf, 1));
    let mut bench = Bench::in_state(State::NfsBootOn);
    bench.policy.restart_budget = 0;
    bench.see(Sign::CardAnswers);
    assert_eq!((bench.state(), bench.cause()), (State::Lost, Some(CauseKind::BootsCardFirst)));

    let mut bench = Bench::in_state(State::NfsBootOn);
    bench.see(Sign::BootAsked(Asked::New));
    bench.see(Sign::CardAnswers);
    assert_eq!(bench.state(), State::NfsBootOn, "it asked, so it is the boot root that answers");
}

#[test]
fn heartbeats_with_a_busy_card_put_off_the_restart_but_not_the_loss() {
    let mut bench = Bench::in_state(State::EnvCopy);
    for _ in 0..29 {
        bench.pass(10);
        bench.beat(Some((bench.live.deployment.ticket(), Standing::Working)), true);
    }
    assert_eq!((bench.state(), bench.live.deployment.restarts), (State::EnvCopy, 0));
    bench.pass(10);
    assert_eq!((bench.state(), bench.cause()), (State::Lost, Some(CauseKind::AgentStuck)));
}

#[test]
fn progress_counts_only_beyond_what_was_reached() {
    let mut bench = Bench::in_state(State::EnvCopy);
    let progress = |done| Outcome::Progress(Progress { done, ..Progress::default() });
    for done in 1..20 {
        bench.pass(90);
        bench.answer(progress(done));
    }
    assert_eq!(bench.state(), State::EnvCopy);
    bench.pass(90);
    bench.answer(progress(5));
    bench.pass(10);
    assert_eq!(bench.state(), State::NfsBootConf, "repeated ground is no progress");
}

#[test]
fn nobody_is_blamed_while_our_own_link_is_down_or_young() {
    let mut bench = Bench::in_state(State::EnvCopy);
    bench.moment.link_since = None;
    bench.pass(5000);
    assert_eq!(bench.deadline(), None);
    bench.moment.link_since = Some(bench.moment.at);
    assert_eq!(bench.deadline(), Some(bench.moment.at + Duration::from_secs(130)));
    bench.pass(129);
    assert_eq!(bench.state(), State::EnvCopy);
    bench.pass(1);
    assert_eq!(bench.state(), State::NfsBootConf);
}

#[test]
fn nobody_is_blamed_while_it_waits_for_admission_or_the_power_queue() {
    let mut bench = Bench::open();
    happy_path()[..3].iter().for_each(|make| bench.step(*make));
    assert_eq!(bench.state(), State::NfsBootOn);
    bench.pass(50_000);
    bench.see(Sign::Admitted);
    bench.pass(600);
    bench.see(Sign::Power(bench.live.deployment.seq, Powered::On));
    assert_eq!((bench.state(), bench.live.deployment.restarts), (State::NfsBootOn, 0));
    assert_eq!(bench.deadline(), Some(bench.moment.at + Duration::from_secs(100)));
}

#[test]
fn a_script_may_run_longer_than_silence_is_borne_elsewhere() {
    let mut bench = Bench::in_state(State::UserScript);
    bench.pass(719);
    assert_eq!(bench.state(), State::UserScript);
    bench.pass(1);
    assert_eq!((bench.state(), bench.cause()), (State::Lost, Some(CauseKind::FirstBootSilent)));
}

#[test]
fn a_switch_that_does_not_answer_loses_the_node_without_wasting_restarts() {
    let mut bench = Bench::open();
    happy_path()[..2].iter().for_each(|make| bench.step(*make));
    // A person may take a day; the queue has given a switch up long before.
    let silent = Powered::Failed(Cause::new(CauseKind::SwitchUnreachable, "nothing for 600 s"));
    let mut given_up = bench.clone();
    given_up.see(Sign::Power(bench.live.deployment.seq, silent));
    assert_eq!((given_up.state(), given_up.live.deployment.restarts), (State::Lost, 0));
    bench.pass(25 * 3600);
    let now = &bench.live.deployment;
    assert_eq!((now.state(), now.restarts), (State::Lost, 0));
    assert_eq!(bench.cause(), Some(CauseKind::SwitchUnreachable));
}

#[test]
fn a_port_that_stays_on_costs_restarts_and_quarantines_a_node_that_is_given_back() {
    let failed = || Powered::Failed(Cause::new(CauseKind::PortNotOff, "still delivering"));
    let mut bench = Bench::open();
    happy_path()[..2].iter().for_each(|make| bench.step(*make));
    for _ in 0..3 {
        bench.see(Sign::Power(bench.live.deployment.seq, failed()));
        bench.see(Sign::ViewServed(bench.live.deployment.seq));
    }
    assert_eq!((bench.state(), bench.cause()), (State::Lost, Some(CauseKind::PortNotOff)));
    bench.ask(Request::Destroy);
    for _ in 0..3 {
        bench.see(Sign::ViewServed(bench.live.deployment.seq));
        bench.see(Sign::Power(bench.live.deployment.seq, failed()));
    }
    bench.see(Sign::Power(bench.live.deployment.seq, failed()));
    assert_eq!((bench.state(), bench.cause()), (State::Quarantined, Some(CauseKind::PortNotOff)));
}

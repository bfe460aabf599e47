//! The normal course, its stragglers, and its ends.

use super::*;

#[test]
fn a_deployment_passes_its_states_in_order() {
    let mut bench = Bench::open();
    let mut seen = vec![bench.state()];
    for event in happy_path() {
        bench.step(event);
        if seen.last() != Some(&bench.state()) {
            seen.push(bench.state());
        }
    }
    let expected: Vec<State> = State::ALL[..=State::Deployed as usize].to_vec();
    assert_eq!(seen, expected);
    assert_eq!(bench.live.deployment.evidence, Some(Evidence::OwnWord));
}

#[test]
fn every_boot_of_the_boot_root_has_a_number_of_its_own() {
    let mut bench = Bench::in_state(State::EnvCopy);
    assert_eq!(bench.live.deployment.boot, BootNumber(5));
    assert_eq!(bench.live.deployment.live_boot(), Some(BootNumber(5)));
    bench.see(Sign::BootAsked(Asked::New));
    assert_eq!(bench.live.deployment.boot, BootNumber(6));
    assert_eq!(bench.live.deployment.live_boot(), None, "nobody has the new boot's key yet");
}

#[test]
fn a_script_fails_by_its_exit_code_time_limit_interruption_or_reboot() {
    let end = |signs: &[FirstBootSign]| {
        let mut bench = Bench::in_state(State::UserScript);
        signs.iter().for_each(|sign| bench.see(Sign::FirstBoot(Run(1), *sign)));
        (bench.state(), bench.cause())
    };
    use FirstBootSign::{ScriptEnded, ScriptInterrupted, ScriptStarted};
    assert_eq!(end(&[ScriptEnded(3)]), (State::Failed, Some(CauseKind::ScriptFailed)));
    assert_eq!(end(&[ScriptEnded(124)]), (State::Failed, Some(CauseKind::ScriptTimeout)));
    assert_eq!(end(&[ScriptInterrupted]), (State::Failed, Some(CauseKind::ScriptInterrupted)));
    assert_eq!(end(&[ScriptStarted, ScriptInterrupted]), (State::Failed, Some(CauseKind::ScriptRebooted)));

    let mut bench = Bench::in_state(State::UserScript);
    bench.see(Sign::FirstBoot(Run(1), ScriptStarted));
    bench.ask(Request::HardReboot);
    bench.see(Sign::ViewServed(bench.live.deployment.seq));
    for powered in [Powered::Off, Powered::On] {
        bench.see(Sign::Power(bench.live.deployment.seq, powered));
        bench.see(Sign::Admitted);
    }
    bench.see(Sign::FirstBoot(Run(1), ScriptInterrupted));
    assert_eq!(bench.cause(), Some(CauseKind::ScriptInterrupted), "our own cut is not the script's reboot");
}

#[test]
fn reports_of_an_earlier_run_boot_and_number_change_nothing() {
    let mut bench = Bench::in_state(State::EnvCopy);
    bench.ask(Request::DeployAgain);
    bench.answer(Outcome::Done(String::new()));
    bench.boot();
    let before = bench.live.deployment.clone();
    let old = Ticket { run: Run(1), ..before.ticket() };
    bench.see(Sign::Agent(AgentSign::Answer(Answer { ticket: old, outcome: Outcome::Done(String::new()) })));
    bench.see(Sign::FirstBoot(Run(1), FirstBootSign::ScriptEnded(0)));
    bench.see(Sign::Agent(AgentSign::Hello {
        boot: BootNumber(5),
        kernel: KernelId("old".into()),
        objection: None,
        card: CardSighting::Unidentified,
    }));
    bench.see(Sign::Power(piseduce_protocol::id::Seq(1), Powered::Off));
    assert_eq!(bench.live.deployment, before);
}

#[test]
fn an_environment_that_cannot_report_is_deployed_unproven_once_its_node_asked_for_its_card() {
    let mut bench = Bench::in_state(State::EnvBoot);
    bench.live.deployment.form = Some(Arc::new(Form { reports: false, ..Bench::form() }));
    bench.see(Sign::BootAsked(Asked::New));
    assert_eq!(bench.state(), State::Deployed);
    assert_eq!(bench.live.deployment.evidence, Some(Evidence::Unproven));
}

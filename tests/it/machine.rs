//! The machine by itself: the normal course, the ways back, and what each silence comes to.

use piseduce_coordinator::clock::Instant;
use piseduce_coordinator::domain::deployment::{Condition, Deployment, Evidence, Form, Phase};
use piseduce_coordinator::machine::effect::Ask;
use piseduce_coordinator::machine::event::{AgentSign, Event, FirstBootSign, Powered, Request, Sign};
use piseduce_coordinator::machine::{Effect, Live, Moment, Policy, Refusal, advance};
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::command::{PartSize, Verify};
use piseduce_protocol::id::{BootNumber, DeploymentId, Hash, Run, Ticket};
use piseduce_protocol::report::{Answer, KernelId, Outcome, Progress, Standing};
use piseduce_protocol::state::{Process, State};
use std::time::Duration;

/// One deployment on a bench: events in, effects out, time by hand.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) live: Live,
    pub(crate) policy: Policy,
    moment: Moment,
    effects: Vec<Effect>,
}

impl Bench {
    pub(crate) fn form() -> Form {
        Form {
            environment: "lab".into(),
            manifest: Hash([1; 32]),
            reports: true,
            part_size: PartSize::Whole,
            password_hash: None,
            ssh_keys: vec!["ssh-ed25519 AAAA".into()],
            script: None,
            rerun_script: false,
            script_seconds: 60,
        }
    }

    pub(crate) fn open() -> Self {
        let at = Instant(1_000_000);
        Bench {
            live: Live::new(Deployment::open(DeploymentId(1), BootNumber(4)), at),
            policy: Policy::default(),
            moment: Moment { at, link_since: Some(Instant(0)) },
            effects: vec![],
        }
    }

    /// The normal course up to and including the first time that `state` does its own work.
    fn in_state(state: State) -> Self {
        let mut bench = Bench::open();
        for event in happy_path() {
            bench.step(event);
            let works = bench.live.deployment.active().is_none_or(|active| active.phase == Phase::Work);
            if bench.state() == state && works {
                return bench;
            }
        }
        panic!("{state} is not on the normal course");
    }

    pub(crate) fn event(&mut self, event: &Event) -> Vec<Effect> {
        let (live, effects) = advance(self.live.clone(), event, self.moment, &self.policy);
        self.live = live;
        self.effects.clone_from(&effects);
        effects
    }

    pub(crate) fn step(&mut self, make: fn(&Deployment) -> Event) {
        let event = make(&self.live.deployment);
        self.event(&event);
    }

    fn ask(&mut self, request: Request) -> Vec<Effect> {
        self.event(&Event::Asked(request))
    }

    pub(crate) fn see(&mut self, sign: Sign) {
        self.event(&Event::Seen(sign));
    }

    fn answer(&mut self, outcome: Outcome) {
        let ticket = self.live.deployment.ticket();
        self.see(Sign::Agent(AgentSign::Answer(Answer { ticket, outcome })));
    }

    fn fail(&mut self, kind: CauseKind) {
        self.answer(Outcome::Failed(Cause::new(kind, "")));
    }

    fn beat(&mut self, last: Option<(Ticket, Standing)>, card_busy: bool) {
        let boot = self.live.deployment.boot;
        self.see(Sign::Agent(AgentSign::Beat { boot, last, card_busy }));
    }

    fn pass(&mut self, seconds: u64) {
        self.moment.at = self.moment.at + Duration::from_secs(seconds);
        self.event(&Event::Tick);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.live.deadline(self.moment, &self.policy)
    }

    pub(crate) fn wait_for_deadline(&mut self) {
        self.moment.at = self.deadline().expect("a deadline");
        self.event(&Event::Tick);
    }

    fn state(&self) -> State {
        self.live.deployment.state()
    }

    fn cause(&self) -> Option<CauseKind> {
        let cause = self.live.deployment.cause()?;
        CauseKind::ALL.iter().copied().find(|kind| cause.is(*kind))
    }

    /// From a boot of the boot root up to the hello.
    fn boot(&mut self) {
        for make in BOOT {
            self.step(make);
        }
    }

    fn asked_for(&self) -> Ask {
        match self.effects.as_slice() {
            [Effect::Command(_, ask)] => *ask,
            other => panic!("no command, but {other:?}"),
        }
    }
}

const BOOT: [fn(&Deployment) -> Event; 5] = [
    |now| Event::Seen(Sign::ViewServed(now.seq)),
    |now| Event::Seen(Sign::Power(now.seq, Powered::Off)),
    |_| Event::Seen(Sign::Admitted),
    |now| Event::Seen(Sign::Power(now.seq, Powered::On)),
    |now| Event::Seen(Sign::Agent(AgentSign::Hello { boot: now.boot, kernel: KernelId("k".into()) })),
];

fn done(now: &Deployment) -> Event {
    let answer = Answer { ticket: now.ticket(), outcome: Outcome::Done(String::new()) };
    Event::Seen(Sign::Agent(AgentSign::Answer(answer)))
}

/// The normal course from the open form to `deployed`.
pub(crate) fn happy_path() -> Vec<fn(&Deployment) -> Event> {
    let mut path: Vec<fn(&Deployment) -> Event> =
        vec![|_| Event::Asked(Request::Deploy(Box::new(Bench::form())))];
    path.extend(BOOT);
    path.extend([done as fn(&Deployment) -> Event; 9]);
    path.push(|now| Event::Seen(Sign::ViewServed(now.seq)));
    path.push(done);
    path.push(|now| Event::Seen(Sign::FirstBoot(now.run, FirstBootSign::Booted)));
    path.push(|now| Event::Seen(Sign::FirstBoot(now.run, FirstBootSign::ScriptStarted)));
    path.push(|now| Event::Seen(Sign::FirstBoot(now.run, FirstBootSign::ScriptEnded(0))));
    path
}

const AGENT_STATES: [State; 9] = [
    State::EnvCopy,
    State::EnvCheck,
    State::DeletePartition,
    State::CreatePartition,
    State::MountPartition,
    State::ResizePartition,
    State::WaitResizing,
    State::SystemConf,
    State::UserConf,
];

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
    bench.see(Sign::BootAsked);
    assert_eq!(bench.live.deployment.boot, BootNumber(6));
    assert_eq!(bench.live.deployment.live_boot(), None, "nobody has the new boot's key yet");
}

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
    bench.see(Sign::BootAsked);
    bench.policy.restart_budget = 0;
    bench.pass(100);
    assert_eq!(bench.cause(), Some(CauseKind::KernelSentNoAgent));

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
fn a_hard_reboot_stops_the_agent_and_goes_on_from_every_registered_state() {
    for state in AGENT_STATES {
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
    assert!(matches!(bench.effects[..], [Effect::PowerOff(_)]));
    assert_eq!(bench.live.deployment.process(), Process::Destroy);
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
    assert_eq!((bench.state(), bench.cause()), (State::TurnOff, Some(CauseKind::Destroyed)));
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
    bench.see(Sign::BootAsked);
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
        bench.see(Sign::BootAsked);
        assert_eq!(bench.live.deployment.restarts, restarts);
        bench.boot();
        assert_eq!(bench.state(), State::EnvCheck);
    }
    bench.see(Sign::BootAsked);
    assert_eq!((bench.state(), bench.cause()), (State::Lost, Some(CauseKind::UnexpectedReboot)));
}

#[test]
fn an_agent_that_restarted_gets_its_command_again_and_a_second_kernel_ends_the_run() {
    let mut bench = Bench::in_state(State::EnvCopy);
    let boot = bench.live.deployment.boot;
    let hello = |kernel: &str| Sign::Agent(AgentSign::Hello { boot, kernel: KernelId(kernel.into()) });
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
fn a_script_may_run_longer_than_silence_is_borne_elsewhere() {
    let mut bench = Bench::in_state(State::UserScript);
    bench.pass(719);
    assert_eq!(bench.state(), State::UserScript);
    bench.pass(1);
    assert_eq!((bench.state(), bench.cause()), (State::Lost, Some(CauseKind::FirstBootSilent)));
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
    bench.see(Sign::Agent(AgentSign::Hello { boot: BootNumber(5), kernel: KernelId("old".into()) }));
    bench.see(Sign::Power(piseduce_protocol::id::Seq(1), Powered::Off));
    assert_eq!(bench.live.deployment, before);
}

#[test]
fn a_switch_that_does_not_answer_loses_the_node_without_wasting_restarts() {
    let mut bench = Bench::open();
    happy_path()[..2].iter().for_each(|make| bench.step(*make));
    bench.pass(11 * 60);
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
    bench.see(Sign::Power(bench.live.deployment.seq, failed()));
    assert_eq!((bench.state(), bench.cause()), (State::Quarantined, Some(CauseKind::PortNotOff)));
    assert_eq!(bench.ask(Request::DeployAgain), [Effect::Refuse(Refusal::Quarantined)]);
    bench.ask(Request::Destroy);
    bench.see(Sign::Power(bench.live.deployment.seq, Powered::Off));
    assert!(matches!(bench.live.deployment.condition, Condition::Ended(_)));
}

#[test]
fn an_environment_that_cannot_report_is_deployed_unproven_once_its_node_asked_for_its_card() {
    let mut bench = Bench::in_state(State::EnvBoot);
    bench.live.deployment.form.as_mut().unwrap().reports = false;
    bench.see(Sign::BootAsked);
    assert_eq!(bench.state(), State::Deployed);
    assert_eq!(bench.live.deployment.evidence, Some(Evidence::Unproven));
}

#[test]
fn cancel_and_destroy_end_a_deployment_in_every_state() {
    for request in [Request::Cancel, Request::Destroy, Request::ReservationEnded] {
        let mut bench = Bench::open();
        for event in happy_path() {
            let mut branch = bench.clone();
            let effects = branch.ask(request.clone());
            if branch.state() == State::Deployed {
                assert_eq!(
                    (request.clone(), effects),
                    (Request::Cancel, vec![Effect::Refuse(Refusal::Deployed)])
                );
            }
            if branch
                .live
                .deployment
                .active()
                .is_some_and(|active| matches!(active.phase, Phase::Stopping(_)))
            {
                branch.answer(Outcome::Done(String::new()));
            }
            branch.see(Sign::Power(branch.live.deployment.seq, Powered::Off));
            assert_eq!(branch.state(), State::Ended, "{request:?} from {}", bench.state());
            bench.step(event);
        }
    }
}

//! The machine by itself, on a bench: events in, effects out, time by hand.

mod course;
mod evidence;
mod release;
mod silence;
mod ways_back;

use piseduce_coordinator::clock::Instant;
use piseduce_coordinator::domain::boot_evidence::{
    AgentWitness, CardSighting, EvidenceStanding, Place, PortProof, PortWitness, TokenHolder,
};
use piseduce_coordinator::domain::deployment::{Condition, Deployment, Evidence, Form, Owed, Phase};
use piseduce_coordinator::machine::effect::Ask;
use piseduce_coordinator::machine::event::{AgentSign, Asked, Event, FirstBootSign, Powered, Request, Sign};
use piseduce_coordinator::machine::{Effect, Live, Moment, Policy, Refusal, advance};
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::command::{PartSize, Verify, Wipe};
use piseduce_protocol::id::{BootNumber, DeploymentId, Hash, Run, Ticket};
use piseduce_protocol::report::{Answer, KernelId, Outcome, Progress, Standing};
use piseduce_protocol::state::{Process, State};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// Where the bench's node fetches its token.
pub(crate) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11));
/// Where somebody else is.
pub(crate) const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 66));

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
            live: Live::new(Deployment::open(DeploymentId(1), BootNumber(4), None), at),
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

const BOOT: [fn(&Deployment) -> Event; 6] = [
    |now| Event::Seen(Sign::ViewServed(now.seq)),
    |now| Event::Seen(Sign::Power(now.seq, Powered::Off)),
    |_| Event::Seen(Sign::Admitted),
    |now| Event::Seen(Sign::Power(now.seq, Powered::On)),
    |now| Event::Seen(Sign::TokenFetched(TokenHolder { boot: now.boot, address: ADDRESS })),
    |now| {
        Event::Seen(Sign::Agent(AgentSign::Hello {
            boot: now.boot,
            kernel: KernelId("k".into()),
            objection: None,
            card: CardSighting::Unidentified,
        }))
    },
];

fn done(now: &Deployment) -> Event {
    let answer = Answer { ticket: now.ticket(), outcome: Outcome::Done(String::new()) };
    Event::Seen(Sign::Agent(AgentSign::Answer(answer)))
}

/// The normal course from the open form to `deployed`.
pub(crate) fn happy_path() -> Vec<fn(&Deployment) -> Event> {
    let mut path: Vec<fn(&Deployment) -> Event> =
        vec![|_| Event::Asked(Request::Deploy(Arc::new(Bench::form())))];
    path.extend(BOOT);
    path.extend([done as fn(&Deployment) -> Event; 9]);
    path.push(|now| Event::Seen(Sign::ViewServed(now.seq)));
    path.push(done);
    path.push(|now| Event::Seen(Sign::FirstBoot(now.run, FirstBootSign::Booted)));
    path.push(|now| Event::Seen(Sign::FirstBoot(now.run, FirstBootSign::ScriptStarted)));
    path.push(|now| Event::Seen(Sign::FirstBoot(now.run, FirstBootSign::ScriptEnded(0))));
    path
}

/// From `deployed` to the freed node.
pub(crate) fn release_path() -> Vec<fn(&Deployment) -> Event> {
    let mut path: Vec<fn(&Deployment) -> Event> = vec![|_| Event::Asked(Request::Destroy)];
    path.extend(BOOT);
    path.push(done);
    path.push(|now| Event::Seen(Sign::Power(now.seq, Powered::Off)));
    path
}

//! The machine under every short word of events, from every place of the normal course: whatever
//! happens in whatever order, its invariants hold.

use crate::machine::{ADDRESS, Bench, ELSEWHERE, happy_path, release_path};
use piseduce_coordinator::domain::boot_evidence::{CardSighting, Place, PortProof, PortWitness, TokenHolder};
use piseduce_coordinator::domain::deployment::{Condition, Purpose};
use piseduce_coordinator::machine::event::{AgentSign, Asked, Event, FirstBootSign, Powered, Request, Sign};
use piseduce_coordinator::machine::outstanding;
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::id::{BootNumber, Run, Seq};
use piseduce_protocol::report::{Answer, KernelId, Outcome, Progress, Standing};
use piseduce_protocol::state::State;
use std::sync::Arc;

/// Everything that can happen, as answers to the present request or as stragglers.
pub(crate) fn alphabet(bench: &Bench) -> Vec<(Event, bool)> {
    let now = &bench.live.deployment;
    let mut events: Vec<(Event, bool)> = [
        Request::Deploy(Arc::new(Bench::form())),
        Request::Cancel,
        Request::HardReboot,
        Request::DeployAgain,
        Request::Destroy,
        Request::Test,
        Request::Retire,
        Request::HoldExpired,
        Request::ReservationEnded,
    ]
    .map(|request| (Event::Asked(request), false))
    .into();
    events.push((Event::Tick, false));
    events.push((Event::CoordinatorStarted, false));
    events.push((Event::PowerFailed, false));
    for stale in [false, true] {
        let seq = if stale { Seq(now.seq.0.wrapping_sub(1)) } else { now.seq };
        let run = if stale { Run(now.run.0.wrapping_sub(1)) } else { now.run };
        let boot = if stale { BootNumber(now.boot.0.wrapping_sub(1)) } else { now.boot };
        let mut ticket = now.ticket();
        ticket.seq = seq;
        let kernel = |id: &str| KernelId(id.into());
        let answer = |outcome| Sign::Agent(AgentSign::Answer(Answer { ticket, outcome }));
        let beat = |last| Sign::Agent(AgentSign::Beat { boot, last, card_busy: true });
        let failed = |kind| answer(Outcome::Failed(Cause::new(kind, "")));
        let signs = [
            Sign::ViewServed(seq),
            Sign::Power(seq, Powered::Off),
            Sign::Power(seq, Powered::On),
            Sign::Power(seq, Powered::Failed(Cause::new(CauseKind::PortNotOff, ""))),
            Sign::Agent(AgentSign::Hello {
                boot,
                kernel: kernel("k"),
                objection: None,
                card: CardSighting::Unidentified,
            }),
            Sign::Agent(AgentSign::Hello {
                boot,
                kernel: kernel("another"),
                objection: None,
                card: CardSighting::Unidentified,
            }),
            answer(Outcome::Started),
            answer(Outcome::Progress(Progress { done: 7, ..Progress::default() })),
            answer(Outcome::Done(String::new())),
            answer(Outcome::Refused(String::new())),
            Sign::TokenFetched(TokenHolder { boot, address: ADDRESS }),
            Sign::TokenElsewhere(boot, ELSEWHERE),
            Sign::PortShown(seq, PortProof { witness: PortWitness::Nobody, place: Place::NoTable }),
            failed(CauseKind::HashMismatch),
            failed(CauseKind::CardTooSmall),
            beat(Some((ticket, Standing::Working))),
            Sign::FirstBoot(run, FirstBootSign::Booted),
            Sign::FirstBoot(run, FirstBootSign::ScriptStarted),
            Sign::FirstBoot(run, FirstBootSign::ScriptEnded(0)),
            Sign::FirstBoot(run, FirstBootSign::ScriptEnded(3)),
            Sign::FirstBoot(run, FirstBootSign::ScriptInterrupted),
        ];
        events.extend(signs.map(|sign| (Event::Seen(sign), stale)));
    }
    // These bear no number: their place in the order is proven otherwise.
    let signs = [
        Sign::BootAsked(Asked::Address),
        Sign::BootAsked(Asked::Again),
        Sign::BootAsked(Asked::Kernel),
        Sign::CardAnswers,
        Sign::Admitted,
        Sign::StaleAgent,
    ];
    events.extend(signs.map(|sign| (Event::Seen(sign), false)));
    events
}

/// Applies `event` and checks what must hold whatever it was.
fn apply(bench: &mut Bench, event: &Event, stale: bool) {
    let before = bench.live.deployment.clone();
    let effects = bench.event(event);
    let after = &bench.live.deployment;
    let told = || format!("{event:?}\nbefore {before:?}\nafter  {after:?}");
    assert!(after.seq >= before.seq && after.run >= before.run && after.boot >= before.boot, "{}", told());
    assert!(after.restarts <= bench.policy.restart_budget, "{}", told());
    // A new run has a budget of its own, and so has the way out.
    let same = (after.run, after.process()) == (before.run, before.process());
    assert!(!same || after.restarts >= before.restarts, "a refilled budget: {}", told());
    if after != &before {
        let follows = outstanding(after);
        assert_eq!(effects.first(), follows.as_ref(), "effects follow from the state: {}", told());
    }
    let idle = after.active().is_none();
    assert!(!idle || outstanding(after).is_none() && bench.deadline().is_none(), "{}", told());
    if let Condition::Active(active) = &after.condition {
        let waits = active.phase == piseduce_coordinator::domain::deployment::Phase::Admission;
        assert!(waits || bench.deadline().is_some(), "active without deadline: {}", told());
        let card = [State::EnvBootConf, State::EnvBoot, State::UserScript].contains(&active.state);
        assert!(!card || after.registered >= State::EnvBootConf, "boots an uncommitted card: {}", told());
        assert!(active.purpose != Purpose::Deploy || after.form.is_some(), "{}", told());
    }
    if let (Condition::Active(was), Condition::Ended(_)) = (&before.condition, &after.condition) {
        let missing = after.boot_evidence.missing_for_release();
        assert!(!was.purpose.is_release() || missing.is_empty(), "freed without {missing}: {}", told());
    }
    let works = after.active().is_some_and(|active| active.state.is_agents());
    assert!(!works || after.token_address().is_some(), "an agent whose token nobody fetched: {}", told());
    assert!(
        !matches!(before.condition, Condition::Ended(_)) || after == &before,
        "an end that ends: {}",
        told()
    );
    if stale {
        assert_eq!(after, &before, "a straggler counts: {}", told());
        assert!(
            matches!(event, Event::Seen(Sign::Agent(_))) || effects.is_empty(),
            "a straggler acts: {}",
            told()
        );
    }
    if matches!(event, Event::Seen(sign) if *sign != Sign::Admitted) {
        let once = after.clone();
        bench.event(event);
        assert_eq!(bench.live.deployment, once, "seen twice counts twice: {event:?}");
    }
}

/// How many events long the words are.
const WORD_LENGTH: usize = 5;

fn walk(bench: &Bench, length: usize, count: &mut u64) {
    if length == 0 {
        return;
    }
    for (event, stale) in alphabet(bench) {
        let mut branch = bench.clone();
        apply(&mut branch, &event, stale);
        *count += 1;
        // What changed nothing leads to the words already walked.
        if branch.live.deployment != bench.live.deployment {
            walk(&branch, length - 1, count);
        }
    }
}

#[test]
fn invariants_hold_under_every_short_word_from_every_place_of_the_normal_course() {
    let mut count = 0;
    let mut bench = Bench::open();
    walk(&bench, WORD_LENGTH, &mut count);
    for event in happy_path() {
        bench.step(event);
        walk(&bench, WORD_LENGTH, &mut count);
    }
    for event in release_path() {
        bench.step(event);
        walk(&bench, WORD_LENGTH, &mut count);
    }
    assert!(count > 500_000, "only {count} words were walked");
}

/// From `bench`, time goes by and nobody answers: the deployment must come to rest.
fn falls_silent(bench: &Bench) -> State {
    let mut bench = bench.clone();
    for _ in 0..40 {
        if bench.live.deployment.active().is_none() {
            return bench.live.deployment.state();
        }
        match bench.deadline() {
            Some(_) => bench.wait_for_deadline(),
            None => bench.see(Sign::Admitted),
        }
    }
    panic!("still active: {:?}", bench.live.deployment);
}

#[test]
fn every_walk_ends_when_everybody_falls_silent() {
    let mut bench = Bench::open();
    for event in happy_path() {
        bench.step(event);
        for (event, _) in alphabet(&bench) {
            let mut branch = bench.clone();
            branch.event(&event);
            falls_silent(&branch);
        }
    }
}

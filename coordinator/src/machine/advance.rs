//! `advance`: one deployment, one event, one decision. Matches on the condition first; what each state
//! does with each event is in [`super::resting`], [`super::requested`], [`super::seen`] and [`super::powered`].

use super::effect::Effect;
use super::event::{Event, Request};
use super::live::{Live, Moment};
use super::policy::Policy;
use super::turn::Turn;
use super::{powered, requested, resting, seen};
use crate::domain::deployment::{Active, Condition, Resting};

/// The deployment after `event`, and what follows from it. The caller saves the deployment before it
/// carries out an effect; a deployment that did not change needs no saving.
pub fn advance(live: Live, event: &Event, moment: Moment, policy: &Policy) -> (Live, Vec<Effect>) {
    let condition = live.deployment.condition.clone();
    let mut turn = Turn::new(live, moment, policy);
    match condition {
        Condition::Active(now) => in_active(&mut turn, event, &now),
        Condition::Open => in_rest(&mut turn, event, resting::open),
        Condition::Ended(_) => in_rest(&mut turn, event, resting::ended),
        Condition::Resting(rest) => match rest.state {
            Resting::Deployed if *event == Event::PowerFailed => turn.hard_reboot(),
            Resting::Deployed => in_rest(&mut turn, event, resting::deployed),
            Resting::Lost | Resting::Failed => in_rest(&mut turn, event, resting::stopped),
            Resting::Quarantined => in_rest(&mut turn, event, resting::quarantined),
        },
    }
    turn.end()
}

fn in_active(turn: &mut Turn<'_>, event: &Event, now: &Active) {
    match event {
        Event::Asked(request) => requested::active(turn, request, now),
        Event::Seen(sign) => seen::active(turn, sign, now),
        Event::Tick => seen::tick(turn, now),
        Event::PowerFailed => powered::power_failure(turn, now),
        Event::CoordinatorStarted => turn.ask_again(),
    }
}

fn in_rest(turn: &mut Turn<'_>, event: &Event, asked: fn(&mut Turn<'_>, &Request)) {
    match event {
        Event::Asked(request) => asked(turn, request),
        // Who has no node in use, or one that rests on its cause, is not helped by power.
        Event::Seen(_) | Event::Tick | Event::PowerFailed | Event::CoordinatorStarted => {}
    }
}

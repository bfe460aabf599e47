//! What happens when something is wanted of a deployment that is under way.

use super::effect::Refusal;
use super::event::Request;
use super::resting::{self, ending};
use super::turn::Turn;
use crate::domain::deployment::{Active, Phase, Purpose, Then};
use piseduce_protocol::cause::CauseKind;

/// A request while something is under way.
pub(super) fn active(turn: &mut Turn<'_>, request: &Request, now: &Active) {
    match &now.purpose {
        Purpose::Deploy => in_deploy(turn, request, now),
        // The user has the node, as before the reboot.
        Purpose::Reboot => resting::deployed(turn, request),
        Purpose::Destroy(_) | Purpose::Test => in_release(turn, request),
        Purpose::Halt(_) => in_halt(turn, request),
        Purpose::Isolate(_) => in_isolation(turn, request),
    }
}

fn in_deploy(turn: &mut Turn<'_>, request: &Request, now: &Active) {
    match request {
        Request::Deploy(_) => turn.refuse(Refusal::FormSent),
        Request::HardReboot => after_writing(turn, now, Then::Resume),
        Request::DeployAgain => after_writing(turn, now, Then::Again),
        Request::Cancel => after_writing(turn, now, Then::Destroy(ending(CauseKind::Cancelled))),
        Request::Destroy => after_writing(turn, now, Then::Destroy(ending(CauseKind::Destroyed))),
        Request::ReservationEnded => {
            after_writing(turn, now, Then::Destroy(ending(CauseKind::ReservationEnded)));
        }
        Request::Test => turn.refuse(Refusal::InUse),
        Request::Retire => turn.refuse(Refusal::StillUsed),
        Request::HoldExpired => {}
    }
}

/// Does `then`, after the agent ended its writing if it may be writing. A stronger wish replaces a
/// weaker one that still waits for the agent: destroy over deploy again over hard reboot.
fn after_writing(turn: &mut Turn<'_>, now: &Active, then: Then) {
    match (&now.phase, &then) {
        (Phase::Stopping(Then::Destroy(_)), Then::Destroy(_)) => {}
        (Phase::Stopping(Then::Destroy(_)), Then::Resume | Then::Again) => {
            turn.refuse(Refusal::BeingDestroyed)
        }
        (Phase::Stopping(Then::Again), Then::Resume | Then::Again)
        | (Phase::Stopping(Then::Resume), Then::Resume) => {}
        (Phase::Stopping(Then::Resume | Then::Again), Then::Again | Then::Destroy(_)) => {
            turn.stop_agent(then)
        }
        (Phase::Work, _) if now.state.is_agents() => turn.stop_agent(then),
        (Phase::Work | Phase::Leaving | Phase::Off | Phase::Admission | Phase::On, _) => follow(turn, &then),
    }
}

/// What was to follow an orderly end of the agent's writing, whether that came or not.
pub(super) fn follow(turn: &mut Turn<'_>, then: &Then) {
    match then {
        Then::Resume => turn.hard_reboot(),
        Then::Again => turn.start_again(),
        Then::Destroy(cause) => turn.destroy(cause.clone()),
    }
}

fn in_release(turn: &mut Turn<'_>, request: &Request) {
    match request {
        Request::HardReboot => turn.hard_reboot(),
        Request::Deploy(_) | Request::DeployAgain | Request::Retire => turn.refuse(Refusal::BeingDestroyed),
        Request::Cancel
        | Request::Destroy
        | Request::Test
        | Request::HoldExpired
        | Request::ReservationEnded => {}
    }
}

fn in_isolation(turn: &mut Turn<'_>, request: &Request) {
    match request {
        Request::Deploy(_)
        | Request::Cancel
        | Request::HardReboot
        | Request::DeployAgain
        | Request::Destroy
        | Request::Test
        | Request::Retire => turn.refuse(Refusal::BeingIsolated),
        Request::HoldExpired | Request::ReservationEnded => {}
    }
}

fn in_halt(turn: &mut Turn<'_>, request: &Request) {
    match request {
        Request::Cancel => turn.destroy(ending(CauseKind::Cancelled)),
        Request::Destroy => turn.destroy(ending(CauseKind::Destroyed)),
        Request::ReservationEnded => turn.destroy(ending(CauseKind::ReservationEnded)),
        Request::Deploy(_) | Request::HardReboot | Request::DeployAgain => turn.refuse(Refusal::BeingHalted),
        Request::Test => turn.refuse(Refusal::InUse),
        Request::Retire => turn.refuse(Refusal::StillUsed),
        Request::HoldExpired => {}
    }
}

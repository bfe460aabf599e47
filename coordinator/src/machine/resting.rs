//! What happens to a deployment in which nothing is outstanding. Only requests move it; whatever is
//! seen of its node comes late or from its user, and changes nothing.

use super::effect::Refusal;
use super::event::Request;
use super::turn::Turn;
use piseduce_protocol::cause::{Cause, CauseKind};

/// The ending that a request asks for, as a cause.
pub(super) fn ending(kind: CauseKind) -> Cause {
    Cause::new(kind, "")
}

/// `initialized`: the node is held, the form is open.
pub(super) fn open(turn: &mut Turn<'_>, request: &Request) {
    match request {
        Request::Deploy(form) => turn.start(form.clone()),
        Request::Cancel => turn.finish(ending(CauseKind::Cancelled)),
        Request::Destroy => turn.finish(ending(CauseKind::Destroyed)),
        Request::HoldExpired => turn.finish(ending(CauseKind::HoldExpired)),
        Request::ReservationEnded => turn.finish(ending(CauseKind::ReservationEnded)),
        Request::Test => turn.test(),
        Request::Retire => turn.refuse(Refusal::StillUsed),
        Request::HardReboot | Request::DeployAgain => turn.refuse(Refusal::NothingDeployed),
    }
}

/// `deployed`: the user has the node.
pub(super) fn deployed(turn: &mut Turn<'_>, request: &Request) {
    match request {
        Request::HardReboot => turn.hard_reboot(),
        Request::DeployAgain => turn.start_again(),
        Request::Destroy => turn.destroy(ending(CauseKind::Destroyed)),
        Request::ReservationEnded => turn.destroy(ending(CauseKind::ReservationEnded)),
        Request::Cancel => turn.refuse(Refusal::Deployed),
        Request::Deploy(_) => turn.refuse(Refusal::FormSent),
        Request::Test => turn.refuse(Refusal::InUse),
        Request::Retire => turn.refuse(Refusal::StillUsed),
        Request::HoldExpired => {}
    }
}

/// `lost` and `failed`: cause and registered state are kept.
pub(super) fn stopped(turn: &mut Turn<'_>, request: &Request) {
    match request {
        Request::HardReboot => turn.hard_reboot(),
        Request::DeployAgain => turn.start_again(),
        Request::Destroy => turn.destroy(ending(CauseKind::Destroyed)),
        Request::Cancel => turn.destroy(ending(CauseKind::Cancelled)),
        Request::ReservationEnded => turn.destroy(ending(CauseKind::ReservationEnded)),
        Request::Deploy(_) => turn.refuse(Refusal::FormSent),
        Request::Test => turn.refuse(Refusal::InUse),
        Request::Retire => turn.refuse(Refusal::StillUsed),
        Request::HoldExpired => {}
    }
}

/// `quarantined`: the node could not be released; only a test that it passes leads back.
pub(super) fn quarantined(turn: &mut Turn<'_>, request: &Request) {
    match request {
        Request::Test => turn.test(),
        // It is off, and nobody gets it any more.
        Request::Retire => turn.finish(ending(CauseKind::Retired)),
        Request::Deploy(_)
        | Request::Cancel
        | Request::HardReboot
        | Request::DeployAgain
        | Request::Destroy => turn.refuse(Refusal::Quarantined),
        Request::HoldExpired | Request::ReservationEnded => {}
    }
}

/// `ended`: the node is free and may already be somebody else's.
pub(super) fn ended(turn: &mut Turn<'_>, request: &Request) {
    match request {
        Request::Deploy(_)
        | Request::Cancel
        | Request::HardReboot
        | Request::DeployAgain
        | Request::Destroy
        | Request::Test
        | Request::Retire => turn.refuse(Refusal::Ended),
        Request::HoldExpired | Request::ReservationEnded => {}
    }
}

//! What happens while power is switched, or was gone: off, admission, on, and what a switch says of them. The work that a
//! state does by itself is in [`super::seen`].

use super::event::{Powered, Sign};
use super::evidence;
use super::requested::follow;
use super::seen::work;
use super::turn::Turn;
use crate::domain::deployment::{Active, Phase, Purpose};
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::state::State;

/// Power was gone and is back. Nobody pays for that from the budget, and whatever ran on the node is gone.
pub(super) fn power_failure(turn: &mut Turn<'_>, now: &Active) {
    match &now.phase {
        Phase::Stopping(then) => follow(turn, then),
        Phase::Leaving => by_power(turn),
        // What the switch was asked for may be forgotten.
        Phase::Off => turn.ask_again(),
        // The switch may have turned it on before its turn: then it asked too early, and was told to idle.
        Phase::Admission | Phase::On => turn.hard_reboot(),
        Phase::Work => match now.state {
            // Ours to do, and the node's next boot is prepared by it.
            State::NfsBootConf | State::EnvBootConf => {}
            _ => turn.hard_reboot(),
        },
    }
}

/// The agent does not leave the boot root: power brings the node to its card.
pub(super) fn by_power(turn: &mut Turn<'_>) {
    turn.deployment().kernel = None;
    turn.phase(Phase::Off);
}

pub(super) fn off(turn: &mut Turn<'_>, sign: &Sign, now: &Active) {
    match sign {
        Sign::Power(seq, powered) if turn.is_current(*seq) => match powered {
            Powered::Off => {
                evidence::was_off(turn, now);
                is_off(turn, now);
            }
            Powered::Failed(cause) => power_failed(turn, now, cause),
            Powered::On => {}
        },
        Sign::Power(..)
        | Sign::ViewServed(_)
        | Sign::BootAsked(_)
        | Sign::CardAnswers
        | Sign::Admitted
        | Sign::StaleAgent
        | Sign::TokenFetched(_)
        | Sign::TokenElsewhere(..)
        | Sign::PortShown(..)
        | Sign::Agent(_)
        | Sign::FirstBoot(..) => {}
    }
}

fn is_off(turn: &mut Turn<'_>, now: &Active) {
    match &now.purpose {
        Purpose::Deploy if now.state == State::EnvBoot => turn.phase(Phase::Admission),
        Purpose::Destroy(cause) if now.state == State::TurnOff => turn.finish(cause.clone()),
        Purpose::Test if now.state == State::TurnOff => turn.finish(Cause::new(CauseKind::Tested, "")),
        Purpose::Deploy | Purpose::Destroy(_) | Purpose::Test => turn.enter_next(now.state),
        Purpose::Reboot => turn.turn_on(),
        Purpose::Halt(cause) => turn.fail(cause.clone()),
        Purpose::Isolate(cause) => turn.quarantine(cause.clone()),
    }
}

pub(super) fn power_failed(turn: &mut Turn<'_>, now: &Active, cause: &Cause) {
    match &now.purpose {
        // Cutting more would cut off more strangers.
        Purpose::Deploy | Purpose::Destroy(_) | Purpose::Test | Purpose::Reboot
            if cause.is(CauseKind::WrongPort) || cause.is(CauseKind::PlaceUnknown) =>
        {
            turn.stop_here(cause.clone());
        }
        // Minutes went by without an answer already: doing it all again would not help, and neither would
        // another try at switching off.
        Purpose::Destroy(_) | Purpose::Test
            if cause.is(CauseKind::SwitchUnreachable) || now.state == State::TurnOff =>
        {
            turn.quarantine(cause.clone());
        }
        Purpose::Deploy if cause.is(CauseKind::SwitchUnreachable) => turn.give_up(cause.clone()),
        Purpose::Deploy | Purpose::Destroy(_) | Purpose::Test => turn.restart(cause.clone()),
        Purpose::Reboot => turn.give_up(cause.clone()),
        Purpose::Halt(grave) => turn.fail(grave.clone()),
        Purpose::Isolate(grave) => turn.quarantine(grave.clone()),
    }
}

pub(super) fn admission(turn: &mut Turn<'_>, sign: &Sign) {
    match sign {
        Sign::Admitted => turn.phase(Phase::On),
        Sign::StaleAgent => still_alive(turn),
        Sign::ViewServed(_)
        | Sign::TokenFetched(_)
        | Sign::TokenElsewhere(..)
        | Sign::PortShown(..)
        | Sign::BootAsked(_)
        | Sign::CardAnswers
        | Sign::Power(..)
        | Sign::Agent(_)
        | Sign::FirstBoot(..) => {}
    }
}

pub(super) fn on(turn: &mut Turn<'_>, sign: &Sign, now: &Active) {
    match sign {
        Sign::Power(seq, powered) if turn.is_current(*seq) => match powered {
            Powered::On => {
                evidence::was_on(turn, now);
                turn.phase(Phase::Work);
            }
            Powered::Failed(cause) => power_failed(turn, now, cause),
            Powered::Off => {}
        },
        // A fast node speaks before a slow switch has said that the port delivers.
        Sign::BootAsked(_) | Sign::Agent(_) | Sign::StaleAgent | Sign::FirstBoot(..) => {
            work(turn, sign, now.state);
        }
        // No token is given out before the port is known to be on.
        Sign::TokenFetched(_) | Sign::TokenElsewhere(..) | Sign::PortShown(..) => {}
        Sign::Power(..) | Sign::ViewServed(_) | Sign::Admitted | Sign::CardAnswers => {}
    }
}

/// The port was cut, and the node's agent lives on: somebody else is without power.
pub(super) fn still_alive(turn: &mut Turn<'_>) {
    if turn.live.deployment.state() == State::NfsBootOn {
        let seen = "the agent of the boot before still speaks, although the port was cut";
        turn.stop_here(Cause::new(CauseKind::WrongPort, seen));
    }
}

//! What happens when something is seen of a node while its deployment is under way: one function a
//! phase, and one a state for the phase in which the state's own work is done.

use super::event::{AgentSign, Asked, FirstBootSign, Sign};
use super::evidence;
use super::powered::{admission, by_power, off, on, power_failed, still_alive};
use super::requested::follow;
use super::turn::Turn;
use crate::domain::deployment::{Active, Evidence, Phase, Then};
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::id::{BootNumber, Ticket};
use piseduce_protocol::report::{KernelId, Outcome, Standing};
use piseduce_protocol::state::State;
use std::time::Duration;

/// The exit code by which `timeout` says that it ended a program.
const EXIT_OF_TIMEOUT: i32 = 124;

/// A command has reached its agent after this time; under a thousand agents at once it took 0.4 s.
const COMMAND_ARRIVES: Duration = Duration::from_secs(2);

/// A sign while something is under way.
pub(super) fn active(turn: &mut Turn<'_>, sign: &Sign, now: &Active) {
    // Whatever is under way: others know this boot's token.
    if let Sign::TokenElsewhere(boot, address) = sign {
        return evidence::token_elsewhere(turn, *boot, *address);
    }
    if let Sign::PortShown(seq, proof) = sign {
        return evidence::port_shown(turn, *seq, *proof);
    }
    match &now.phase {
        Phase::Stopping(then) => stopping(turn, sign, then),
        Phase::Leaving => leaving(turn, sign),
        Phase::Off => off(turn, sign, now),
        Phase::Admission => admission(turn, sign),
        Phase::On => on(turn, sign, now),
        Phase::Work => work(turn, sign, now.state),
    }
}

/// Time went by while something is under way.
pub(super) fn tick(turn: &mut Turn<'_>, now: &Active) {
    let in_phase = turn.live.clocks.in_phase;
    match &now.phase {
        Phase::Stopping(then) if in_phase >= turn.policy.stop_max => follow(turn, then),
        Phase::Leaving if in_phase >= turn.policy.leave_max => by_power(turn),
        Phase::Off | Phase::On if in_phase >= turn.policy.power_max => {
            let seen = format!("no answer for {} s", in_phase.as_secs());
            power_failed(turn, now, &Cause::new(CauseKind::SwitchUnreachable, seen));
        }
        Phase::Work => turn.check_limits(),
        Phase::Stopping(_) | Phase::Leaving | Phase::Off | Phase::On | Phase::Admission => {}
    }
}

fn stopping(turn: &mut Turn<'_>, sign: &Sign, then: &Then) {
    match sign {
        Sign::Agent(AgentSign::Answer(answer)) if answer.ticket == turn.live.deployment.ticket() => {
            match answer.outcome {
                Outcome::Done(_) | Outcome::Failed(_) | Outcome::Refused(_) => stopped(turn, then),
                Outcome::Started | Outcome::Progress(_) => {}
            }
        }
        // The node is rebooting by itself: nothing is left to wait for.
        Sign::BootAsked(_) => follow(turn, then),
        Sign::Agent(AgentSign::Hello { boot, kernel, .. }) => heard_again(turn, *boot, kernel),
        Sign::Agent(AgentSign::Answer(_) | AgentSign::Beat { .. })
        | Sign::ViewServed(_)
        | Sign::Admitted
        | Sign::StaleAgent
        | Sign::TokenFetched(_)
        | Sign::TokenElsewhere(..)
        | Sign::PortShown(..)
        | Sign::CardAnswers
        | Sign::Power(..)
        | Sign::FirstBoot(..) => {}
    }
}

/// The agent has stopped and is there.
fn stopped(turn: &mut Turn<'_>, then: &Then) {
    match then {
        Then::Destroy(cause) => turn.destroy_here(cause.clone()),
        Then::Resume | Then::Again => follow(turn, then),
    }
}

fn leaving(turn: &mut Turn<'_>, sign: &Sign) {
    match sign {
        Sign::Agent(AgentSign::Answer(answer)) if answer.ticket == turn.live.deployment.ticket() => {
            match answer.outcome {
                Outcome::Done(_) => turn.phase(Phase::Work),
                Outcome::Failed(_) | Outcome::Refused(_) => by_power(turn),
                Outcome::Started | Outcome::Progress(_) => {}
            }
        }
        Sign::Agent(AgentSign::Hello { boot, kernel, .. }) => heard_again(turn, *boot, kernel),
        Sign::BootAsked(_) => {
            turn.phase(Phase::Work);
            env_boot(turn, sign);
        }
        Sign::FirstBoot(run, _) if *run == turn.live.deployment.run => env_boot(turn, sign),
        Sign::Agent(AgentSign::Answer(_) | AgentSign::Beat { .. })
        | Sign::ViewServed(_)
        | Sign::Admitted
        | Sign::StaleAgent
        | Sign::TokenFetched(_)
        | Sign::TokenElsewhere(..)
        | Sign::PortShown(..)
        | Sign::CardAnswers
        | Sign::Power(..)
        | Sign::FirstBoot(..) => {}
    }
}

pub(super) fn work(turn: &mut Turn<'_>, sign: &Sign, state: State) {
    match state {
        State::NfsBootConf | State::EnvBootConf => conf(turn, sign, state),
        State::NfsBootOn => nfs_boot_on(turn, sign),
        State::EnvCopy
        | State::EnvCheck
        | State::DeletePartition
        | State::CreatePartition
        | State::MountPartition
        | State::ResizePartition
        | State::WaitResizing
        | State::SystemConf
        | State::UserConf
        | State::Wipe => agent(turn, sign, state),
        State::EnvBoot => env_boot(turn, sign),
        State::UserScript => user_script(turn, sign),
        State::TurnOn => turn_on(turn, sign),
        // These have power phases only, or are not active at all.
        State::NfsBootOff
        | State::TurnOff
        | State::Initialized
        | State::Deployed
        | State::Lost
        | State::Failed
        | State::Quarantined
        | State::Ended => {}
    }
}

fn conf(turn: &mut Turn<'_>, sign: &Sign, state: State) {
    match sign {
        Sign::ViewServed(seq) if turn.is_current(*seq) => turn.enter_next(state),
        Sign::ViewServed(_)
        | Sign::BootAsked(_)
        | Sign::Admitted
        | Sign::StaleAgent
        | Sign::TokenFetched(_)
        | Sign::TokenElsewhere(..)
        | Sign::PortShown(..)
        | Sign::CardAnswers
        | Sign::Power(..)
        | Sign::Agent(_)
        | Sign::FirstBoot(..) => {}
    }
}

/// The firmware asked; that is progress the first time, and as long as it asks for something new.
fn asked(turn: &mut Turn<'_>, asked: Asked) {
    let before = turn.live.clocks.asked;
    // A kernel that is fetched again and again crashes.
    if asked == Asked::New || before < Some(asked) {
        turn.progress();
    }
    turn.live.clocks.asked = before.max(Some(asked));
}

fn nfs_boot_on(turn: &mut Turn<'_>, sign: &Sign) {
    match sign {
        Sign::BootAsked(how_far) => asked(turn, *how_far),
        // It got no answer from us, or does not ask: a power cycle helps in the one case, and tells in the other.
        Sign::CardAnswers if !turn.live.clocks.asked_for_files() => {
            let seen = "the system on the card answers, and the firmware asked for no file";
            turn.restart(Cause::new(CauseKind::BootsCardFirst, seen));
        }
        Sign::TokenFetched(holder) => evidence::token_fetched(turn, *holder),
        Sign::Agent(AgentSign::Hello { boot, kernel, objection, card })
            if *boot == turn.live.deployment.boot =>
        {
            if !evidence::agent_spoke(turn, card) {
                return;
            }
            turn.deployment().kernel = Some(kernel.clone());
            match objection {
                // Nothing was written: the node still comes back.
                Some(cause) => turn.fail(cause.clone()),
                None => turn.enter_after_hello(),
            }
        }
        Sign::StaleAgent => still_alive(turn),
        Sign::Agent(_)
        | Sign::TokenElsewhere(..)
        | Sign::PortShown(..)
        | Sign::CardAnswers
        | Sign::ViewServed(_)
        | Sign::Admitted
        | Sign::Power(..)
        | Sign::FirstBoot(..) => {}
    }
}

/// A hello in a boot that said hello before: the agent restarted and knows nothing, or a second kernel
/// has the same credentials.
fn heard_again(turn: &mut Turn<'_>, boot: BootNumber, kernel: &KernelId) {
    if boot != turn.live.deployment.boot {
        return;
    }
    match turn.live.deployment.kernel.as_ref() {
        Some(known) if known != kernel => {
            let seen = format!("kernels {} and {} in boot {boot}", known.0, kernel.0);
            turn.halt(Cause::new(CauseKind::IdentityConflict, seen));
        }
        Some(_) | None => turn.ask_again(),
    }
}

fn agent(turn: &mut Turn<'_>, sign: &Sign, state: State) {
    match sign {
        Sign::Agent(AgentSign::Answer(answer)) if answer.ticket == turn.live.deployment.ticket() => {
            answered(turn, &answer.outcome, state);
        }
        Sign::Agent(AgentSign::Hello { boot, kernel, .. }) => heard_again(turn, *boot, kernel),
        Sign::Agent(AgentSign::Beat { boot, last, card_busy }) if *boot == turn.live.deployment.boot => {
            beat(turn, *last, *card_busy);
        }
        Sign::BootAsked(_) => {
            let seen = format!("the firmware asked what to boot in {state}");
            turn.restart(Cause::new(CauseKind::UnexpectedReboot, seen));
        }
        Sign::Agent(AgentSign::Answer(_) | AgentSign::Beat { .. })
        | Sign::ViewServed(_)
        | Sign::Admitted
        | Sign::StaleAgent
        | Sign::TokenFetched(_)
        | Sign::TokenElsewhere(..)
        | Sign::PortShown(..)
        | Sign::CardAnswers
        | Sign::Power(..)
        | Sign::FirstBoot(..) => {}
    }
}

fn answered(turn: &mut Turn<'_>, outcome: &Outcome, state: State) {
    match outcome {
        Outcome::Progress(progress) => turn.reached(progress.done),
        Outcome::Done(_) if state == State::Wipe => turn.wiped(),
        Outcome::Done(_) => turn.enter_next(state),
        Outcome::Failed(cause)
            if cause.is(CauseKind::HashMismatch) || cause.is(CauseKind::FilesystemBroken) =>
        {
            turn.send_back(cause.clone());
        }
        Outcome::Failed(cause) if cause.is(CauseKind::ImageUnreachable) => turn.repeat(state, cause.clone()),
        Outcome::Failed(cause) => turn.fail(cause.clone()),
        Outcome::Started | Outcome::Refused(_) => {}
    }
}

fn beat(turn: &mut Turn<'_>, last: Option<(Ticket, Standing)>, card_busy: bool) {
    use super::table::Limit;
    turn.live.clocks.last_beat = Some(turn.moment.at);
    if card_busy && turn.live.limit() == Limit::BusyCard {
        turn.live.clocks.idle = Duration::ZERO;
    }
    let ticket = turn.live.deployment.ticket();
    match last {
        Some((known, Standing::Working)) if known == ticket => {}
        // A command that was just given crosses the beats that were sent before it came.
        Some(_) | None if turn.moment.at.since(turn.live.clocks.phase_began) < COMMAND_ARRIVES => {}
        // It never got the command, or its answer got lost: the same command brings the same answer.
        Some(_) | None => turn.ask_again(),
    }
}

fn env_boot(turn: &mut Turn<'_>, sign: &Sign) {
    match sign {
        Sign::BootAsked(how_far) => {
            asked(turn, *how_far);
            if how_far.is_for_files() && !reports(turn) {
                turn.deployed(Evidence::Unproven);
            }
        }
        Sign::FirstBoot(run, first_boot) if *run == turn.live.deployment.run => {
            turn.enter(State::UserScript);
            script(turn, *first_boot);
        }
        Sign::FirstBoot(..)
        | Sign::Agent(_)
        | Sign::StaleAgent
        | Sign::TokenFetched(_)
        | Sign::TokenElsewhere(..)
        | Sign::PortShown(..)
        | Sign::CardAnswers
        | Sign::ViewServed(_)
        | Sign::Admitted
        | Sign::Power(..) => {}
    }
}

fn user_script(turn: &mut Turn<'_>, sign: &Sign) {
    match sign {
        Sign::FirstBoot(run, first_boot) if *run == turn.live.deployment.run => script(turn, *first_boot),
        Sign::FirstBoot(..)
        | Sign::BootAsked(_)
        | Sign::Agent(_)
        | Sign::StaleAgent
        | Sign::TokenFetched(_)
        | Sign::TokenElsewhere(..)
        | Sign::PortShown(..)
        | Sign::CardAnswers
        | Sign::ViewServed(_)
        | Sign::Admitted
        | Sign::Power(..) => {}
    }
}

fn script(turn: &mut Turn<'_>, sign: FirstBootSign) {
    match sign {
        FirstBootSign::Booted => {}
        FirstBootSign::ScriptStarted => {
            if !turn.live.deployment.script_started {
                turn.deployment().script_started = true;
                turn.progress();
            }
        }
        FirstBootSign::ScriptEnded(0) => turn.deployed(Evidence::OwnWord),
        FirstBootSign::ScriptEnded(EXIT_OF_TIMEOUT) => {
            turn.fail(Cause::new(CauseKind::ScriptTimeout, "its time limit ended it"));
        }
        FirstBootSign::ScriptEnded(code) => {
            turn.fail(Cause::new(CauseKind::ScriptFailed, format!("exit code {code}")));
        }
        FirstBootSign::ScriptInterrupted if turn.live.deployment.script_started => {
            turn.fail(Cause::new(CauseKind::ScriptRebooted, "the node booted again while the script ran"));
        }
        FirstBootSign::ScriptInterrupted => {
            turn.fail(Cause::new(
                CauseKind::ScriptInterrupted,
                "the node was powered off while the script ran",
            ));
        }
    }
}

fn turn_on(turn: &mut Turn<'_>, sign: &Sign) {
    match sign {
        Sign::BootAsked(how_far) => {
            asked(turn, *how_far);
            if how_far.is_for_files() && !reports(turn) {
                turn.deployed(Evidence::Unproven);
            }
        }
        Sign::FirstBoot(run, FirstBootSign::Booted) if *run == turn.live.deployment.run => {
            turn.deployed(Evidence::OwnWord);
        }
        Sign::FirstBoot(..)
        | Sign::Agent(_)
        | Sign::StaleAgent
        | Sign::TokenFetched(_)
        | Sign::TokenElsewhere(..)
        | Sign::PortShown(..)
        | Sign::CardAnswers
        | Sign::ViewServed(_)
        | Sign::Admitted
        | Sign::Power(..) => {}
    }
}

fn reports(turn: &Turn<'_>) -> bool {
    turn.live.deployment.form.as_ref().is_some_and(|form| form.reports)
}

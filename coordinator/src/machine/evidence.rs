//! What is learned of a boot beside its agent's word, and what a token in the wrong hands means. See
//! [`crate::domain::boot_evidence`] for the facts, [`super::release`] for what rests on them.

use super::turn::Turn;
use crate::domain::boot_evidence::{AgentWitness, CardSighting, PortProof, PortWitness, TokenHolder};
use crate::domain::deployment::Active;
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::id::{BootNumber, Seq};
use piseduce_protocol::state::State;
use std::net::IpAddr;

/// A power job tells what its port showed. Kept until the job's end says how it went.
pub(super) fn port_shown(turn: &mut Turn<'_>, seq: Seq, proof: PortProof) {
    if turn.is_current(seq) {
        turn.live.clocks.port = Some(proof);
    }
}

fn witness(turn: &Turn<'_>) -> PortWitness {
    turn.live.clocks.port.map_or(PortWitness::Switch, |proof| proof.witness)
}

/// The port is off.
pub(super) fn was_off(turn: &mut Turn<'_>, now: &Active) {
    let (witness, place) = (witness(turn), turn.live.clocks.port.map(|proof| proof.place));
    let evidence = &mut turn.deployment().boot_evidence;
    match now.state {
        State::NfsBootOff => evidence.off = Some(witness),
        // Before this cut the node was at work, and its switch has seen where.
        State::TurnOff if now.purpose.is_release() => evidence.place = place,
        _ => {}
    }
}

/// The port is on.
pub(super) fn was_on(turn: &mut Turn<'_>, now: &Active) {
    if now.state == State::NfsBootOn {
        turn.deployment().boot_evidence.on = Some(witness(turn));
    }
}

/// The node's own firmware asks for its token. The first address of a boot keeps it.
pub(super) fn token_fetched(turn: &mut Turn<'_>, holder: TokenHolder) {
    let deployment = turn.deployment();
    if holder.boot == deployment.boot && deployment.token_address().is_none() {
        deployment.token = Some(holder);
        deployment.boot_evidence.firmware = Some(holder.address);
    }
}

/// Somebody else has this boot's token: whatever it is used for from now on proves nothing.
pub(super) fn token_elsewhere(turn: &mut Turn<'_>, boot: BootNumber, address: IpAddr) {
    let deployment = &turn.live.deployment;
    if deployment.live_boot() != Some(boot) {
        return;
    }
    let seen = match deployment.token_address() {
        Some(holder) => format!("the token of boot {boot} was fetched at {holder} and shown at {address}"),
        None => format!("the token of boot {boot} was shown at {address} before anybody fetched it"),
    };
    turn.halt(Cause::new(CauseKind::IdentityConflict, seen));
}

/// An agent says hello, by the credentials of this boot. Whether that may be believed: a token that was given to nobody
/// is no node's.
pub(super) fn agent_spoke(turn: &mut Turn<'_>, card: &CardSighting) -> bool {
    let boot = turn.live.deployment.boot;
    if turn.live.deployment.token_address().is_none() {
        let seen = format!("an agent spoke in boot {boot}, whose token nobody fetched");
        turn.halt(Cause::new(CauseKind::IdentityConflict, seen));
        return false;
    }
    let witness = match turn.policy.broker_checks_addresses {
        true => AgentWitness::Broker,
        false => AgentWitness::Nobody,
    };
    let evidence = &mut turn.deployment().boot_evidence;
    (evidence.agent, evidence.card) = (Some(witness), Some(card.clone()));
    true
}

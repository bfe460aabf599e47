//! Domain values as the JSON of the API, by hand.

use super::Shared;
use crate::api::{DeploymentView, EnvironmentView, JournalEntry, NodeView, OwesView, ReservationView};
use crate::clock::UnixMs;
use crate::domain::deployment::{Deployment, Evidence};
use crate::domain::environment::Environment;
use crate::domain::reservation::Reservation;
use crate::runner::NodeView as Known;
use crate::store::{Entry, StoredDeployment};
use piseduce_protocol::state::State;
use piseduce_protocol::status::DeploymentStatus;

pub(super) fn node(known: &Known) -> NodeView {
    let attributes = &known.node.attributes;
    let status = known.status();
    NodeView {
        name: attributes.name.clone(),
        serial: attributes.serial,
        mac: attributes.mac.clone(),
        model: attributes.model.clone(),
        switch: attributes.switch.clone(),
        port: attributes.port.clone(),
        power: known.powered,
        owes: known
            .node
            .owes
            .as_ref()
            .map(|owes| OwesView { wipe: owes.wipe, used_by: owes.used_by.clone() }),
        until_unix_ms: known.deployment.as_ref().map(|deployment| deployment.until.0),
        deployment: status.deployment,
    }
}

/// A deployment as stored, with what only the runner knows of a live one.
pub(super) fn deployment(shared: &Shared, stored: &StoredDeployment) -> DeploymentView {
    let live = shared.board.by_deployment(stored.deployment.id);
    let status = live.and_then(|known| known.status().deployment).unwrap_or_else(|| status(stored));
    let now = &stored.deployment;
    let keyed = now.form.as_ref().filter(|form| form.reports && now.registered >= State::SystemConf);
    let host_key = keyed.map(|_| shared.credentials.host_key(now.id, now.run));
    DeploymentView {
        node: stored.node.attributes.name.clone(),
        status,
        registered: now.registered,
        restarts: now.restarts,
        evidence: now.evidence.map(Evidence::name).map(Into::into),
        until_unix_ms: stored.until.0,
        known_hosts: host_key
            .as_ref()
            .map(|(key, _)| format!("{} {}", stored.node.attributes.name, key.public)),
        fingerprint: host_key.map(|(_, fingerprint)| fingerprint),
    }
}

fn status(stored: &StoredDeployment) -> DeploymentStatus {
    let now: &Deployment = &stored.deployment;
    DeploymentStatus {
        id: now.id,
        run: now.run,
        process: now.process(),
        state: now.state(),
        since_unix_ms: stored.since.0,
        waiting: None,
        cause: now.cause().cloned(),
        progress: None,
        environment: now.form.as_ref().map(|form| form.environment.clone()),
        owner: stored.owner.clone(),
    }
}

pub(super) fn entry(entry: Entry) -> JournalEntry {
    JournalEntry {
        id: entry.id.0,
        unix_ms: entry.at.0,
        actor: entry.actor,
        run: entry.run,
        process: entry.process,
        state: entry.state,
        phase: entry.phase,
        cause: entry.cause,
        detail: entry.detail,
    }
}

pub(super) fn environment(environment: Environment) -> EnvironmentView {
    let UnixMs(added_unix_ms) = environment.added;
    EnvironmentView {
        name: environment.name,
        manifest: environment.manifest,
        image_bytes: environment.image_bytes,
        family: environment.family,
        family_evidence: environment.family_evidence,
        architecture: environment.architecture,
        added_unix_ms,
    }
}

pub(super) fn reservation(reservation: Reservation) -> ReservationView {
    ReservationView {
        id: reservation.id.0,
        owner: reservation.owner,
        until_unix_ms: reservation.until.0,
        nodes: reservation.nodes,
    }
}

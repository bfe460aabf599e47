//! Domain values as the JSON of the API, by hand.

mod switches;

pub(super) use switches::{detected, port, supply, switch};

use super::Shared;
use crate::api::{
    AgentLineView, AgentView, ConsoleEndView, ConsoleView, DeploymentView, EnvironmentView, EvidenceView,
    FormView, ImageView, JournalEntry, NodeEntry, NodeView, OutOfServiceView, OwesView, PartitionView,
    ReservationView, ScriptView,
};
use crate::clock::UnixMs;
use crate::console::Console;
use crate::domain::boot_evidence::{BootEvidence, Piece};
use crate::domain::deployment::{Deployment, Evidence, Form};
use crate::domain::environment::Environment;
use crate::domain::node::{NodeAttributes, OutOfService};
use crate::domain::reservation::Reservation;
use crate::runner::NodeView as Known;
use crate::store::{AgentHello, AgentLine, ConsoleEnd, Entry, ScriptOutput, StoredDeployment};
use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::{Manifest, Partition};
use piseduce_protocol::state::State;
use piseduce_protocol::status::DeploymentStatus;

pub(super) fn node(shared: &Shared, known: &Known) -> NodeView {
    let attributes = &known.node.attributes;
    let status = known.status();
    NodeView {
        name: attributes.name.clone(),
        serial: attributes.serial,
        mac: attributes.mac.clone(),
        ip: attributes.ip,
        model: attributes.model.clone(),
        switch: attributes.switch.clone(),
        port: attributes.port.clone(),
        power: known.powered,
        alarm: known.alarm.clone(),
        owes: known
            .node
            .owes
            .as_ref()
            .map(|owes| OwesView { wipe: owes.wipe, used_by: owes.used_by.clone() }),
        console: shared.consoles.get(&attributes.name).as_ref().map(console),
        until_unix_ms: known.deployment.as_ref().map(|deployment| deployment.until.0),
        deployment: status.deployment,
        labels: attributes.labels.clone(),
        out_of_service: known.node.out.as_ref().map(out_of_service),
    }
}

fn out_of_service(out: &OutOfService) -> OutOfServiceView {
    OutOfServiceView { reason: out.reason.clone(), by: out.by.clone(), since_unix_ms: out.since.0 }
}

fn console(console: &Console) -> ConsoleView {
    let settings = console.settings();
    ConsoleView {
        device: settings.device.clone(),
        speed: settings.speed,
        write: settings.write,
        trouble: console.trouble().map(|trouble| trouble.to_string()),
    }
}

/// A deployment as stored, with what only the runner knows of a live one.
pub(super) fn deployment(shared: &Shared, stored: &StoredDeployment) -> DeploymentView {
    let live = shared.board.by_deployment(stored.deployment.id);
    let status = live.and_then(|known| known.status().deployment).unwrap_or_else(|| status(stored));
    let now = &stored.deployment;
    let keyed = now.form.as_ref().filter(|form| form.reports && now.registered >= State::SystemConf);
    // The key that the card got. It follows from the site key of that day, so only the store knows it.
    let host_key = keyed.and(stored.host_key.as_ref());
    DeploymentView {
        node: stored.node.attributes.name.clone(),
        status,
        registered: now.registered,
        restarts: now.restarts,
        evidence: now.evidence.map(Evidence::name).map(Into::into),
        boot_evidence: boot_evidence(&now.boot_evidence),
        until_unix_ms: stored.until.0,
        known_hosts: host_key.map(|key| format!("{} {key}", stored.node.attributes.name)),
        fingerprint: host_key.map(|key| fingerprint(key)),
    }
}

fn boot_evidence(evidence: &BootEvidence) -> Vec<EvidenceView> {
    if *evidence == BootEvidence::default() {
        return vec![];
    }
    let view = |Piece { name, standing, seen }| EvidenceView {
        name: str::to_owned(name),
        standing: standing.name().into(),
        seen,
    };
    evidence.pieces().into_iter().map(view).collect()
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

/// An environment as the API shows it.
pub fn environment(environment: Environment) -> EnvironmentView {
    let UnixMs(added_unix_ms) = environment.added;
    EnvironmentView {
        name: environment.name,
        manifest: environment.manifest,
        image_bytes: environment.image_bytes,
        family: environment.family,
        family_evidence: environment.family_evidence,
        architecture: environment.architecture,
        added_unix_ms,
        image: None,
    }
}

pub(super) fn image(manifest: &Manifest) -> ImageView {
    let sizes = manifest.sizes();
    let partition = |partition: &Partition| PartitionView {
        number: partition.number,
        start: partition.start,
        bytes: partition.bytes,
        file_system: partition.file_system.to_string(),
        label: partition.label.clone(),
        is_boot: manifest.boot == Some(partition.number),
        is_root: manifest.root == Some(partition.number),
    };
    ImageView {
        image_bytes: manifest.image_bytes,
        family: manifest.family.clone(),
        family_evidence: manifest.family_evidence.clone(),
        architecture: manifest.architecture.clone(),
        defined_bytes: sizes.defined,
        stored_bytes: sizes.stored,
        partitions: manifest.partitions.iter().map(partition).collect(),
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

pub(super) fn attributes(attributes: NodeAttributes) -> NodeEntry {
    NodeEntry {
        name: attributes.name,
        serial: attributes.serial,
        mac: attributes.mac,
        model: attributes.model,
        switch: attributes.switch,
        port: attributes.port,
        watts: attributes.watts,
        ip: attributes.ip,
        console: attributes.console,
        labels: attributes.labels,
    }
}

/// An SSH key as `ssh` shows it.
fn fingerprint(key: &str) -> String {
    match ssh_key::PublicKey::from_openssh(key) {
        Ok(key) => key.fingerprint(ssh_key::HashAlg::Sha256).to_string(),
        // Keys are checked when a form is sent; whatever else got in is not shown.
        Err(_) => "not a key".into(),
    }
}

/// A form without password and keys; with the script only for who asked for it.
pub(super) fn form(form: &Form, with_script: bool) -> FormView {
    let script = form.script.as_ref();
    FormView {
        environment: form.environment.clone(),
        manifest: form.manifest,
        reports: form.reports,
        part_size: form.part_size,
        has_password: form.password_hash.is_some(),
        ssh_keys: form.ssh_keys.iter().map(|key| fingerprint(key)).collect(),
        script_bytes: script.map(Vec::len),
        script_hash: script.map(|script| Hash::of(script)),
        script: script.filter(|_| with_script).map(|script| String::from_utf8_lossy(script).into_owned()),
        rerun_script: form.rerun_script,
        script_seconds: form.script_seconds,
    }
}

pub(super) fn agent_line(line: AgentLine) -> AgentLineView {
    AgentLineView { id: line.id, boot: line.boot, unix_ms: line.at.0, text: line.text }
}

pub(super) fn agent(hello: AgentHello) -> AgentView {
    // What is stored was made from a value; were it damaged, the text would still tell something.
    let words = serde_json::from_str(&hello.hello).unwrap_or(serde_json::Value::String(hello.hello));
    AgentView { run: hello.run, boot: hello.boot, unix_ms: hello.at.0, hello: words }
}

pub(super) fn console_end(end: &ConsoleEnd) -> ConsoleEndView {
    ConsoleEndView { text: String::from_utf8_lossy(&end.said).into_owned(), unix_ms: end.at.0 }
}

pub(super) fn script(output: &ScriptOutput) -> ScriptView {
    ScriptView {
        exit_code: output.exit_code,
        output: String::from_utf8_lossy(&output.output).into_owned(),
        unix_ms: output.at.0,
    }
}

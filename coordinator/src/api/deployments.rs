//! Deployments: what is asked for, how it stands, and everything that is known of it.

use super::{ImageView, NodeEntry};
use piseduce_protocol::cause::Cause;
use piseduce_protocol::command::PartSize;
use piseduce_protocol::id::{BootNumber, DeploymentId, Hash, Run};
use piseduce_protocol::state::{Process, State};
use piseduce_protocol::status::DeploymentStatus;
use serde::{Deserialize, Serialize};

/// Asks to deploy an environment on nodes that the user holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The nodes' names.
    pub nodes: Vec<String>,
    /// The environment's name.
    pub environment: String,
    /// Lines of `authorized_keys`.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// The user's password as `crypt(3)` writes it.
    #[serde(default)]
    pub password_hash: Option<String>,
    /// The user's script.
    #[serde(default)]
    pub script: Option<String>,
    /// Whether the script may run again after a cut inside it.
    #[serde(default)]
    pub rerun_script: bool,
    /// How long the script may take, in seconds.
    #[serde(default)]
    pub script_seconds: Option<u32>,
    /// How large the root partition becomes: `whole` or a size such as `8G`.
    #[serde(default)]
    pub part_size: Option<PartSize>,
}

/// A deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeploymentView {
    /// The node's name.
    pub node: String,
    /// Where it is.
    #[serde(flatten)]
    pub status: DeploymentStatus,
    /// The furthest state of this run.
    pub registered: State,
    /// Restarts spent in this run.
    pub restarts: u32,
    /// What `deployed` rests on.
    pub evidence: Option<String>,
    /// What was seen of the last boot of the boot root; a release rests on it. Empty before the first.
    #[serde(default)]
    pub boot_evidence: Vec<EvidenceView>,
    /// When the reservation ends.
    pub until_unix_ms: u64,
    /// The node's SSH host key in this run, as a line of `known_hosts`.
    pub known_hosts: Option<String>,
    /// That key's fingerprint.
    pub fingerprint: Option<String>,
}

/// One piece of what was seen of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceView {
    /// `port_off`, `port_on`, `firmware`, `agent`, `card` or `place`.
    pub name: String,
    /// `seen`, `missing`, `changed`, or `cannot_tell` where this site has nothing that could show it.
    pub standing: String,
    /// What was seen, in words.
    pub seen: String,
}

/// A deployment with everything that happened to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeploymentHistory {
    /// The deployment.
    #[serde(flatten)]
    pub deployment: DeploymentView,
    /// What happened, in order.
    pub journal: Vec<JournalEntry>,
    /// The exit code of this run's script.
    pub exit_code: Option<i32>,
    /// The end of the script's output.
    pub output: Option<String>,
}

/// One entry of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Its number.
    pub id: u64,
    /// When.
    pub unix_ms: u64,
    /// Who.
    pub actor: String,
    /// The run.
    pub run: Run,
    /// The process.
    pub process: Process,
    /// The state.
    pub state: State,
    /// The phase of that state.
    pub phase: Option<String>,
    /// Why.
    pub cause: Option<Cause>,
    /// What else there is to say.
    pub detail: Option<String>,
}

/// What can be read about one run of a deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogsView {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The node's name.
    pub node: String,
    /// The run.
    pub run: Run,
    /// The run that the deployment is in now.
    pub present_run: Run,
    /// Where the deployment is now.
    pub state: State,
    /// What happened, in order.
    pub journal: Vec<JournalEntry>,
    /// The agent's own log, in order.
    pub agent: Vec<AgentLineView>,
    /// What the run's script left behind.
    pub script: Option<ScriptView>,
    /// The end of the node's console when the run came to a bad end.
    #[serde(default)]
    pub console: Option<ConsoleEndView>,
}

/// The end of a node's console, without the secrets of its boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsoleEndView {
    /// What was said.
    pub text: String,
    /// Until when.
    pub unix_ms: u64,
}

/// One line of an agent's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentLineView {
    /// Its number; grows with the time at which it was told.
    pub id: u64,
    /// The boot of the boot root that it is of.
    pub boot: BootNumber,
    /// When it was logged.
    pub unix_ms: u64,
    /// The line.
    pub text: String,
}

/// What a script left behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScriptView {
    /// The exit code.
    pub exit_code: i32,
    /// The end of its output.
    pub output: String,
    /// When it was reported.
    pub unix_ms: u64,
}

/// Everything that is known of a deployment, in one document and without secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeploymentExport {
    /// The version of this document; fields are only ever added.
    pub schema: u32,
    /// When it was made.
    pub exported_unix_ms: u64,
    /// The coordinator's version.
    pub coordinator: String,
    /// The node.
    pub node: NodeEntry,
    /// The deployment as it is now.
    pub deployment: DeploymentView,
    /// What the user asked for; none while the form is open.
    pub form: Option<FormView>,
    /// The image, while it is there.
    pub image: Option<ImageView>,
    /// What happened, in order.
    pub journal: Vec<JournalEntry>,
    /// The causes among that, in order.
    pub causes: Vec<JournalEntry>,
    /// What each agent said of itself when it came up: its version, the card, the bootloader's settings.
    pub agents: Vec<AgentView>,
    /// What was logged and printed, by run.
    pub runs: Vec<RunView>,
}

/// A form without its secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FormView {
    /// The environment's name.
    pub environment: String,
    /// Its image.
    pub manifest: Hash,
    /// Whether the environment's family reports its first boot.
    pub reports: bool,
    /// How large the root partition becomes.
    pub part_size: PartSize,
    /// Whether a password was given.
    pub has_password: bool,
    /// The fingerprints of the SSH keys.
    pub ssh_keys: Vec<String>,
    /// The script's length in bytes, when there is one.
    pub script_bytes: Option<usize>,
    /// Its BLAKE3.
    pub script_hash: Option<Hash>,
    /// The script itself, when that was asked for.
    pub script: Option<String>,
    /// Whether the script may run again after a cut inside it.
    pub rerun_script: bool,
    /// How long the script may take, in seconds.
    pub script_seconds: u32,
}

/// What an agent said of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentView {
    /// The run.
    pub run: Run,
    /// The boot of the boot root.
    pub boot: BootNumber,
    /// When.
    pub unix_ms: u64,
    /// Its words, as it said them.
    pub hello: serde_json::Value,
}

/// One run's log and output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunView {
    /// The run.
    pub run: Run,
    /// The agent's own log, in order.
    pub agent: Vec<AgentLineView>,
    /// What the script left behind.
    pub script: Option<ScriptView>,
    /// The end of the node's console when the run came to a bad end.
    #[serde(default)]
    pub console: Option<ConsoleEndView>,
}

/// What was started on one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    /// The node's name.
    pub node: String,
    /// Its deployment.
    pub deployment: DeploymentId,
}

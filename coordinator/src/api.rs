//! The JSON of `/api/v1`: what the HTTP API gives and takes, and what the command line speaks.
//!
//! Fields are only ever added. Times are milliseconds since 1970 in fields that end in `unix_ms`.

use piseduce_protocol::cause::Cause;
use piseduce_protocol::command::{PartSize, Wipe};
use piseduce_protocol::id::{BootNumber, DeploymentId, Hash, Run, Serial};
use piseduce_protocol::state::{Process, State};
use piseduce_protocol::status::DeploymentStatus;
use serde::{Deserialize, Serialize};

/// What a refused request gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A stable word for programs.
    pub code: String,
    /// What is wrong, naming the thing.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// Asks to hold nodes from now on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReserveRequest {
    /// The nodes' names.
    pub nodes: Vec<String>,
    /// For how long, in seconds.
    pub seconds: u64,
}

/// A reservation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReservationView {
    /// Its number.
    pub id: u64,
    /// The user's name.
    pub owner: String,
    /// When it ends.
    pub until_unix_ms: u64,
    /// Its nodes' names.
    pub nodes: Vec<String>,
}

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

/// A node and its deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its serial number.
    pub serial: Serial,
    /// Its network address.
    pub mac: String,
    /// Its model.
    pub model: String,
    /// The switch that powers it.
    pub switch: String,
    /// The outlet there.
    pub port: String,
    /// Whether its port was last proven on or off.
    pub power: Option<bool>,
    /// The wipe that its card owes before another user's deployment.
    #[serde(default)]
    pub owes: Option<OwesView>,
    /// Its deployment; none when it is free.
    pub deployment: Option<DeploymentStatus>,
    /// Until when it is held.
    pub until_unix_ms: Option<u64>,
}

/// A wipe that was recorded and not carried out yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwesView {
    /// How thorough it is.
    pub wipe: Wipe,
    /// Whose content is on the card.
    pub used_by: String,
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
    /// When the reservation ends.
    pub until_unix_ms: u64,
    /// The node's SSH host key in this run, as a line of `known_hosts`.
    pub known_hosts: Option<String>,
    /// That key's fingerprint.
    pub fingerprint: Option<String>,
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
}

/// What was started on one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    /// The node's name.
    pub node: String,
    /// Its deployment.
    pub deployment: DeploymentId,
}

/// An environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvironmentView {
    /// Its name.
    pub name: String,
    /// Its image.
    pub manifest: Hash,
    /// The image's length in bytes.
    pub image_bytes: u64,
    /// How its system is configured; `opaque` is not.
    pub family: String,
    /// What the family was recognised by.
    pub family_evidence: String,
    /// The architecture of its programs, when known.
    pub architecture: Option<String>,
    /// When it was added.
    pub added_unix_ms: u64,
    /// What its image consists of; where one environment is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageView>,
}

/// An image, as its manifest describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageView {
    /// Its length in bytes.
    pub image_bytes: u64,
    /// How its system is configured; `opaque` is not.
    pub family: String,
    /// What the family was recognised by.
    pub family_evidence: String,
    /// The architecture of its programs, when known.
    pub architecture: Option<String>,
    /// How much of it is in use and is written to cards, in bytes.
    pub defined_bytes: u64,
    /// How much space that takes on the head node, in bytes.
    pub stored_bytes: u64,
    /// Its partitions in the order of their numbers.
    pub partitions: Vec<PartitionView>,
}

/// One partition of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartitionView {
    /// Its number.
    pub number: u8,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// What it holds: `fat`, `ext4` or `unknown`.
    pub file_system: String,
    /// The file system's label.
    pub label: Option<String>,
    /// Whether the firmware boots from it.
    pub is_boot: bool,
    /// Whether it becomes `/`.
    pub is_root: bool,
}

/// What was left of an environment that was removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemovedView {
    /// How many deployments keep its image until they end.
    pub kept_for_deployments: usize,
    /// Which environments have the same image.
    pub kept_for_environments: Vec<String>,
}

/// Switches and nodes to add or change by name; also the format of `piseduce node import`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// The switches.
    #[serde(default, rename = "switch")]
    pub switches: Vec<SwitchEntry>,
    /// The nodes.
    #[serde(default, rename = "node")]
    pub nodes: Vec<NodeEntry>,
}

/// A switch in an inventory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchEntry {
    /// Its name.
    pub name: String,
    /// How to speak to it: `command`.
    pub driver: DriverName,
    /// The program that switches its ports, with `{action}`, `{port}` and `{node}` in its words.
    #[serde(default)]
    pub argv: Vec<String>,
    /// How long a port stays off between off and on, in milliseconds.
    #[serde(default)]
    pub off_time_ms: Option<u64>,
}

/// The drivers by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverName {
    /// A program on the head node.
    Command,
}

/// A node in an inventory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeEntry {
    /// Its name; also its host name.
    pub name: String,
    /// The board's serial number, 16 hex digits.
    pub serial: Serial,
    /// The board's network address.
    pub mac: String,
    /// The model, such as `Raspberry Pi 4 Model B`.
    pub model: String,
    /// The switch that powers it, by name.
    pub switch: String,
    /// The outlet there.
    pub port: String,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ImportedView {
    /// New nodes.
    pub added: usize,
    /// Nodes with new attributes.
    pub changed: usize,
    /// Nodes that were as the import has them.
    pub unchanged: usize,
}

/// How the coordinator is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HealthView {
    /// Its version.
    pub version: String,
    /// What tells this start of it from every other.
    pub instance: String,
    /// How long it has been running.
    pub uptime_seconds: u64,
    /// Whether it is connected to the broker.
    pub broker_link: bool,
}

/// Who answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CoordinatorView {
    /// How it is.
    #[serde(flatten)]
    pub health: HealthView,
    /// Its site.
    pub site: String,
    /// The user whose token was shown.
    pub user: String,
    /// Why the head's clock is not believed: then no reservation begins or ends.
    #[serde(default)]
    pub clock: Option<String>,
}

//! The JSON that anyone with an MQTT client may read. Fields are only ever added; `schema` counts breaks.

use crate::cause::Cause;
use crate::id::{DeploymentId, Run, Serial};
use crate::report::Progress;
use crate::state::{Process, State};
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// The version of these views.
pub const SCHEMA: u32 = 1;

/// Retained on the status topic of each node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The number of the last journal entry about this node: the larger, the newer.
    pub journal: u64,
    /// The node's name.
    pub node: String,
    /// Its serial number.
    pub serial: Serial,
    /// Where its deployment is; none when the node is free.
    pub deployment: Option<DeploymentStatus>,
    /// Whether its port is on, when known.
    pub power: Option<bool>,
    /// Why nobody gets it, in an administrator's words, if so.
    #[serde(default)]
    pub out_of_service: Option<String>,
}

/// The deployment of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// Which deployment.
    pub id: DeploymentId,
    /// Its run.
    pub run: Run,
    /// What is being done.
    pub process: Process,
    /// Where it is.
    pub state: State,
    /// Since when it is there, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// What it waits for, in a clause.
    pub waiting: Option<String>,
    /// Why it stopped.
    pub cause: Option<Cause>,
    /// How far the work of this state is.
    pub progress: Option<Progress>,
    /// The environment's name.
    pub environment: Option<String>,
    /// The user's name.
    pub owner: String,
}

/// Published on the event topic at each change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEvent {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The number of the journal entry.
    pub journal: u64,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The node's name.
    pub node: String,
    /// Which deployment.
    pub deployment: DeploymentId,
    /// Its run.
    pub run: Run,
    /// What is being done.
    pub process: Process,
    /// The state it left; none for a new deployment.
    pub from: Option<State>,
    /// The state it is in now.
    pub state: State,
    /// Why, where there is something to say.
    pub cause: Option<Cause>,
}

/// Retained on the coordinator's topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorStatus {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whether the coordinator runs.
    pub online: bool,
    /// Its version.
    pub version: String,
}

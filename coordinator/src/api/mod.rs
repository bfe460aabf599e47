//! The JSON of `/api/v1`: what the HTTP API gives and takes, and what the command line speaks.
//!
//! Fields are only ever added. Times are milliseconds since 1970 in fields that end in `unix_ms`.

mod alarms;
mod boot_files;
mod cards;
mod deployments;
mod environments;
mod inventory;
mod node_check;
mod requests;
mod switches;
mod users;

pub use alarms::AlarmView;
pub use boot_files::{BootFileView, BootFilesView};
pub use cards::{CopyView, FailureView, PassportView};
pub use deployments::{
    AgentLineView, AgentView, ConsoleEndView, DeployRequest, DeploymentExport, DeploymentHistory,
    DeploymentView, EvidenceView, FormView, JournalEntry, LogsView, RunView, ScriptView, Started,
};
pub use environments::{EnvironmentView, ImageView, PartitionView, RemovedView};
pub use inventory::{
    BoardView, ChangeRequest, ConsoleView, DiscoveredView, DrainRequest, ImportCountView, ImportedView,
    Inventory, InvitedView, NodeEntry, NodeView, OutOfServiceView, OwesView, RenameRequest, SilenceRequest,
    SwitchEntry,
};
pub use node_check::{CardView, FindingView, NodeCheckView};
pub use requests::{
    DeploymentRequest, DeploymentRequests, NodeRequest, NodeRequestResult, NodeRequests, RequestResult,
};
pub use switches::{
    DetectRequest, DetectedView, SupplyView, SwitchDetails, SwitchPortQuery, SwitchPortView, SwitchView,
    SwitchedView,
};
pub use users::{NewUser, TokenView, UserView};

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
    /// Why the disk takes nothing: then requests are refused.
    #[serde(default)]
    pub disk: Option<String>,
}

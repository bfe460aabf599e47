//! What is asked of many nodes at once, and how each stands to it.

use super::{ErrorBody, NodeView};
use piseduce_protocol::id::DeploymentId;
use serde::{Deserialize, Serialize};

/// What can be asked of the deployment on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentRequest {
    /// Withdraw what is not deployed yet, and free the node.
    Cancel,
    /// Power off and on, and go on from the registered state.
    Reboot,
    /// Start from the beginning.
    DeployAgain,
    /// Give the node back.
    Destroy,
    /// Prove that a free or quarantined node can be used.
    Test,
}

/// Asks for the same thing at many nodes: in one step, which a coordinator that is killed has done for all or for none.
/// Nodes where it cannot be done keep no other from doing it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentRequests {
    /// What is asked.
    pub request: DeploymentRequest,
    /// The nodes' names.
    pub nodes: Vec<String>,
    /// Whether cancelling and destroying what somebody else holds is meant.
    #[serde(default)]
    pub yes: bool,
}

/// What came of a request at one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestResult {
    /// The node's name.
    pub node: String,
    /// Its deployment, which does what was asked.
    pub deployment: Option<DeploymentId>,
    /// Why nothing is done there; none when it is.
    pub refusal: Option<ErrorBody>,
}

/// What can be done with a node that nobody uses, or soon nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeRequest {
    /// Give it to nobody any more.
    Drain {
        /// Why.
        reason: String,
    },
    /// Give it to users again.
    Resume,
    /// Take it out of the rack for good.
    Retire,
}

/// Asks for the same thing at many nodes, in one step. Nodes where it cannot be done keep no other from doing it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRequests {
    /// What is asked.
    pub request: NodeRequest,
    /// The nodes' names.
    pub nodes: Vec<String>,
}

/// What became of one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeRequestResult {
    /// Its name.
    pub name: String,
    /// The node as it is now, or was last.
    pub node: Option<NodeView>,
    /// Why nothing was done with it; none when it was.
    pub refusal: Option<ErrorBody>,
}

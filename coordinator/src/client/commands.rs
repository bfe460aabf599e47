//! The subcommands that ask the coordinator.

use super::cards::{self, CardCommand};
use super::connection::{Connection, ConnectionOptions};
use super::console::{self, ConsoleOptions};
use super::deploy::{self, DeployOptions, Ended};
use super::deployments::{self, DeploymentCommand};
use super::error::ClientError;
use super::nodes::{self, NodeCommand};
use super::qualify::qualify;
use super::switches::{self, SwitchCommand};
use crate::api::DeploymentRequest;
use crate::print::Output;
use clap::{Args, Subcommand};

pub use super::environments::{EnvironmentCommand, environment};

/// Nodes by name, and whether to wait.
#[derive(Clone, Debug, Args)]
pub struct Nodes {
    /// Nodes by name, or @LABEL for all that have the label
    #[arg(required = true, value_name = "NODE")]
    pub(super) nodes: Vec<String>,
    /// Follow until they come to rest
    #[arg(long)]
    pub(super) wait: bool,
}

/// Nodes to be given back.
#[derive(Clone, Debug, Args)]
pub struct NodesToFree {
    #[command(flatten)]
    nodes: Nodes,
    /// Also what somebody else holds is meant
    #[arg(long)]
    yes: bool,
}

/// What can be asked of the coordinator.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// The nodes of the rack
    #[command(subcommand)]
    Node(NodeCommand),
    /// Memory cards: what was written to them, how fast, what failed, and a verdict
    #[command(subcommand)]
    Card(CardCommand),
    /// The switches that power nodes
    #[command(subcommand)]
    Switch(SwitchCommand),
    /// Hold free nodes; their form stays open for 15 minutes
    Reserve {
        /// Nodes by name, or @LABEL for all that have the label
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// For how long, such as 4h
        #[arg(long = "for", value_name = "TIME")]
        time: humantime::Duration,
    },
    /// Withdraw what is not deployed yet; frees the nodes
    Cancel(NodesToFree),
    /// Deploy an environment on nodes that you hold
    Deploy(Box<DeployOptions>),
    /// What was and is being deployed
    #[command(subcommand)]
    Deployment(DeploymentCommand),
    /// Show what a node says on its console, and type there
    Console(ConsoleOptions),
    /// Power nodes off and on, and go on from the last registered state
    Reboot(Nodes),
    /// Start deployments again from the beginning
    DeployAgain(Nodes),
    /// End deployments, prove that the nodes can be used again, and free them
    Destroy(NodesToFree),
    /// What nobody can explain: foreign DHCP servers, address conflicts, nodes that speak while their port is off
    Alarms,
    /// The head node's clock
    #[command(subcommand)]
    Clock(ClockCommand),
}

/// `piseduce clock`.
#[derive(Clone, Debug, Subcommand)]
pub enum ClockCommand {
    /// Say that the clock is right after a step, so that reservations end again
    Confirm,
}

/// Carries out a subcommand.
///
/// # Errors
/// What the coordinator answers, or that it does not.
pub fn run(options: &ConnectionOptions, output: Output, command: Command) -> Result<Ended, ClientError> {
    let connection = Connection::open(options)?;
    let ask = |request, nodes: &Nodes| deploy::ask(&connection, output, request, nodes, false);
    let free = |request, NodesToFree { nodes, yes }: &NodesToFree| {
        deploy::ask(&connection, output, request, nodes, *yes)
    };
    match command {
        Command::Node(NodeCommand::Test(nodes)) => return ask(DeploymentRequest::Test, &nodes),
        Command::Node(NodeCommand::Check { nodes }) => return nodes::check(&connection, output, nodes),
        Command::Node(NodeCommand::Qualify(options)) => return qualify(&connection, output, &options),
        Command::Node(command) => nodes::node(&connection, output, command)?,
        Command::Switch(command) => switches::switch(&connection, output, command)?,
        Command::Reserve { nodes, time } => nodes::reserve(&connection, output, nodes, time.into())?,
        Command::Deploy(options) => return deploy::deploy(&connection, output, *options),
        Command::Cancel(nodes) => return free(DeploymentRequest::Cancel, &nodes),
        Command::Reboot(nodes) => return ask(DeploymentRequest::Reboot, &nodes),
        Command::DeployAgain(nodes) => return ask(DeploymentRequest::DeployAgain, &nodes),
        Command::Destroy(nodes) => return free(DeploymentRequest::Destroy, &nodes),
        Command::Card(command) => cards::card(&connection, output, command)?,
        Command::Alarms => nodes::alarms(&connection, output)?,
        Command::Clock(ClockCommand::Confirm) => {
            connection.post::<()>("clock/confirm", &())?;
            output.tell("clock", "believed", |_| "the head's clock is believed".into());
        }
        Command::Console(options) => console::console(&connection, &options)?,
        Command::Deployment(command) => return deployments::deployment(&connection, output, command),
    }
    Ok(Ended::Well)
}

//! The subcommands that ask the coordinator.

use super::connection::{Connection, ConnectionOptions};
use super::deploy::{self, DeployOptions, Ended};
use super::tables;
use crate::api::{
    DeploymentHistory, DeploymentView, EnvironmentView, ImportedView, Inventory, NodeView, ReservationView,
    ReserveRequest, Started,
};
use crate::domain::reservation::utc;
use crate::print;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Nodes by name, and whether to wait.
#[derive(Clone, Debug, Args)]
pub struct Nodes {
    /// Nodes by name
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Follow until they come to rest
    #[arg(long)]
    wait: bool,
}

/// What can be asked of the coordinator.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// The nodes of the rack
    #[command(subcommand)]
    Node(NodeCommand),
    /// Hold free nodes; their form stays open for 15 minutes
    Reserve {
        /// Nodes by name
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// For how long, such as 4h
        #[arg(long = "for", value_name = "TIME")]
        time: humantime::Duration,
    },
    /// Withdraw what is not deployed yet; frees the nodes
    Cancel(Nodes),
    /// Deploy an environment on nodes that you hold
    Deploy(Box<DeployOptions>),
    /// What was and is being deployed
    #[command(subcommand)]
    Deployment(DeploymentCommand),
    /// Power nodes off and on, and go on from the last registered state
    Reboot(Nodes),
    /// Start deployments again from the beginning
    DeployAgain(Nodes),
    /// End deployments, prove that the nodes can be used again, and free them
    Destroy(Nodes),
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

/// `piseduce node`.
#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// Add or change switches and nodes from a TOML file
    Import {
        /// File with [[switch]] and [[node]] entries
        file: PathBuf,
    },
    /// All nodes and who has them
    List,
    /// One node
    Show {
        /// Its name
        node: String,
    },
    /// Prove that free or quarantined nodes come back into the boot root and can be wiped; frees those that do
    Test(Nodes),
}

/// `piseduce deployment`.
#[derive(Clone, Debug, Subcommand)]
pub enum DeploymentCommand {
    /// The latest deployments
    List,
    /// One deployment and everything that happened to it
    Show {
        /// Its number, or the name of the node that it is on
        deployment: String,
    },
    /// Follow deployments until they come to rest
    Watch {
        /// Numbers, or names of nodes; all that are under way if none is named
        deployments: Vec<String>,
    },
}

/// `piseduce environment`, as far as the coordinator answers it.
#[derive(Clone, Debug)]
pub enum EnvironmentCommand {
    /// All environments.
    List,
    /// One environment.
    Show(String),
    /// Remove one.
    Remove(String),
}

/// Carries out a subcommand.
///
/// # Errors
/// What the coordinator answers, or that it does not.
pub fn run(options: &ConnectionOptions, command: Command) -> anyhow::Result<Ended> {
    let connection = Connection::open(options)?;
    match command {
        Command::Node(NodeCommand::Test(nodes)) => {
            return deploy::ask(&connection, "test", &nodes.nodes, nodes.wait);
        }
        Command::Node(command) => node(&connection, command)?,
        Command::Reserve { nodes, time } => reserve(&connection, nodes, time.into())?,
        Command::Deploy(options) => return deploy::deploy(&connection, *options),
        Command::Cancel(nodes) => return deploy::ask(&connection, "cancel", &nodes.nodes, nodes.wait),
        Command::Reboot(nodes) => return deploy::ask(&connection, "reboot", &nodes.nodes, nodes.wait),
        Command::DeployAgain(nodes) => {
            return deploy::ask(&connection, "deploy-again", &nodes.nodes, nodes.wait);
        }
        Command::Destroy(nodes) => return deploy::ask(&connection, "destroy", &nodes.nodes, nodes.wait),
        Command::Clock(ClockCommand::Confirm) => {
            connection.post::<()>("clock/confirm", &())?;
            print::line("the head's clock is believed");
        }
        Command::Deployment(command) => return deployment(&connection, command),
    }
    Ok(Ended::Well)
}

fn node(connection: &Connection, command: NodeCommand) -> anyhow::Result<()> {
    match command {
        NodeCommand::List => print::line(tables::nodes(&connection.get::<Vec<NodeView>>("nodes")?)),
        NodeCommand::Show { node } => {
            let node: NodeView = connection.get(&format!("nodes/{node}"))?;
            let power = node.power.map_or("unknown", |on| if on { "on" } else { "off" });
            print::line(tables::nodes(std::slice::from_ref(&node)));
            print::line(format!("address {}, power {power}", node.mac));
            if let Some(owes) = &node.owes {
                print::line(format!(
                    "its card owes a wipe ({}): content of {} is on it until another user deploys",
                    owes.wipe, owes.used_by
                ));
            }
            if let Some(deployment) = node.deployment {
                print::line(format!("deployment {}: see `piseduce deployment show {0}`", deployment.id));
            }
        }
        NodeCommand::Test(_) => unreachable!("it is followed like a deployment"),
        NodeCommand::Import { file } => {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("failed to read {}", file.display()))?;
            let inventory: Inventory =
                toml::from_str(&text).with_context(|| format!("{} is not an inventory", file.display()))?;
            let imported: ImportedView = connection.post("nodes/import", &inventory)?;
            print::line(format!(
                "nodes: {} added, {} changed, {} unchanged",
                imported.added, imported.changed, imported.unchanged
            ));
        }
    }
    Ok(())
}

fn reserve(connection: &Connection, nodes: Vec<String>, time: Duration) -> anyhow::Result<()> {
    let request = ReserveRequest { nodes, seconds: time.as_secs() };
    let reservation: ReservationView = connection.post("reservations", &request)?;
    let until = utc(reservation.until_unix_ms);
    print::line(format!("reservation {}: {} until {until}", reservation.id, reservation.nodes.join(", ")));
    Ok(())
}

fn deployment(connection: &Connection, command: DeploymentCommand) -> anyhow::Result<Ended> {
    match command {
        DeploymentCommand::List => {
            print::line(tables::deployments(&connection.get::<Vec<DeploymentView>>("deployments")?));
        }
        DeploymentCommand::Show { deployment } => {
            let id = find(connection, &deployment)?.deployment;
            let history: DeploymentHistory = connection.get(&format!("deployments/{id}"))?;
            print::line(tables::deployments(std::slice::from_ref(&history.deployment)));
            print::line(tables::history(&history.journal));
            if let Some(line) = &history.deployment.known_hosts {
                print::line(format!("known_hosts: {line}"));
            }
            if let (Some(code), Some(output)) = (history.exit_code, &history.output) {
                print::line(format!("script ended with exit code {code}; the end of its output:\n{output}"));
            }
        }
        DeploymentCommand::Watch { deployments } => {
            let watched: Vec<Started> = if deployments.is_empty() {
                under_way(connection)?
            } else {
                deployments.iter().map(|name| find(connection, name)).collect::<anyhow::Result<_>>()?
            };
            if watched.is_empty() {
                print::line("nothing is under way");
                return Ok(Ended::Well);
            }
            return Ok(deploy::wait_for(connection, &watched)?);
        }
    }
    Ok(Ended::Well)
}

fn under_way(connection: &Connection) -> anyhow::Result<Vec<Started>> {
    let nodes: Vec<NodeView> = connection.get("nodes")?;
    let active = nodes.into_iter().filter_map(|node| {
        let deployment = node.deployment?;
        let waits = deployment.state == piseduce_protocol::state::State::Initialized;
        (!waits && tables::resting(deployment.state).is_none())
            .then_some(Started { node: node.name, deployment: deployment.id })
    });
    Ok(active.collect())
}

/// A deployment by its number, or the one on the node of this name.
fn find(connection: &Connection, name: &str) -> anyhow::Result<Started> {
    if name.bytes().all(|b| b.is_ascii_digit()) {
        let history: DeploymentHistory = connection.get(&format!("deployments/{name}"))?;
        return Ok(Started { node: history.deployment.node, deployment: history.deployment.status.id });
    }
    let node: NodeView = connection.get(&format!("nodes/{name}"))?;
    let deployment =
        node.deployment.with_context(|| format!("node `{name}` is free: nothing is deployed on it"))?;
    Ok(Started { node: node.name, deployment: deployment.id })
}

/// Carries out what the coordinator answers of `piseduce environment`.
///
/// # Errors
/// What the coordinator answers, or that it does not.
pub fn environment(options: &ConnectionOptions, command: EnvironmentCommand) -> anyhow::Result<()> {
    let connection = Connection::open(options)?;
    match command {
        EnvironmentCommand::List => {
            print::line(tables::environments(&connection.get::<Vec<EnvironmentView>>("environments")?));
        }
        EnvironmentCommand::Show(name) => {
            let environment: EnvironmentView = connection.get(&format!("environments/{name}"))?;
            print::line(tables::environments(std::slice::from_ref(&environment)));
            print::line(format!("image {}, {} bytes", environment.manifest, environment.image_bytes));
        }
        EnvironmentCommand::Remove(name) => {
            connection.delete(&format!("environments/{name}"))?;
            print::line(format!("environment {name} removed"));
        }
    }
    Ok(())
}

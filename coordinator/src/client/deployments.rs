//! `piseduce deployment`: looking at deployments.

use super::connection::{Connection, level};
use super::deploy::{self, Ended};
use super::error::ClientError;
use super::{logs, nodes, tables};
use crate::api::{DeploymentExport, DeploymentHistory, DeploymentView, NodeView, Started};
use crate::print::{self, Output, Screen};
use clap::{Args, Subcommand};
use piseduce_protocol::state::State;
use serde::Serialize;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

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
    /// What happened in a run, the agent's own log, and the script's output
    Logs(logs::LogsOptions),
    /// Everything that is known of a deployment, as one JSON file without secrets
    Export(ExportOptions),
}

/// What `deployment export` takes.
#[derive(Clone, Debug, Args)]
pub struct ExportOptions {
    /// Its number, or the name of the node that it is on
    deployment: String,
    /// Write to this file, readable by its owner only, instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Put the user's script into it
    #[arg(long)]
    with_script: bool,
}

pub(super) fn deployment(
    connection: &Connection,
    output: Output,
    command: DeploymentCommand,
) -> Result<Ended, ClientError> {
    let screen = Screen::of_stdout();
    match command {
        DeploymentCommand::List => {
            let deployments: Vec<DeploymentView> = connection.get("deployments")?;
            output.tell("deployments", &deployments, |all| tables::deployments(all, screen));
        }
        DeploymentCommand::Show { deployment } => {
            let id = find(connection, &deployment)?.deployment;
            let history: DeploymentHistory = connection.get(&format!("deployments/{id}"))?;
            output.tell("deployment", &history, |history| tables::deployment(history, screen));
        }
        DeploymentCommand::Watch { deployments } => return watch(connection, output, &deployments),
        DeploymentCommand::Logs(options) => return logs::logs(connection, output, &options),
        DeploymentCommand::Export(options) => export(connection, output, &options)?,
    }
    Ok(Ended::Well)
}

fn watch(connection: &Connection, output: Output, names: &[String]) -> Result<Ended, ClientError> {
    let watched: Vec<Started> = match names {
        [] => under_way(connection)?,
        names => names.iter().map(|name| find(connection, name)).collect::<Result<_, _>>()?,
    };
    if watched.is_empty() {
        output.tell::<[DeploymentView]>("rested", &[], |_| "nothing is under way".into());
        return Ok(Ended::Well);
    }
    deploy::wait_for(connection, output, watched)
}

fn under_way(connection: &Connection) -> Result<Vec<Started>, ClientError> {
    let nodes: Vec<NodeView> = connection.get("nodes")?;
    let active = nodes.into_iter().filter_map(|node| {
        let deployment = node.deployment?;
        let waits = deployment.state == State::Initialized;
        (!waits && tables::resting(deployment.state).is_none())
            .then_some(Started { node: node.name, deployment: deployment.id })
    });
    Ok(active.collect())
}

/// A deployment by its number, or the one on the node of this name.
pub(super) fn find(connection: &Connection, name: &str) -> Result<Started, ClientError> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        let history: DeploymentHistory = connection.get(&format!("deployments/{}", level(name)))?;
        return Ok(Started { node: history.deployment.node, deployment: history.deployment.status.id });
    }
    let node = nodes::by_name(connection, name)?;
    let deployment = node.deployment.ok_or_else(|| ClientError::Free(node.name.clone()))?;
    Ok(Started { node: node.name, deployment: deployment.id })
}

/// A file that was written.
#[derive(Serialize)]
struct Exported {
    deployment: u64,
    file: PathBuf,
    bytes: usize,
}

fn export(connection: &Connection, output: Output, options: &ExportOptions) -> Result<(), ClientError> {
    let id = find(connection, &options.deployment)?.deployment;
    let script = options.with_script;
    let export: DeploymentExport = connection.get(&format!("deployments/{id}/export?script={script}"))?;
    let text = serde_json::to_string_pretty(&export).expect("views have text keys only");
    let Some(file) = &options.output else {
        print::line(text);
        return Ok(());
    };
    write(file, &text).map_err(|source| ClientError::Write { file: file.clone(), source })?;
    let exported = Exported { deployment: id.0, file: file.clone(), bytes: text.len() + 1 };
    output.tell("exported", &exported, |exported| {
        format!("deployment {} exported to {}", exported.deployment, exported.file.display())
    });
    Ok(())
}

/// What a script printed is for its user's eyes.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(file)?;
    writeln!(file, "{text}")
}

//! `deploy`, and the requests by node name that may be waited for.

use super::commands::Nodes;
use super::connection::Connection;
use super::error::ClientError;
use super::interrupt::until_interrupted;
use super::nodes::{named, read};
use super::{tables, watch};
use crate::api::{
    DeployRequest, DeploymentRequest, DeploymentRequests, DeploymentView, RequestResult, Started,
};
use crate::print::{self, Output};
use clap::Args;
use piseduce_protocol::command::PartSize;
use piseduce_protocol::state::State;
use sha_crypt::{PasswordHasher as _, ShaCrypt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `deploy` takes.
#[derive(Clone, Debug, Args)]
pub struct DeployOptions {
    /// Nodes that you hold, by name, or @LABEL
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// What to deploy; see `piseduce environment list`
    #[arg(long, value_name = "NAME")]
    environment: String,
    /// File with SSH public keys that may log in; may be given more than once
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,
    /// File with the user's password; only its hash leaves this program
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Script that runs once on the deployed node, as root
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// How long the script may take, such as 30m
    #[arg(long, value_name = "TIME", requires = "script")]
    script_time: Option<humantime::Duration>,
    /// Run the script again when a power cut or hard reboot ended it
    #[arg(long, requires = "script")]
    rerun_script: bool,
    /// Size of the root partition: whole, or such as 8G
    #[arg(long, value_name = "SIZE", default_value = "whole")]
    part_size: PartSize,
    /// Follow the deployments until they come to rest
    #[arg(long)]
    wait: bool,
}

/// The public keys in these files.
pub(super) fn keys(files: &[PathBuf]) -> Result<Vec<String>, ClientError> {
    let mut keys = Vec::new();
    for file in files {
        let text = read(file)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        keys.extend(lines.map(ToOwned::to_owned));
    }
    Ok(keys)
}

/// Sends the form.
pub(super) fn deploy(
    connection: &Connection,
    output: Output,
    options: DeployOptions,
) -> Result<Ended, ClientError> {
    let ssh_keys = keys(&options.ssh_key)?;
    let script_seconds = options.script_time.map(|time| {
        let seconds = Duration::from(time).as_secs();
        u32::try_from(seconds).map_err(|_| ClientError::ScriptTime(seconds))
    });
    let request = DeployRequest {
        nodes: named(connection, options.nodes)?,
        environment: options.environment,
        ssh_keys,
        password_hash: options.password_file.as_deref().map(password_hash).transpose()?,
        script: options.script.as_deref().map(read).transpose()?,
        rerun_script: options.rerun_script,
        script_seconds: script_seconds.transpose()?,
        part_size: Some(options.part_size),
    };
    let started: Vec<Started> = connection.post("deployments", &request)?;
    follow(connection, output, started, options.wait)
}

/// Asks for the same thing at all these nodes. What can be done is done and told, and so is what stands in the way.
pub(super) fn ask(
    connection: &Connection,
    output: Output,
    request: DeploymentRequest,
    nodes: &Nodes,
    yes: bool,
) -> Result<Ended, ClientError> {
    let requests = DeploymentRequests { request, nodes: named(connection, nodes.nodes.clone())?, yes };
    let results: Vec<RequestResult> = connection.post("deployments/requests", &requests)?;
    let asked = results.len();
    let (mut started, mut refused) = (Vec::new(), Vec::new());
    for RequestResult { node, deployment, refusal } in results {
        started.extend(deployment.map(|deployment| Started { node: node.clone(), deployment }));
        refused.extend(refusal.map(|refusal| (node, refusal)));
    }
    let ended =
        if started.is_empty() { Ended::Well } else { follow(connection, output, started, nodes.wait)? };
    ClientError::refused_by(refused, asked).map_or(Ok(ended), Err)
}

/// How the deployments that were waited for ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All as wished, or nobody waited.
    Well,
    /// Some are lost, failed or quarantined.
    Badly,
}

impl Ended {
    /// How a deployment in this state has ended.
    pub(super) fn in_state(state: State) -> Self {
        match state {
            State::Deployed | State::Ended => Ended::Well,
            _ => Ended::Badly,
        }
    }
}

fn tell(output: Output, started: &[Started]) {
    output.tell("started", started, |started| {
        let lines = started.iter().map(|one| format!("{}: deployment {}", one.node, one.deployment));
        lines.collect::<Vec<_>>().join("\n")
    });
}

/// Tells what was started and, if wished, how it ends.
fn follow(
    connection: &Connection,
    output: Output,
    started: Vec<Started>,
    wait: bool,
) -> Result<Ended, ClientError> {
    if wait {
        return wait_for(connection, output, started);
    }
    tell(output, &started);
    Ok(Ended::Well)
}

/// Follows deployments to their rest and tells how each stands.
pub(super) fn wait_for(
    connection: &Connection,
    output: Output,
    started: Vec<Started>,
) -> Result<Ended, ClientError> {
    let (asking, watched) = (connection.clone(), started.clone());
    let histories = until_interrupted(started, move || watch::until_rest(&asking, output, &watched))?;
    match output {
        Output::Text => {
            let names = histories.iter().map(|history| history.deployment.node.clone());
            print::line(tables::seconds_by_state(names, &histories));
            histories.iter().for_each(|history| print::line(stands(&history.deployment)));
        }
        Output::Json => {
            let rested: Vec<&DeploymentView> = histories.iter().map(|history| &history.deployment).collect();
            output.tell("rested", &rested, |_| String::new());
        }
    }
    let ends = histories.iter().map(|history| Ended::in_state(history.deployment.status.state));
    Ok(if ends.into_iter().all(|end| end == Ended::Well) { Ended::Well } else { Ended::Badly })
}

fn stands(deployment: &DeploymentView) -> String {
    let status = &deployment.status;
    let mut text = format!("{}: {}", deployment.node, status.state);
    match (&status.cause, &deployment.evidence) {
        (Some(cause), _) => text += &format!(", {cause}"),
        (None, Some(evidence)) => text += &format!(", evidence {evidence}"),
        (None, None) => {}
    }
    if let Some(fingerprint) = deployment.fingerprint.as_ref().filter(|_| status.state == State::Deployed) {
        text += &format!(", host key {fingerprint}");
    }
    text
}

/// The hash of the password in a file's first line, as every libcrypt takes it.
fn password_hash(file: &Path) -> Result<String, ClientError> {
    let text = read(file)?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        return Err(ClientError::NoPassword(file.into()));
    }
    let failed =
        |why: &dyn std::fmt::Display| ClientError::Password { file: file.into(), why: why.to_string() };
    // The crate's own salts are longer than the 16 characters that libcrypt accepts: 12 bytes make 16.
    let mut salt = [0; 12];
    getrandom::fill(&mut salt).map_err(|error| failed(&error))?;
    let hash = ShaCrypt::default().hash_password_with_salt(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|error| failed(&error))
}

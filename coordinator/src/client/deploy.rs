//! `deploy`, and the requests by node name that may be waited for.

use super::connection::{ClientError, Connection};
use super::{tables, watch};
use crate::api::{DeployRequest, DeploymentHistory, Started};
use crate::print;
use anyhow::Context as _;
use clap::Args;
use piseduce_protocol::command::PartSize;
use piseduce_protocol::state::State;
use sha_crypt::{PasswordHasher as _, ShaCrypt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `deploy` takes.
#[derive(Clone, Debug, Args)]
pub struct DeployOptions {
    /// Nodes that you hold
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

/// Sends the form.
pub(super) fn deploy(connection: &Connection, options: DeployOptions) -> anyhow::Result<Ended> {
    let mut ssh_keys = Vec::new();
    for file in &options.ssh_key {
        let text = read(file)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        ssh_keys.extend(lines.map(ToOwned::to_owned));
    }
    let script_seconds = options.script_time.map(|time| u32::try_from(Duration::from(time).as_secs()));
    let request = DeployRequest {
        nodes: options.nodes,
        environment: options.environment,
        ssh_keys,
        password_hash: options.password_file.as_deref().map(password_hash).transpose()?,
        script: options.script.as_deref().map(read).transpose()?,
        rerun_script: options.rerun_script,
        script_seconds: script_seconds.transpose().context("the script's time limit is too long")?,
        part_size: Some(options.part_size),
    };
    let started: Vec<Started> = connection.post("deployments", &request)?;
    follow(connection, &started, options.wait)
}

/// Asks for the same thing at each node.
pub(super) fn ask(
    connection: &Connection,
    request: &str,
    nodes: &[String],
    wait: bool,
) -> anyhow::Result<Ended> {
    let mut started = Vec::new();
    for node in nodes {
        started.push(connection.post::<Started>(&format!("nodes/{node}/{request}"), &())?);
    }
    follow(connection, &started, wait)
}

/// How the deployments that were waited for ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All as wished, or nobody waited.
    Well,
    /// Some are lost, failed or quarantined.
    Badly,
}

/// Tells what was started and, if wished, how it ends.
fn follow(connection: &Connection, started: &[Started], wait: bool) -> anyhow::Result<Ended> {
    if !wait {
        for one in started {
            print::line(format!("{}: deployment {}", one.node, one.deployment));
        }
        return Ok(Ended::Well);
    }
    wait_for(connection, started).map_err(Into::into)
}

/// Follows deployments to their rest and tells how each stands.
pub(super) fn wait_for(connection: &Connection, started: &[Started]) -> Result<Ended, ClientError> {
    let histories = watch::until_rest(connection, started)?;
    print::line(tables::seconds_by_state(&histories));
    let mut ended = Ended::Well;
    for history in &histories {
        let (text, well) = stands(history);
        print::line(text);
        if !well {
            ended = Ended::Badly;
        }
    }
    Ok(ended)
}

fn stands(history: &DeploymentHistory) -> (String, bool) {
    let deployment = &history.deployment;
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
    (text, matches!(status.state, State::Deployed | State::Ended))
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))
}

/// The hash of the password in a file's first line, as every libcrypt takes it.
fn password_hash(file: &Path) -> anyhow::Result<String> {
    let text = read(file)?;
    let password = text.lines().next().unwrap_or_default();
    anyhow::ensure!(!password.is_empty(), "the first line of {} is empty", file.display());
    // The crate's own salts are longer than the 16 characters that libcrypt accepts: 12 bytes make 16.
    let mut salt = [0; 12];
    getrandom::fill(&mut salt).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    let hash = ShaCrypt::default().hash_password_with_salt(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| anyhow::anyhow!("the password cannot be hashed: {error}"))?.to_string())
}

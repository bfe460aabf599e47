//! Deployments: sending the form, and looking at what came of it.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::{Path, deployment_id};
use super::super::view;
use super::Body;
use super::requests::{Named, answer, once};
use crate::api::{DeployRequest, DeploymentHistory, DeploymentView, Started};
use crate::domain::deployment::Form;
use crate::domain::environment::Environment;
use crate::domain::node::NodeAttributes;
use crate::machine::event::Request;
use crate::netboot::{BootRoot, BootRoots};
use crate::permission::Action;
use crate::runner::OnRefusal;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use piseduce_protocol::command::PartSize;
use piseduce_protocol::id::DeploymentId;
use std::collections::HashMap;
use std::sync::Arc;

/// How many deployments a list shows.
const LISTED_MAX: u32 = 500;
/// How long a user's script may take unless the form says otherwise, in seconds.
const SCRIPT_SECONDS_DEFAULT: u32 = 30 * 60;
const SCRIPT_SECONDS_MAX: u32 = 24 * 3600;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/deployments", get(list).post(deploy)).route("/deployments/{id}", get(show))
}

async fn list(State(shared): State<Shared>, asker: Asker) -> Result<Json<Vec<DeploymentView>>, ApiError> {
    asker.check(Action::Look)?;
    let stored = shared.store.latest_deployments(LISTED_MAX).await?;
    Ok(Json(stored.iter().map(|stored| view::deployment(&shared, stored)).collect()))
}

async fn show(
    State(shared): State<Shared>,
    asker: Asker,
    Path(id): Path<String>,
) -> Result<Json<DeploymentHistory>, ApiError> {
    asker.check(Action::Look)?;
    let number = deployment_id(&id)?;
    let missing = || ApiError::missing("deployment", &id);
    let stored = shared.store.deployment(number).await?.ok_or_else(missing)?;
    let journal = shared.store.journal_of(number).await?;
    // What a script prints may be as secret as the script: it is its owner's.
    let own = asker.check(Action::Control { owner: &stored.owner }).is_ok();
    let output = shared.store.output(number, stored.deployment.run).await?.filter(|_| own);
    Ok(Json(DeploymentHistory {
        deployment: view::deployment(&shared, &stored),
        journal: journal.into_iter().map(view::entry).collect(),
        exit_code: output.as_ref().map(|(code, _)| *code),
        output: output.map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned()),
    }))
}

async fn deploy(
    State(shared): State<Shared>,
    asker: Asker,
    Body(request): Body<DeployRequest>,
) -> Result<Json<Vec<Started>>, ApiError> {
    let environments = shared.store.environments().await?;
    let environment = environments.into_iter().find(|known| known.name == request.environment);
    let environment = environment.ok_or_else(|| ApiError::missing("environment", &request.environment))?;
    let form = Arc::new(form(&request, environment)?);
    let nodes = once(request.nodes)?;
    let mut roots = HashMap::new();
    let mut named: Vec<Named> = nodes
        .into_iter()
        .map(|node| Named { found: held(&shared, &asker, &node, &mut roots), node })
        .collect();
    if named.iter().all(|one| one.found.is_ok()) {
        let request = Request::Deploy(form);
        answer(&shared, &asker.0, &request, OnRefusal::DoNothing, &mut named).await?;
    }
    let (asked, mut started, mut errors) = (named.len(), Vec::new(), Vec::new());
    for Named { node, found } in named {
        match found {
            Ok(deployment) => started.push(Started { node, deployment }),
            Err(error) => errors.push((node, error)),
        }
    }
    match ApiError::for_nodes(errors, asked) {
        Some(error) => Err(error),
        None => Ok(Json(started)),
    }
}

/// The deployment on a node that waits for the form of this user.
fn held(shared: &Shared, asker: &Asker, node: &str, roots: &mut Roots) -> Result<DeploymentId, ApiError> {
    let known = shared.board.node(node).ok_or_else(|| ApiError::missing("node", node))?;
    let deployment = known.deployment.as_ref().ok_or_else(|| {
        let message = format!("node `{node}` is not held by you");
        ApiError::conflict("free", message, "hold it first: `piseduce reserve`")
    })?;
    asker.check(Action::Control { owner: &deployment.owner })?;
    check_boot_root(&shared.boot_roots, &known.node.attributes, roots)?;
    Ok(deployment.live.deployment.id)
}

/// Boot roots by version, each read once for all nodes of a request; none: it cannot be read.
type Roots = HashMap<String, Option<BootRoot>>;

/// A board whose boot root was made for other boards would stay dark. Where nothing was chosen, `piseduce doctor` says so.
fn check_boot_root(roots: &BootRoots, node: &NodeAttributes, known: &mut Roots) -> Result<(), ApiError> {
    let Some(version) = roots.chosen_for(&node.name, &node.model) else { return Ok(()) };
    let root = known.entry(version).or_insert_with_key(|version| roots.read(version).ok());
    let Some(description) = root.as_ref().map(|root| &root.description) else { return Ok(()) };
    if !description.is_for_others(node.model()) {
        return Ok(());
    }
    let lacks = description.lacks(node.model()).join(", ");
    Err(ApiError::conflict(
        "boot_root",
        format!(
            "the boot root {} cannot boot `{}`, a {}: it lacks {lacks}",
            description.version, node.name, node.model
        ),
        "an administrator gives it another: `piseduce boot-root use NAME --node NODE`, see `piseduce boot-root list`",
    ))
}

fn form(request: &DeployRequest, environment: Environment) -> Result<Form, ApiError> {
    let reports = environment.reports();
    let ssh_keys: Vec<String> = request.ssh_keys.iter().map(|key| key.trim().to_owned()).collect();
    for key in &ssh_keys {
        ssh_key::PublicKey::from_openssh(key).map_err(|error| {
            let start: String = key.chars().take(40).collect();
            ApiError::invalid(
                format!("`{start}…` is not an SSH public key: {error}"),
                "give the content of a .pub file",
            )
        })?;
    }
    if let Some(hash) = &request.password_hash {
        check_password_hash(hash)?;
    }
    if reports && ssh_keys.is_empty() && request.password_hash.is_none() {
        let hint = "give an SSH key or a password";
        return Err(ApiError::invalid("nobody could log in to the deployed nodes", hint));
    }
    if !reports && (request.script.is_some() || !ssh_keys.is_empty() || request.password_hash.is_some()) {
        let message = format!(
            "environment `{}` is opaque: it is written as it is, without keys, password or script ({})",
            environment.name, environment.family_evidence
        );
        return Err(ApiError::invalid(
            message,
            "leave keys, password and script out, or choose another environment",
        ));
    }
    let script_seconds = request.script_seconds.unwrap_or(SCRIPT_SECONDS_DEFAULT);
    if !(1..=SCRIPT_SECONDS_MAX).contains(&script_seconds) {
        let message = format!("a script time limit of {script_seconds} s is not possible");
        return Err(ApiError::invalid(message, "from 1 s to 1 day"));
    }
    Ok(Form {
        environment: environment.name,
        manifest: environment.manifest,
        reports,
        part_size: request.part_size.unwrap_or(PartSize::Whole),
        password_hash: request.password_hash.clone(),
        ssh_keys,
        script: request.script.clone().map(String::into_bytes),
        rerun_script: request.rerun_script,
        script_seconds,
    })
}

/// What goes into the image's shadow file must be one field of it.
fn check_password_hash(hash: &str) -> Result<(), ApiError> {
    let plain = |b: u8| b.is_ascii_graphic() && b != b':';
    match hash.starts_with('$') && hash.len() <= 256 && hash.bytes().all(plain) {
        true => Ok(()),
        false => Err(ApiError::invalid(
            "the password hash is not one of crypt(3)",
            "such as `$6$salt$…`; see `mkpasswd`",
        )),
    }
}

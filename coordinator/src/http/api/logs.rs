//! What is known of a deployment for who looks for a cause: its logs by run, and all of it in one document.
//! Both may tell what a user's script told, so they are its user's and administrators'.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::{Number, Path, deployment_id};
use super::super::view;
use super::Asked;
use crate::api::{ConsoleEndView, DeploymentExport, JournalEntry, LogsView, RunView, ScriptView};
use crate::clock;
use crate::permission::Action;
use crate::store::{ConsoleEnd, JournalId, ScriptOutput, StoredDeployment};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use piseduce_protocol::id::Run;
use serde::Deserialize;

/// The version of the exported document.
const EXPORT_SCHEMA: u32 = 1;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/deployments/{id}/logs", get(logs)).route("/deployments/{id}/export", get(export))
}

/// Which part of the logs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// The run; the present one if none is named.
    run: Option<u32>,
    /// The last journal entry that is known already.
    #[serde(default)]
    after_entry: Number,
    /// The last line of an agent that is known already.
    #[serde(default)]
    after_line: Number,
}

/// The deployment, if it is the asker's.
async fn own(shared: &Shared, asker: &Asker, id: &str) -> Result<StoredDeployment, ApiError> {
    asker.check(Action::Look)?;
    let missing = || ApiError::missing("deployment", id);
    let stored = shared.store.deployment(deployment_id(id)?).await?.ok_or_else(missing)?;
    asker.check(Action::Control { owner: &stored.owner })?;
    Ok(stored)
}

async fn logs(
    State(shared): State<Shared>,
    asker: Asker,
    Path(id): Path<String>,
    Asked(part): Asked<Part>,
) -> Result<Json<LogsView>, ApiError> {
    let stored = own(&shared, &asker, &id).await?;
    let now = &stored.deployment;
    let run = part.run.map_or(now.run, Run);
    if !(1..=now.run.0).contains(&run.0) {
        let message = format!("deployment {id} has no run {run}");
        return Err(ApiError::invalid(message, &format!("its runs are 1 to {}", now.run)));
    }
    let journal = shared.store.journal_of_run(now.id, run, JournalId(part.after_entry.0)).await?;
    let lines = shared.store.agent_lines(now.id, run, part.after_line.0).await?;
    let outputs = shared.store.outputs(now.id).await?;
    let consoles = shared.store.console_ends(now.id).await?;
    Ok(Json(LogsView {
        deployment: now.id,
        node: stored.node.attributes.name.clone(),
        run,
        present_run: now.run,
        state: now.state(),
        journal: journal.into_iter().map(view::entry).collect(),
        agent: lines.into_iter().map(view::agent_line).collect(),
        script: of_run(&outputs, run),
        console: end_of_run(&consoles, run),
    }))
}

fn of_run(outputs: &[ScriptOutput], run: Run) -> Option<ScriptView> {
    outputs.iter().find(|output| output.run == run).map(view::script)
}

fn end_of_run(ends: &[ConsoleEnd], run: Run) -> Option<ConsoleEndView> {
    ends.iter().find(|end| end.run == run).map(view::console_end)
}

/// What an export holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extent {
    /// Whether the user's script is in it.
    #[serde(default)]
    script: bool,
}

async fn export(
    State(shared): State<Shared>,
    asker: Asker,
    Path(id): Path<String>,
    Asked(extent): Asked<Extent>,
) -> Result<Json<DeploymentExport>, ApiError> {
    let stored = own(&shared, &asker, &id).await?;
    let now = &stored.deployment;
    let journal = shared.store.journal_of(now.id).await?;
    let journal: Vec<JournalEntry> = journal.into_iter().map(view::entry).collect();
    let outputs = shared.store.outputs(now.id).await?;
    let consoles = shared.store.console_ends(now.id).await?;
    let mut runs = Vec::new();
    for run in (1..=now.run.0).map(Run) {
        let lines = shared.store.agent_lines(now.id, run, 0).await?;
        let agent = lines.into_iter().map(view::agent_line).collect();
        let (script, console) = (of_run(&outputs, run), end_of_run(&consoles, run));
        runs.push(RunView { run, agent, script, console });
    }
    let form = now.form.as_ref();
    let library = shared.library.clone();
    let manifest = form.map(|form| form.manifest);
    let read = tokio::task::spawn_blocking(move || manifest.map(|name| library.manifest(name)).transpose());
    let image = read.await.expect("reading does not panic").map_err(|error| ApiError::ours(&error))?;
    Ok(Json(DeploymentExport {
        schema: EXPORT_SCHEMA,
        exported_unix_ms: clock::unix_ms().0,
        coordinator: env!("CARGO_PKG_VERSION").into(),
        node: view::attributes(stored.node.attributes.clone()),
        deployment: view::deployment(&shared, &stored),
        form: form.map(|form| view::form(form, extent.script)),
        image: image.flatten().map(|manifest| view::image(&manifest)),
        causes: journal.iter().filter(|entry| entry.cause.is_some()).cloned().collect(),
        journal,
        agents: shared.store.agent_hellos(now.id).await?.into_iter().map(view::agent).collect(),
        runs,
    }))
}

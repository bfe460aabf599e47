//! Environments: what can be deployed.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::view;
use crate::api::{EnvironmentView, RemovedView};
use crate::clock;
use crate::permission::Action;
use crate::runner::jobs::sweep_soon;
use crate::store::Actor;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/environments", get(list)).route("/environments/{name}", get(show).delete(remove))
}

async fn list(State(shared): State<Shared>, asker: Asker) -> Result<Json<Vec<EnvironmentView>>, ApiError> {
    asker.check(Action::Look)?;
    let environments = shared.store.environments().await?;
    Ok(Json(environments.into_iter().map(view::environment).collect()))
}

async fn show(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<EnvironmentView>, ApiError> {
    asker.check(Action::Look)?;
    let found = shared.store.environments().await?.into_iter().find(|known| known.name == name);
    let known = found.ok_or_else(|| ApiError::missing("environment", &name))?;
    let (library, image) = (shared.library.clone(), known.manifest);
    let read = tokio::task::spawn_blocking(move || library.manifest(image)).await;
    let manifest = read.expect("reading does not panic").map_err(|error| ApiError::ours(&error))?;
    let image = manifest.map(|manifest| view::image(&manifest));
    Ok(Json(EnvironmentView { image, ..view::environment(known) }))
}

/// Removes the environment; its image goes when nothing uses it any more.
async fn remove(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<RemovedView>, ApiError> {
    asker.check(Action::Administer)?;
    let actor = Actor::User(asker.0.name);
    let users = shared.store.remove_environment(name.clone(), clock::unix_ms(), actor).await?;
    tokio::spawn(sweep_soon(shared.library.clone(), shared.store.clone()));
    Ok(Json(RemovedView {
        name,
        kept_for_deployments: users.deployments,
        kept_for_environments: users.environments,
    }))
}

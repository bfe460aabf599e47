//! Environments: what can be deployed.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::view;
use crate::api::EnvironmentView;
use crate::clock;
use crate::permission::Action;
use crate::runner::jobs::sweep;
use crate::store::Actor;
use axum::extract::{Path, State};
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
    found.map(|known| Json(view::environment(known))).ok_or_else(|| ApiError::missing("environment", &name))
}

/// Removes the environment; its image goes when no deployment uses it any more.
async fn remove(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<(), ApiError> {
    asker.check(Action::Administer)?;
    let actor = Actor::User(asker.0.name);
    shared.store.remove_environment(name, clock::unix_ms(), actor).await?;
    match sweep(&shared.library, &shared.store).await {
        Ok(swept) => tracing::info!(?swept, "images swept"),
        // The environment is gone all the same; the files go with the next sweep.
        Err(error) => tracing::warn!(%error, "images could not be swept"),
    }
    Ok(())
}

//! What becomes of a node: out of service and back, another board, another place, and its end.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::view;
use super::Body;
use crate::api::{ChangeRequest, DrainRequest, NodeView};
use crate::clock;
use crate::domain::node::{NodeAttributes, OutOfService};
use crate::machine::event::Request;
use crate::permission::Action;
use crate::store::Actor;
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use piseduce_protocol::state::State as DeploymentState;

/// The longest reason, in bytes: it is shown in tables.
const REASON_BYTES_MAX: usize = 200;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/nodes/{name}/drain", post(drain))
        .route("/nodes/{name}/resume", post(resume))
        .route("/nodes/{name}/change", post(change))
        .route("/nodes/{name}/retire", post(retire))
}

async fn shown(shared: &Shared, name: &str) -> Result<Json<NodeView>, ApiError> {
    shared.runner.inventory_changed().await?;
    let known = shared.board.node(name).ok_or_else(|| ApiError::missing("node", name))?;
    Ok(Json(view::node(shared, &known)))
}

async fn drain(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
    Body(request): Body<DrainRequest>,
) -> Result<Json<NodeView>, ApiError> {
    asker.check(Action::Administer)?;
    let reason = request.reason.trim().to_owned();
    if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
        let message = format!("a reason has 1 to {REASON_BYTES_MAX} bytes");
        return Err(ApiError::invalid(message, "say it to those who want the node"));
    }
    let (by, since) = (asker.0.name, clock::unix_ms());
    let out = OutOfService { reason, by: by.clone(), since };
    shared.store.set_out(name.clone(), Some(out), since, Actor::User(by)).await?;
    shown(&shared, &name).await
}

async fn resume(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<NodeView>, ApiError> {
    asker.check(Action::Administer)?;
    shared.store.set_out(name.clone(), None, clock::unix_ms(), Actor::User(asker.0.name)).await?;
    shown(&shared, &name).await
}

async fn change(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
    Body(request): Body<ChangeRequest>,
) -> Result<Json<NodeView>, ApiError> {
    asker.check(Action::Administer)?;
    let known = shared.board.node(&name).ok_or_else(|| ApiError::missing("node", &name))?;
    let before = known.node.attributes;
    let after = NodeAttributes {
        serial: request.serial.unwrap_or(before.serial),
        mac: request.mac.unwrap_or_else(|| before.mac.clone()),
        model: request.model.unwrap_or_else(|| before.model.clone()),
        switch: request.switch.unwrap_or_else(|| before.switch.clone()),
        port: request.port.unwrap_or_else(|| before.port.clone()),
        ..before
    };
    let after =
        after.checked().map_err(|error| ApiError::invalid(error.to_string(), "nothing was changed"))?;
    shared.store.import(vec![], vec![after], clock::unix_ms(), Actor::User(asker.0.name)).await?;
    shown(&shared, &name).await
}

/// A node that is free or quarantined is none any more.
async fn retire(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<NodeView>, ApiError> {
    asker.check(Action::Administer)?;
    let known = shared.board.node(&name).ok_or_else(|| ApiError::missing("node", &name))?;
    let last = view::node(&shared, &known);
    let live = known.deployment.map(|deployment| deployment.live.deployment);
    if let Some(live) = live.filter(|live| live.state() == DeploymentState::Quarantined) {
        shared.runner.ask(live.id, Request::Retire, &asker.0.name).await?;
    }
    shared.store.retire(name, clock::unix_ms(), Actor::User(asker.0.name)).await?;
    shared.runner.inventory_changed().await?;
    Ok(Json(last))
}

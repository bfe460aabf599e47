//! What becomes of a node: out of service and back, another board, another place, and its end.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::view;
use super::Body;
use super::requests::once;
use crate::api::{ChangeRequest, DrainRequest, NodeRequest, NodeRequestResult, NodeRequests, NodeView};
use crate::clock;
use crate::domain::node::{NodeAttributes, OutOfService};
use crate::machine::event::Request;
use crate::permission::Action;
use crate::runner::{NodeView as KnownNode, OnRefusal};
use crate::store::{Actor, Conflict};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use piseduce_protocol::id::DeploymentId;
use piseduce_protocol::state::State as DeploymentState;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest reason, in bytes: it is shown in tables.
const REASON_BYTES_MAX: usize = 200;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/nodes/{name}/drain", post(drain))
        .route("/nodes/{name}/resume", post(resume))
        .route("/nodes/{name}/change", post(change))
        .route("/nodes/{name}/retire", post(retire_one))
        .route("/node-requests", post(ask_many))
}

async fn ask_many(
    State(shared): State<Shared>,
    asker: Asker,
    Body(wanted): Body<NodeRequests>,
) -> Result<Json<Vec<NodeRequestResult>>, ApiError> {
    let results = ask(&shared, &asker, wanted.request, once(wanted.nodes)?).await?;
    let told = results.into_iter().map(|(name, done)| match done {
        Ok(node) => NodeRequestResult { name, node: Some(node), refusal: None },
        Err(error) => NodeRequestResult { name, node: None, refusal: Some(error.into_body()) },
    });
    Ok(Json(told.collect()))
}

/// What became of each node that was named.
type Results = Vec<(String, Result<NodeView, ApiError>)>;

/// Does with all these nodes what can be done, in one step.
async fn ask(
    shared: &Shared,
    asker: &Asker,
    request: NodeRequest,
    nodes: Vec<String>,
) -> Result<Results, ApiError> {
    asker.check(Action::Administer)?;
    let by = asker.0.name.clone();
    let (now, actor) = (clock::unix_ms(), Actor::User(by.clone()));
    if request == NodeRequest::Retire {
        return retire(shared, asker, nodes).await;
    }
    let out = match request {
        NodeRequest::Drain { reason } => Some(OutOfService { reason: checked(&reason)?, by, since: now }),
        NodeRequest::Resume | NodeRequest::Retire => None,
    };
    let set = shared.store.set_out(nodes.clone(), out, now, actor).await?;
    shared.runner.inventory_changed().await?;
    let shown = |(name, set): (String, Result<(), Conflict>)| {
        let known = shared.board.node(&name).ok_or_else(|| ApiError::missing("node", &name));
        let node = set.map_err(ApiError::from).and(known).map(|known| view::node(shared, &known));
        (name, node)
    };
    Ok(nodes.into_iter().zip(set).map(shown).collect())
}

async fn ask_one(
    shared: &Shared,
    asker: &Asker,
    request: NodeRequest,
    name: String,
) -> Result<Json<NodeView>, ApiError> {
    let mut results = ask(shared, asker, request, vec![name]).await?;
    let (_, node) = results.pop().expect("one node was named");
    Ok(Json(node?))
}

/// A reason as it is shown.
fn checked(reason: &str) -> Result<String, ApiError> {
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
        let message = format!("a reason has 1 to {REASON_BYTES_MAX} bytes");
        return Err(ApiError::invalid(message, "say it to those who want the node"));
    }
    Ok(reason.into())
}

async fn drain(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
    Body(request): Body<DrainRequest>,
) -> Result<Json<NodeView>, ApiError> {
    ask_one(&shared, &asker, NodeRequest::Drain { reason: request.reason }, name).await
}

async fn resume(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<NodeView>, ApiError> {
    ask_one(&shared, &asker, NodeRequest::Resume, name).await
}

async fn retire_one(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<NodeView>, ApiError> {
    ask_one(&shared, &asker, NodeRequest::Retire, name).await
}

async fn change(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
    Body(request): Body<ChangeRequest>,
) -> Result<Json<NodeView>, ApiError> {
    asker.check(Action::Administer)?;
    let known = shared.board.node(&name).ok_or_else(|| ApiError::missing("node", &name))?;
    let before = known.node.attributes.clone();
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
    shared.runner.inventory_changed().await?;
    let known = shared.board.node(&name).ok_or_else(|| ApiError::missing("node", &name))?;
    Ok(Json(view::node(&shared, &known)))
}

/// Nodes that are free or quarantined are none any more.
async fn retire(shared: &Shared, asker: &Asker, nodes: Vec<String>) -> Result<Results, ApiError> {
    let user = &asker.0.name;
    let known: BTreeMap<String, Arc<KnownNode>> =
        nodes.iter().filter_map(|name| Some((name.clone(), shared.board.node(name)?))).collect();
    let quarantined = nodes.iter().filter_map(|name| {
        let live = &known.get(name)?.deployment.as_ref()?.live.deployment;
        (live.state() == DeploymentState::Quarantined).then_some((name, live.id))
    });
    let (named, ids): (Vec<&String>, Vec<DeploymentId>) = quarantined.unzip();
    let asked = ids.into_iter().map(|id| (id, Request::Retire)).collect();
    let answers = shared.runner.ask_all(asked, user, OnRefusal::DoTheOthers).await?;
    // They are retired with the end of their deployments; of what refuses the store says who has it now.
    let mut retired: BTreeMap<String, Result<(), Conflict>> = BTreeMap::new();
    let ended = named.into_iter().zip(answers).filter(|(_, answer)| answer.is_ok());
    retired.extend(ended.map(|(name, _)| (name.clone(), Ok(()))));
    let rest: Vec<String> = nodes.iter().filter(|name| !retired.contains_key(*name)).cloned().collect();
    let of_rest = shared.store.retire(rest.clone(), clock::unix_ms(), Actor::User(user.clone())).await?;
    retired.extend(rest.into_iter().zip(of_rest));
    shared.runner.inventory_changed().await?;
    let shown = |name: String| {
        let last = known.get(&name).map(|known| view::node(shared, known));
        let last = last.ok_or_else(|| ApiError::missing("node", &name));
        let done = retired.remove(&name).unwrap_or(Ok(()));
        (name, done.map_err(ApiError::from).and(last))
    };
    Ok(nodes.into_iter().map(shown).collect())
}

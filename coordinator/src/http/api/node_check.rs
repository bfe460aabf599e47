//! What guards find at a node, by what its agent last said of it.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::Path;
use crate::api::{CardView, FindingView, NodeCheckView};
use crate::domain::guard::{self, Finding, Guards};
use crate::permission::Action;
use crate::store::AgentHello;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use piseduce_protocol::report::Hello;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/nodes/{name}/check", get(check))
}

async fn check(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<NodeCheckView>, ApiError> {
    asker.check(Action::Look)?;
    let known = shared.board.node(&name).ok_or_else(|| ApiError::missing("node", &name))?;
    let heard = shared.store.last_hello(known.node.id).await?;
    Ok(Json(view(name, heard, &shared.guards)))
}

fn view(node: String, heard: Option<AgentHello>, guards: &Guards) -> NodeCheckView {
    // A newer coordinator may have left words that this one does not know.
    let hello = heard.as_ref().and_then(|heard| serde_json::from_str::<Hello>(&heard.hello).ok());
    let heard_unix_ms = hello.is_some().then(|| heard.map(|heard| heard.at.0)).flatten();
    let findings = hello.iter().flat_map(|hello| guard::examine(&hello.model, &hello.bootloader));
    let findings = findings.map(|finding| of_finding(&finding, guards)).collect();
    let card = hello.as_ref().and_then(|hello| hello.card.as_ref());
    let card = card.map(|card| CardView { bytes: card.bytes, cid: card.cid.clone() });
    let (model, facts) = hello.map(|hello| (hello.model, hello.bootloader)).unzip();
    NodeCheckView { node, heard_unix_ms, model, card, facts: facts.unwrap_or_default(), findings }
}

fn of_finding(finding: &Finding, guards: &Guards) -> FindingView {
    FindingView {
        name: finding.kind.name().into(),
        action: guards.action(finding).name().into(),
        seen: finding.seen.clone(),
        remedy: guard::guard(finding.kind).map_or("", |guard| guard.remedy).into(),
    }
}

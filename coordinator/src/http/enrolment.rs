//! Invited boards tell what they are. Each bears the ticket that it fetched with the boot root's command line.

use super::Shared;
use super::error::ApiError;
use super::extract::{Content, Path};
use crate::clock;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use piseduce_protocol::enrolment::{BoardInventory, INVENTORY_BYTES_MAX};
use piseduce_protocol::path;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route(&path::enrolment("{ticket}"), post(told))
        .layer(DefaultBodyLimit::max(INVENTORY_BYTES_MAX))
}

async fn told(
    State(shared): State<Shared>,
    Path(ticket): Path<String>,
    Content(body): Content,
) -> Result<StatusCode, ApiError> {
    let inventory = BoardInventory::decode(&body).ok_or_else(|| {
        ApiError::invalid("that is no inventory", "agent and coordinator must be of one version")
    })?;
    let (serial, mac, model) = (inventory.serial, inventory.mac.clone(), inventory.model.clone());
    if !shared.strangers.told(&ticket, inventory, clock::now()) {
        return Err(ApiError::missing("invitation", &ticket));
    }
    tracing::info!(%serial, mac, model, "an invited board told what it is");
    Ok(StatusCode::NO_CONTENT)
}

//! Boards that ask what to boot and are not registered, with the switch port where each is seen.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::seen_at::SeenAt;
use crate::api::DiscoveredView;
use crate::netboot::Stranger;
use crate::permission::Action;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/discovered", get(list))
}

async fn list(State(shared): State<Shared>, asker: Asker) -> Result<Json<Vec<DiscoveredView>>, ApiError> {
    asker.check(Action::Administer)?;
    // Who was registered meanwhile is known again with its next question.
    let is_registered = |stranger: &Stranger| {
        let mac = stranger.mac.as_deref();
        !shared.board.matching(|node| Some(node.attributes.mac.as_str()) == mac).is_empty()
    };
    let strangers: Vec<Stranger> =
        shared.strangers.all().into_iter().filter(|stranger| !is_registered(stranger)).collect();
    if strangers.is_empty() {
        return Ok(Json(Vec::new()));
    }
    let seen_at = SeenAt::ask(&shared).await;
    Ok(Json(strangers.into_iter().map(|stranger| view(stranger, &seen_at)).collect()))
}

fn view(stranger: Stranger, seen_at: &SeenAt) -> DiscoveredView {
    let (switch, port) = seen_at.place(stranger.mac.as_deref());
    DiscoveredView {
        mac: stranger.mac,
        serial_end: stranger.serial_end.map(|end| format!("{end:08x}")),
        model: stranger.model.map(Into::into),
        address: stranger.address.to_string(),
        switch,
        port,
        file: stranger.file,
        first_unix_ms: stranger.first.0,
        last_unix_ms: stranger.last.0,
        questions: stranger.questions,
    }
}

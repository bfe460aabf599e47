//! Boards that ask what to boot and are not registered, with the switch port where each is seen.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use crate::api::DiscoveredView;
use crate::netboot::Stranger;
use crate::permission::Action;
use crate::power::Station;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use std::time::Duration;

/// How long all switches together may take to say what they have seen.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

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
    let seen = stations(&shared).await;
    Ok(Json(strangers.into_iter().map(|stranger| view(stranger, &seen)).collect()))
}

/// The addresses that each switch has seen; switches that do not answer have seen none.
async fn stations(shared: &Shared) -> Vec<(String, Vec<Station>)> {
    let asking = shared.lines.all().into_iter().map(|(switch, line)| async move {
        let asked = tokio::time::timeout(SEEN_WITHIN, line.ask(|switch| switch.stations())).await;
        (switch.attributes.name, asked.ok().and_then(Result::ok).flatten().unwrap_or_default())
    });
    futures_util::future::join_all(asking).await
}

fn view(stranger: Stranger, seen: &[(String, Vec<Station>)]) -> DiscoveredView {
    let at = seen.iter().find_map(|(switch, stations)| {
        let station = stations.iter().find(|station| Some(&station.mac) == stranger.mac.as_ref())?;
        Some((switch.clone(), station.port.clone()))
    });
    let (switch, port) = at.unzip();
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

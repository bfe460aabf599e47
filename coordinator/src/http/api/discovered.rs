//! Boards that ask what to boot and are not registered, with the switch port where each is seen.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::seen_at::SeenAt;
use crate::api::{BoardView, CardView, DiscoveredView, InvitedView};
use crate::clock;
use crate::netboot::Stranger;
use crate::permission::Action;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use piseduce_protocol::enrolment::BoardInventory;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/discovered", get(list)).route("/discovered/{mac}/invite", post(invite))
}

async fn list(State(shared): State<Shared>, asker: Asker) -> Result<Json<Vec<DiscoveredView>>, ApiError> {
    asker.check(Action::Administer)?;
    // Who was registered meanwhile is known again with its next question.
    let is_registered =
        |stranger: &Stranger| stranger.mac.as_deref().is_some_and(|mac| shared.board.by_mac(mac).is_some());
    let strangers: Vec<Stranger> =
        shared.strangers.all().into_iter().filter(|stranger| !is_registered(stranger)).collect();
    if strangers.is_empty() {
        return Ok(Json(Vec::new()));
    }
    let seen_at = SeenAt::ask(&shared).await;
    Ok(Json(strangers.into_iter().map(|stranger| view(stranger, &seen_at)).collect()))
}

/// With its next boot the board gets the boot root, without credentials, and tells there what it is.
async fn invite(
    State(shared): State<Shared>,
    asker: Asker,
    Path(mac): Path<String>,
) -> Result<Json<InvitedView>, ApiError> {
    asker.check(Action::Administer)?;
    if shared.boot_roots.current().is_none() {
        return Err(ApiError::conflict(
            "no_boot_root",
            "there is no boot root that a board could be invited into",
            "`piseduce boot-root build` makes one",
        ));
    }
    let mut ticket = [0; 16];
    getrandom::fill(&mut ticket)
        .map_err(|error| ApiError::unavailable(format!("no random bytes: {error}"), "try again"))?;
    let ticket: String = ticket.iter().map(|byte| format!("{byte:02x}")).collect();
    if !shared.strangers.invite(&mac, &ticket, clock::now()) {
        return Err(ApiError::missing("board that asks and is not registered", &mac));
    }
    tracing::info!(mac, by = asker.0.name, "a board is invited into the boot root");
    Ok(Json(InvitedView { mac }))
}

fn of_board(inventory: BoardInventory) -> BoardView {
    BoardView {
        serial: inventory.serial,
        model: inventory.model,
        memory_bytes: inventory.memory_kib * 1024,
        card: inventory.card.map(|card| CardView { bytes: card.bytes, cid: card.cid }),
        facts: inventory.bootloader,
    }
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
        inventory: stranger.inventory.map(of_board),
    }
}

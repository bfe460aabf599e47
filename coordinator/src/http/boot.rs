//! The boot view of a node for firmware that boots over HTTP. Every request is a sign of life.

use super::Shared;
use super::error::ApiError;
use crate::clock;
use crate::machine::event::Asked;
use crate::netboot::question::Novelty;
use crate::netboot::view::View;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use piseduce_protocol::id::Serial;
use serde::Serialize;
use std::sync::PoisonError;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/boot/v1/{serial}", get(boot_view))
}

/// What the firmware does next.
#[derive(Serialize)]
struct BootView {
    /// `boot_root`, `card` or `hold`.
    view: &'static str,
    /// The kernel command line, for the boot root.
    command_line: Option<String>,
}

async fn boot_view(
    State(shared): State<Shared>,
    Path(serial): Path<String>,
) -> Result<Json<BootView>, ApiError> {
    let missing = || ApiError::missing("node with serial number", &serial);
    let number: Serial = serial.parse().map_err(|_| missing())?;
    let known = shared.board.by_serial(number).ok_or_else(missing)?;
    let view = known.boot_view();
    let (name, command_line) = match view {
        View::Card => ("card", None),
        View::Hold => ("hold", None),
        View::BootRoot(boot) => ("boot_root", Some(shared.command_lines.of(number, boot))),
    };
    let novelty = {
        let mut questions = shared.questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions.ask(number, known.boot(), name, clock::now())
    };
    let asked = match (novelty, view) {
        // The answer is all that it fetches.
        (Some(Novelty::Name), View::BootRoot(_)) => Asked::Kernel,
        (Some(Novelty::Name), View::Card | View::Hold) => Asked::New,
        // And the only question of a boot.
        (Some(Novelty::Burst) | None, _) => Asked::Again,
    };
    shared.runner.boot_asked(number, asked).await?;
    Ok(Json(BootView { view: name, command_line }))
}

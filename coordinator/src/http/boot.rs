//! The boot view of a node for firmware that boots over HTTP. Every request is a sign of life.

use super::Shared;
use super::error::ApiError;
use crate::netboot::view::View;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use piseduce_protocol::boot::BootParameters;
use piseduce_protocol::id::Serial;
use serde::Serialize;

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
    let view = match known.boot_view() {
        View::Card => BootView { view: "card", command_line: None },
        View::Hold => BootView { view: "hold", command_line: None },
        View::BootRoot(boot) => {
            let parameters = BootParameters {
                site: shared.site.clone(),
                broker: shared.broker.clone(),
                head: shared.head.clone(),
                serial: number,
                boot,
                token: shared.credentials.boot_token(number, boot),
                account: shared.agents.clone(),
            };
            BootView { view: "boot_root", command_line: Some(parameters.render()) }
        }
    };
    shared.runner.boot_asked(number).await?;
    Ok(Json(view))
}

//! Lets a node boot without an answer over TFTP, as if the head were away.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::Body;
use crate::api::SilenceRequest;
use crate::permission::Action;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use std::time::Duration;

/// Longer than any boot.
const SECONDS_MAX: u64 = 900;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/nodes/{name}/silence", post(keep))
}

async fn keep(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
    Body(SilenceRequest { seconds }): Body<SilenceRequest>,
) -> Result<Json<()>, ApiError> {
    asker.check(Action::Administer)?;
    let known = shared.board.node(&name).ok_or_else(|| ApiError::missing("node", &name))?;
    if seconds > SECONDS_MAX {
        let message = format!("{seconds} s are too long");
        return Err(ApiError::invalid(message, &format!("0 to {SECONDS_MAX} s are allowed")));
    }
    let conflict = |message: String, hint: &str| ApiError::conflict("no_silence", message, hint);
    if known.node.attributes.is_pi3() {
        let message = format!("node `{name}` is a Pi 3, which boots its card over the network only");
        return Err(conflict(message, "without the head it stays dark until the head is back"));
    }
    let silence = shared.silence.as_ref().ok_or_else(|| {
        conflict("this coordinator serves no TFTP".into(), "set netboot.tftp and restart the coordinator")
    })?;
    let address = known.node.attributes.ip.ok_or_else(|| {
        conflict(format!("node `{name}` has no address of its own"), "give it an `ip` in the inventory")
    })?;
    silence.keep(address, Duration::from_secs(seconds)).map_err(|error| {
        ApiError::unavailable(format!("TFTP cannot be kept silent: {error}"), "try again later")
    })?;
    tracing::info!(node = name, seconds, by = asker.0.name, "TFTP does not answer this node");
    Ok(Json(()))
}

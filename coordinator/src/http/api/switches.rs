//! Switches: what a person says to have switched by hand.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use crate::api::SwitchedView;
use crate::permission::Action;
use crate::power::{Port, PowerError};
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/switches/{name}/ports/{port}/done", post(done))
}

async fn done(
    State(shared): State<Shared>,
    asker: Asker,
    Path((name, port)): Path<(String, String)>,
) -> Result<Json<SwitchedView>, ApiError> {
    asker.check(Action::Administer)?;
    let (switch, line) = shared.lines.get(&name).ok_or_else(|| ApiError::missing("switch", &name))?;
    let refused = |error: PowerError| {
        let hint = "`piseduce node list` shows which ports wait for somebody";
        ApiError::conflict("refused", format!("switch {name}: {error}"), hint)
    };
    line.driver().confirm(&port).map_err(refused)?;
    let asked = Port { port, node: String::new() };
    let reading = line.ask(|driver| driver.read(&asked)).await.map_err(refused)?;
    tracing::info!(
        switch = name,
        port = asked.port,
        on = reading.on,
        user = asker.0.name,
        "switched by hand"
    );
    Ok(Json(SwitchedView { switch: switch.attributes.name, port: asked.port, on: reading.on }))
}

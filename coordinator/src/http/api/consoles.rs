//! Consoles of nodes: what is kept and what comes, as one stream of bytes; and what people type. A console is for
//! whoever holds the node, and for administrators.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::{Content, Path};
use super::Asked;
use crate::console::{Console, ConsoleError, WRITE_BYTES_MAX};
use crate::permission::Action;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use std::convert::Infallible;

/// Nobody knows what a node says.
const BYTES: [(axum::http::HeaderName, &str); 1] = [(CONTENT_TYPE, "application/octet-stream")];

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/nodes/{name}/console", get(show).post(write))
}

/// How much of a console.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// Whether to go on with what comes.
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

fn console(shared: &Shared, name: &str) -> Result<Console, ApiError> {
    shared.consoles.get(name).ok_or_else(|| match shared.board.node(name) {
        None => ApiError::missing("node", name),
        Some(_) => ApiError::conflict(
            "no_console",
            format!("node `{name}` has no console"),
            "an administrator gives it one: [node.console] in the inventory",
        ),
    })
}

fn check(shared: &Shared, asker: &Asker, name: &str) -> Result<(), ApiError> {
    asker.check(Action::Look)?;
    let known = shared.board.node(name).ok_or_else(|| ApiError::missing("node", name))?;
    match &known.deployment {
        Some(deployment) => asker.check(Action::Control { owner: &deployment.owner }),
        None => asker.check(Action::Administer),
    }
}

async fn show(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
    Asked(part): Asked<Part>,
) -> Result<Response, ApiError> {
    asker.check(Action::Look)?;
    let (kept, follower) = console(&shared, &name)?.follow();
    // Only now, so that whoever loses the node from here on is sent away with the console.
    check(&shared, &asker, &name)?;
    if !part.follow {
        return Ok((BYTES, kept).into_response());
    }
    let stream = shared.streams.open(&asker.0.name)?;
    let pieces =
        stream::unfold((Some(Bytes::from(kept)), follower, stream), async |(kept, mut follower, stream)| {
            let piece = match kept {
                Some(kept) => kept,
                None => follower.next().await?,
            };
            Some((Ok::<Bytes, Infallible>(piece), (None, follower, stream)))
        });
    Ok((BYTES, Body::from_stream(pieces)).into_response())
}

async fn write(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
    Content(bytes): Content,
) -> Result<Json<()>, ApiError> {
    check(&shared, &asker, &name)?;
    let console = console(&shared, &name)?;
    console.write(bytes.to_vec()).await.map(Json).map_err(|error| {
        let message = format!("nothing was typed at node `{name}`: {error}");
        match error {
            ConsoleError::ReadOnly => ApiError::conflict(
                "read_only",
                message,
                "an administrator allows it: `write = true` in the node's [node.console]",
            ),
            ConsoleError::TooMuch(_) => {
                ApiError::invalid(message, &format!("send it in pieces of at most {WRITE_BYTES_MAX} bytes"))
            }
            ConsoleError::Serial(_) => ApiError::conflict("unplugged", message, ""),
        }
    })
}

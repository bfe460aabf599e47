//! Images as nodes fetch them: manifests and chunks, immutable and trusted by their hashes only, and
//! the configuration bundle of a run, locked for the node's present boot.

use super::Shared;
use super::error::ApiError;
use super::extract::{Number, Path};
use super::token_address;
use crate::netboot::alarm::Wanted;
use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use piseduce_protocol::id::{DeploymentId, Hash, Run};
use std::net::SocketAddr;

/// Content under its own hash never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/manifests/{name}", get(manifest))
        .route("/chunks/{hash}", get(chunk))
        .route("/bundles/{deployment}/{run}", get(bundle))
}

async fn manifest(State(shared): State<Shared>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let missing = || ApiError::missing("manifest", &name);
    let hash: Hash = name.parse().map_err(|_| missing())?;
    let library = shared.library.clone();
    let read = tokio::task::spawn_blocking(move || library.manifest_bytes(hash)).await;
    let bytes = read.expect("reading does not panic").map_err(|error| ApiError::ours(&error))?;
    Ok(immutable(hash, bytes.ok_or_else(missing)?))
}

async fn chunk(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let missing = || ApiError::missing("chunk", &name);
    let hash: Hash = name.parse().map_err(|_| missing())?;
    let library = shared.library.clone();
    let packed = accepts_zstd(&headers);
    let read = tokio::task::spawn_blocking(move || {
        let Some(chunk) = library.chunk(hash)? else { return Ok(None) };
        let frame = chunk.frame()?;
        match packed {
            true => Ok(Some(frame)),
            // A frame that does not unpack is a damaged pack; what comes out has not the hash asked for.
            false => Ok(Some(zstd::bulk::decompress(&frame, chunk.bytes as usize).unwrap_or_default())),
        }
    });
    let read: Result<_, crate::image::LibraryError> = read.await.expect("reading does not panic");
    let bytes = read.map_err(|error| ApiError::ours(&error))?.ok_or_else(missing)?;
    let mut response = immutable(hash, bytes);
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    if packed {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    }
    Ok(response)
}

fn accepts_zstd(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| coding.trim() == "zstd")
}

fn immutable(hash: Hash, bytes: Vec<u8>) -> Response {
    let headers = [(CACHE_CONTROL, IMMUTABLE.to_owned()), (ETAG, format!("\"{hash}\""))];
    (headers, bytes).into_response()
}

async fn bundle(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((Number(deployment), run)): Path<(Number, u32)>,
) -> Result<Vec<u8>, ApiError> {
    let (id, run) = (DeploymentId(deployment), Run(run));
    let missing = || ApiError::missing("bundle of deployment", &format!("{id}, run {run}"));
    let known = shared.board.by_deployment(id).ok_or_else(missing)?;
    let deployment = &known.deployment.as_ref().ok_or_else(missing)?.live.deployment;
    let boot = deployment.live_boot().filter(|_| deployment.run == run).ok_or_else(missing)?;
    token_address::check(&shared, &known, Wanted::Bundle, peer)?;
    let form = deployment.form.as_ref().ok_or_else(missing)?;
    let keys = shared.credentials.boot_keys(known.node.attributes.serial, boot);
    Ok(shared.credentials.bundle(&known.node, deployment, form, &shared.head).lock(&keys.bundle))
}

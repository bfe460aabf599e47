//! Reports of a written card about itself. The first line of the body is the token of the run: a card
//! speaks for its own run only, and only until it is over.

use super::Shared;
use super::error::ApiError;
use super::extract::{Content, Number, Path};
use super::token_address;
use crate::clock;
use crate::credentials::Proof;
use crate::machine::event::FirstBootSign;
use crate::netboot::alarm::Wanted;
use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::routing::post;
use piseduce_protocol::id::{DeploymentId, Hash, Run};
use std::net::SocketAddr;

/// The longest end of a script's output that is kept, in bytes.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/first-boot/v1/{deployment}/{run}/{what}", post(report))
        .route("/first-boot/v1/{deployment}/{run}/finished/{code}", post(finished))
}

async fn report(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((Number(deployment), run, what)): Path<(Number, u32, String)>,
    Content(body): Content,
) -> Result<StatusCode, ApiError> {
    let (sign, proof) = match what.as_str() {
        "booted" => (FirstBootSign::Booted, Proof::Booted),
        "started" => (FirstBootSign::ScriptStarted, Proof::FirstBoot),
        "interrupted" => (FirstBootSign::ScriptInterrupted, Proof::FirstBoot),
        other => return Err(ApiError::missing("report", other)),
    };
    let (deployment, run) = (DeploymentId(deployment), Run(run));
    check_board(&shared, deployment, peer)?;
    content(&shared, proof, deployment, run, &body).await?;
    shared.runner.first_boot(deployment, run, sign).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn finished(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((Number(deployment), run, code)): Path<(Number, u32, i32)>,
    Content(body): Content,
) -> Result<StatusCode, ApiError> {
    let (deployment, run) = (DeploymentId(deployment), Run(run));
    check_board(&shared, deployment, peer)?;
    let output = content(&shared, Proof::FirstBoot, deployment, run, &body).await?;
    let output = output[output.len().saturating_sub(OUTPUT_BYTES_MAX)..].to_vec();
    if shared.store.deployment(deployment).await?.is_some_and(|stored| stored.deployment.run == run) {
        shared.store.keep_output(deployment, run, code, output, clock::unix_ms()).await?;
    }
    shared.runner.first_boot(deployment, run, FirstBootSign::ScriptEnded(code)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A card speaks from its own board, as far as that can be seen.
fn check_board(shared: &Shared, deployment: DeploymentId, peer: SocketAddr) -> Result<(), ApiError> {
    match shared.board.by_deployment(deployment) {
        Some(known) => token_address::check_board(shared, &known, Wanted::FirstBoot, peer),
        None => Ok(()),
    }
}

/// What follows the token in a body whose token is right.
async fn content<'a>(
    shared: &Shared,
    proof: Proof,
    deployment: DeploymentId,
    run: Run,
    body: &'a [u8],
) -> Result<&'a [u8], ApiError> {
    let end = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
    // What the card was told, which is not what today's site key would tell it when the head was restored.
    let expected = match shared.store.card_proofs(deployment, run).await? {
        Some(proofs) if proof == Proof::Booted => proofs.booted,
        Some(proofs) => proofs.first_boot,
        None => return Err(ApiError::forbidden("the card of this run was never configured")),
    };
    // Comparing hashes takes the same time wherever the tokens differ.
    if blake3::hash(&Hash::of(body[..end].trim_ascii()).0) != blake3::hash(&expected.0) {
        return Err(ApiError::forbidden("the first line is not the token of this run"));
    }
    Ok(body.get(end + 1..).unwrap_or_default())
}

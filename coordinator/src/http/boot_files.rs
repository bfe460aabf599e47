//! Boot files that agents upload for boards that boot their card over the network only. Each request bears the proof that it
//! comes from the node's agent of this boot, and it is looked at before anything is read; what is not complete is served to nobody.

use super::Shared;
use super::error::ApiError;
use super::extract::{Content, Number, Path};
use super::token_address;
use super::uploads::{check_room, receive};
use crate::netboot::alarm::Wanted;
use crate::netboot::card_files::{CardFilesError, Owner};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::put;
use piseduce_protocol::boot_files::{FILE_BYTES_MAX, decode, proof};
use piseduce_protocol::id::{DeploymentId, Hash, Run};
use piseduce_protocol::path::{CONTENT_HEADER, PROOF_HEADER, boot_file, boot_file_list};
use std::net::SocketAddr;

/// A list of the most files that may be.
const LIST_BYTES_MAX: usize = 256 << 10;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/boot-files/v1/{deployment}/{run}/files/{*name}", put(file)).route(
        "/boot-files/v1/{deployment}/{run}/list",
        put(list).layer(DefaultBodyLimit::max(LIST_BYTES_MAX)),
    )
}

/// What an agent may prove itself by.
struct Sender {
    owner: Owner,
    key: [u8; 32],
}

/// The agent that works for this run now.
fn sender(shared: &Shared, id: DeploymentId, run: Run, peer: SocketAddr) -> Result<Sender, ApiError> {
    let missing = || ApiError::missing("agent at work for deployment", &format!("{id}, run {run}"));
    let known = shared.board.by_deployment(id).ok_or_else(missing)?;
    let deployment = &known.deployment.as_ref().ok_or_else(missing)?.live.deployment;
    let boot = deployment.live_boot().filter(|_| deployment.run == run).ok_or_else(missing)?;
    token_address::check(shared, &known, Wanted::Upload, peer)?;
    let serial = known.node.attributes.serial;
    let key = shared.credentials.boot_keys(serial, boot).upload;
    Ok(Sender { owner: Owner { serial, deployment: id, run }, key })
}

/// What will come, if its sender is the one.
#[derive(Clone, Copy)]
struct Announced {
    content: Hash,
    bytes: u64,
}

impl Sender {
    /// Looks at the proof, before a byte of the content is read.
    fn check(&self, headers: &HeaderMap, path: &str) -> Result<Announced, ApiError> {
        let shown = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let hash = |name| shown(name).and_then(|text| text.parse::<Hash>().ok());
        let length = shown(CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<u64>().ok());
        // Comparing hashes takes the same time wherever the proofs differ.
        let hashed = |proof: Hash| blake3::hash(&proof.0);
        match (hash(PROOF_HEADER), hash(CONTENT_HEADER), length) {
            (Some(shown), Some(content), Some(bytes))
                if hashed(shown) == hashed(proof(&self.key, path, content, bytes)) =>
            {
                Ok(Announced { content, bytes })
            }
            _ => Err(ApiError::forbidden("the proof is not that of the node's agent in this boot")),
        }
    }
}

/// Refuses content that is not what was announced.
fn check_content(found: Hash, announced: Announced) -> Result<(), ApiError> {
    if found == announced.content {
        return Ok(());
    }
    Err(ApiError::invalid("what came is not what was announced", "nothing was changed"))
}

async fn file(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((Number(deployment), run, name)): Path<(Number, u32, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let (id, run) = (DeploymentId(deployment), Run(run));
    let sender = sender(&shared, id, run, peer)?;
    let (owner, announced) = (sender.owner, sender.check(&headers, &boot_file(id, run, &name))?);
    let turn = shared.uploads.begin(owner)?;
    if announced.bytes > FILE_BYTES_MAX {
        return Err(CardFilesError::TooLarge.into());
    }
    check_room(&shared, announced.bytes)?;
    let (cards, file_name) = (shared.cards.clone(), name.clone());
    let begun = tokio::task::spawn_blocking(move || cards.receive(owner, &file_name, announced.bytes));
    let part = begun.await.expect("making a file does not panic")?;
    let mut written = part.reopen().map_err(|error| ApiError::ours(&error))?.into();
    let (_, content) = receive(body, &mut written, announced.bytes).await?;
    check_content(content, announced)?;
    shared.cards.received(owner, &name, part)?;
    drop(turn);
    Ok(StatusCode::NO_CONTENT)
}

async fn list(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((Number(deployment), run)): Path<(Number, u32)>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let (id, run) = (DeploymentId(deployment), Run(run));
    let sender = sender(&shared, id, run, peer)?;
    let announced = sender.check(request.headers(), &boot_file_list(id, run))?;
    let _turn = shared.uploads.begin(sender.owner)?;
    let Content(body) = Content::from_request(request, &shared).await?;
    check_content(Hash::of(&body), announced)?;
    let list = decode(&body).ok_or_else(|| ApiError::invalid("this is no list of boot files", ""))?;
    let (cards, board, owner) = (shared.cards.clone(), shared.board.clone(), sender.owner);
    let completed = tokio::task::spawn_blocking(move || {
        let completed = cards.complete(owner, "agent", &list);
        // Also of nodes that were freed since.
        cards.keep_only(|serial, deployment| {
            let card = board.by_serial(serial).and_then(|known| known.card());
            card.is_some_and(|card| card.deployment.to_string() == deployment)
        });
        completed
    });
    completed.await.expect("putting files in place does not panic")?;
    tracing::info!(node = %sender.owner.serial, deployment = %id, "its boot files are served as its card");
    Ok(StatusCode::NO_CONTENT)
}

impl From<CardFilesError> for ApiError {
    fn from(error: CardFilesError) -> Self {
        match &error {
            CardFilesError::Io { .. } => ApiError::ours(&error),
            CardFilesError::Archive(_) => ApiError::invalid(
                error.to_string(),
                "send a tar archive of the boot partition, such as `tar -C /boot/firmware -c .` prints",
            ),
            CardFilesError::Name(_) | CardFilesError::TooLarge | CardFilesError::Missing(_) => {
                ApiError::invalid(error.to_string(), "nothing was changed")
            }
        }
    }
}

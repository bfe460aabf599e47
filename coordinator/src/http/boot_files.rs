//! Boot files that agents upload for boards that boot their card over the network only. Each request bears the proof that it
//! comes from the node's agent of this boot; what is not complete is served to nobody.

use super::Shared;
use super::error::ApiError;
use super::extract::{Content, Number, Path};
use crate::netboot::card_files::{CardFilesError, Owner};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::put;
use futures_util::StreamExt as _;
use piseduce_protocol::boot_files::{FILE_BYTES_MAX, decode, proof};
use piseduce_protocol::id::{DeploymentId, Hash, Run};
use piseduce_protocol::path::{PROOF_HEADER, boot_file, boot_file_list};
use std::io::Write as _;

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
fn sender(shared: &Shared, id: DeploymentId, run: Run) -> Result<Sender, ApiError> {
    let missing = || ApiError::missing("agent at work for deployment", &format!("{id}, run {run}"));
    let known = shared.board.by_deployment(id).ok_or_else(missing)?;
    let deployment = &known.deployment.as_ref().ok_or_else(missing)?.live.deployment;
    let boot = deployment.live_boot().filter(|_| deployment.run == run).ok_or_else(missing)?;
    let serial = known.node.attributes.serial;
    let key = shared.credentials.boot_keys(serial, boot).upload;
    Ok(Sender { owner: Owner { serial, deployment: id, run }, key })
}

impl Sender {
    fn check(&self, headers: &HeaderMap, path: &str, content: Hash) -> Result<(), ApiError> {
        let shown = headers.get(PROOF_HEADER).and_then(|value| value.to_str().ok()?.parse::<Hash>().ok());
        // Comparing hashes takes the same time wherever the proofs differ.
        let hashed = |proof: Hash| blake3::hash(&proof.0);
        match shown {
            Some(shown) if hashed(shown) == hashed(proof(&self.key, path, content)) => Ok(()),
            _ => Err(ApiError::forbidden("the proof is not that of the node's agent in this boot")),
        }
    }
}

async fn file(
    State(shared): State<Shared>,
    Path((Number(deployment), run, name)): Path<(Number, u32, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let (id, run) = (DeploymentId(deployment), Run(run));
    let sender = sender(&shared, id, run)?;
    let mut part = shared.cards.receive(sender.owner, &name)?;
    let (mut hasher, mut bytes, mut pieces) = (blake3::Hasher::new(), 0, body.into_data_stream());
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| ApiError::invalid("the file ended early", "send it again"))?;
        bytes += piece.len() as u64;
        if bytes > FILE_BYTES_MAX {
            return Err(CardFilesError::TooLarge.into());
        }
        hasher.update(&piece);
        // Pieces are small, and the disk's cache takes them.
        part.write_all(&piece).map_err(|error| ApiError::ours(&error))?;
    }
    sender.check(&headers, &boot_file(id, run, &name), Hash(*hasher.finalize().as_bytes()))?;
    shared.cards.received(sender.owner, &name, part)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list(
    State(shared): State<Shared>,
    Path((Number(deployment), run)): Path<(Number, u32)>,
    headers: HeaderMap,
    Content(body): Content,
) -> Result<StatusCode, ApiError> {
    let (id, run) = (DeploymentId(deployment), Run(run));
    let sender = sender(&shared, id, run)?;
    sender.check(&headers, &boot_file_list(id, run), Hash::of(&body))?;
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

//! The boot files that a node boots its card with over the network: looked at, and renewed after its kernel was.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::uploads::{check_room, receive};
use crate::api::{BootFileView, BootFilesView};
use crate::netboot::card_files::{Description, Owner};
use crate::permission::Action;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use axum::routing::get;
use axum::{Json, Router};
use piseduce_protocol::boot_files::ALL_BYTES_MAX;
use std::io::Seek as _;

/// An archive may have more in it than is kept, such as boot files for other boards.
const ARCHIVE_BYTES_MAX: u64 = 2 * ALL_BYTES_MAX;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/nodes/{name}/boot-files", get(show).put(renew))
}

/// Whose card it is, for who may see and change it, and what is served as it.
fn card(shared: &Shared, asker: &Asker, name: &str) -> Result<(Owner, Option<Description>), ApiError> {
    asker.check(Action::Look)?;
    let known = shared.board.node(name).ok_or_else(|| ApiError::missing("node", name))?;
    match &known.deployment {
        Some(deployment) => asker.check(Action::Control { owner: &deployment.owner })?,
        None => asker.check(Action::Administer)?,
    }
    let found = known.card().map(|owner| (owner, shared.cards.description(owner)));
    // A head that was restored has none of a node that runs and needs them.
    let is_meant = known.node.attributes.is_pi3();
    found.filter(|(_, description)| is_meant || description.is_some()).ok_or_else(|| none(name))
}

fn none(name: &str) -> ApiError {
    ApiError::conflict(
        "no_boot_files",
        format!("node `{name}` boots no card over the network"),
        "boot files are there for a deployed Pi 3 only; other boards boot their card by themselves",
    )
}

fn view(name: String, description: Description) -> BootFilesView {
    let files = description.files.into_iter().map(|file| BootFileView { name: file.name, bytes: file.bytes });
    BootFilesView { node: name, since_unix_ms: description.since, by: description.by, files: files.collect() }
}

async fn show(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<BootFilesView>, ApiError> {
    let (_, description) = card(&shared, &asker, &name)?;
    let description = description.ok_or_else(|| none(&name))?;
    Ok(Json(view(name, description)))
}

async fn renew(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BootFilesView>, ApiError> {
    let (owner, _) = card(&shared, &asker, &name)?;
    let turn = shared.uploads.begin(owner)?;
    let told = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // It is there as it came, and once more unpacked.
    check_room(&shared, told.unwrap_or(ARCHIVE_BYTES_MAX).saturating_mul(2))?;
    let directory = shared.cards.directory().map_err(|error| ApiError::ours(&error))?;
    let mut archive = tempfile::tempfile_in(directory).map_err(|error| ApiError::ours(&error))?.into();
    receive(body, &mut archive, ARCHIVE_BYTES_MAX).await?;
    let mut archive = archive.into_std().await;
    archive.rewind().map_err(|error| ApiError::ours(&error))?;
    let (cards, by) = (shared.cards.clone(), asker.0.name);
    let unpacked = tokio::task::spawn_blocking(move || cards.unpack(owner, &by, archive));
    let description = unpacked.await.expect("unpacking does not panic")?;
    drop(turn);
    Ok(Json(view(name, description)))
}

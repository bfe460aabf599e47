//! What a running coordinator writes down so that its site key is never used with a store that went back.

use crate::clock;
use crate::credentials::Credentials;
use crate::data_directory::DataDirectory;
use crate::runner;
use crate::store::{HighWater, Store, StoreError};
use piseduce_protocol::seal::SiteKey;
use piseduce_protocol::state::State;
use std::time::Duration;

/// How often the mark beside the site key is renewed, if the store has come further: an older copy of the store is
/// noticed if it is older than that.
const MARK_EVERY: Duration = Duration::from_secs(60);

/// Keeps what the cards of deployments know that a version before this one configured, under the same site key.
///
/// # Errors
/// When the store fails.
pub(super) async fn keep_proofs(store: &Store, credentials: &Credentials) -> Result<(), StoreError> {
    let live = store.live_deployments().await?.into_iter();
    let unknown = live.filter(|stored| {
        let now = &stored.deployment;
        let reports = now.form.as_ref().is_some_and(|form| form.reports);
        reports && now.registered >= State::SystemConf && stored.host_key.is_none()
    });
    let proofs: Vec<_> = unknown.map(|stored| runner::card_proofs(credentials, &stored.deployment)).collect();
    if proofs.is_empty() { Ok(()) } else { store.add_card_proofs(proofs).await }
}

/// Writes down how far the store has come. Where that fails, less is noticed after the next start.
pub(super) async fn mark(data: &DataDirectory, key: &SiteKey, store: &Store) -> Option<HighWater> {
    let found = store.key_state().await.ok()?.high_water;
    let written = tokio::task::block_in_place(|| data.write_mark(key, found));
    written
        .inspect_err(|error| tracing::warn!(%error, "how far the store has come is not written down"))
        .ok()?;
    Some(found)
}

/// Goes on writing it down until the coordinator ends.
pub(super) async fn keep_marking(data: DataDirectory, key: SiteKey, store: Store) {
    let mut marked = None;
    loop {
        clock::sleep_until(clock::now() + MARK_EVERY).await;
        match store.key_state().await {
            Ok(state) if Some(state.high_water) != marked => marked = mark(&data, &key, &store).await,
            _ => {}
        }
    }
}

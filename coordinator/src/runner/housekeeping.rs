//! What a running coordinator does for its own directory, at its start and once a day: forgets what is over for
//! long, and says when the disk fills up.

use crate::clock;
use crate::image::Library;
use crate::store::{Pruned, Retention, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(24 * 3600);
/// How often a disk that was full is looked at.
const DISK_EVERY: Duration = Duration::from_secs(2);
/// How soon a clock that was not to be believed is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// Keeps the house until the coordinator ends. Nothing is forgotten while the calendar may not be trusted.
pub async fn keep(store: Store, library: Arc<Library>, retention: Retention, is_trusted: impl Fn() -> bool) {
    loop {
        look_at_free_space(&library);
        // Under a clock that stands years ahead everything would be old.
        let next = if is_trusted() {
            report(store.prune(retention, clock::unix_ms()).await);
            EVERY
        } else {
            LOOK_AGAIN
        };
        clock::sleep_until(clock::now() + next).await;
    }
}

/// Keeps room back on the disk again as soon as there is some, until the coordinator ends.
pub async fn watch_disk(store: Store) {
    loop {
        if store.trouble().is_some()
            && let Err(error) = store.look_at_disk().await
        {
            tracing::warn!(%error, "the disk cannot be looked at");
        }
        clock::sleep_until(clock::now() + DISK_EVERY).await;
    }
}

fn look_at_free_space(library: &Library) {
    match library.free_space() {
        Ok(space) if space.is_short() => {
            let (free, floor) = (space.free, space.floor);
            tracing::warn!(
                free,
                floor,
                "the disk is nearly full: no image is imported; see `piseduce doctor`"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "free space unknown"),
    }
}

fn report(pruned: Result<Pruned, StoreError>) {
    match pruned {
        Ok(nothing) if nothing == Pruned::default() => {}
        Ok(Pruned { deployments, outputs, notes, reservations, pages }) => {
            tracing::info!(deployments, outputs, notes, reservations, pages, "forgot what is over for long");
        }
        // What is not forgotten today is forgotten tomorrow.
        Err(error) => tracing::error!(%error, "what is over for long could not be forgotten"),
    }
}

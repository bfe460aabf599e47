//! What the service manager is told (sd_notify(3)): that we are up, that we end, and that we live. Without
//! one that listens, nothing happens.

use crate::clock;
use sd_notify::NotifyState;

/// We serve: units that wait for us may start.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// We are ending, because we were asked to or because something failed.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Says that we live, for as long as `is_alive` says so and as often as the service manager wants to hear it.
/// When nothing is said, it kills us and starts us again.
pub async fn keep_alive(is_alive: impl AsyncFn() -> bool) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    while is_alive().await {
        tell(NotifyState::Watchdog);
        clock::sleep_until(clock::now() + patience / 3).await;
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

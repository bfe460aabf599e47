//! Asking the coordinator again and again until an answer is the last, through its restarts.

use super::error::ClientError;
use std::time::Duration;

/// How often the coordinator is asked.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(400);

/// How long a coordinator may be away: one that restarts comes back, and everything it knew is on disk.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// Asks until `see` makes something of an answer.
///
/// # Errors
/// When the coordinator says no, or is away for a minute.
pub(super) fn until_seen<T, R>(
    mut ask: impl FnMut() -> Result<T, ClientError>,
    mut see: impl FnMut(T) -> Option<R>,
) -> Result<R, ClientError> {
    let mut away = Duration::ZERO;
    loop {
        match ask() {
            Ok(answer) => {
                away = Duration::ZERO;
                if let Some(seen) = see(answer) {
                    return Ok(seen);
                }
            }
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Foreign { .. }))
                if away < AWAY_MAX =>
            {
                tracing::debug!(%error, "asking again");
                away += ASK_EVERY;
            }
            Err(error) => return Err(error),
        }
        pause();
    }
}

/// Until the coordinator is asked again.
#[expect(clippy::disallowed_methods, reason = "the client polls at a steady pace; it waits for nothing else")]
pub(super) fn pause() {
    std::thread::sleep(ASK_EVERY);
}

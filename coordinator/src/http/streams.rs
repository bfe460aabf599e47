//! Answers that last, such as a console that is followed: so many for each user.

use super::error::ApiError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Streams of one user: each is a connection and a task.
const STREAMS_PER_USER: usize = 32;

/// The streams of all users.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    per_user: Arc<Mutex<HashMap<String, usize>>>,
}

/// One stream; it is over when this is dropped.
#[derive(Debug)]
pub(super) struct Stream {
    user: String,
    streams: Streams,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.per_user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a stream of this user.
    pub(super) fn open(&self, user: &str) -> Result<Stream, ApiError> {
        let mut per_user = self.lock();
        let count = per_user.entry(user.to_owned()).or_default();
        if *count >= STREAMS_PER_USER {
            let message = format!("user {user} follows {STREAMS_PER_USER} streams already");
            return Err(ApiError::busy(message, "end some of them"));
        }
        *count += 1;
        Ok(Stream { user: user.to_owned(), streams: self.clone() })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut per_user = self.streams.lock();
        if let Some(count) = per_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                per_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_streams_and_another_still_has_some() {
        let streams = Streams::default();
        let open: Vec<Stream> = (0..STREAMS_PER_USER).map(|_| streams.open("ann").unwrap()).collect();
        assert!(streams.open("ann").is_err());
        assert!(streams.open("ben").is_ok());
        drop(open);
        assert!(streams.open("ann").is_ok());
        assert!(streams.lock().is_empty());
    }
}

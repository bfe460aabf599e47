//! Who is connected, at most once each: a newcomer takes over its predecessor's seat when that has ended entirely.
//!
//! A seat is a place in a table and, but for the coordinator, one of a bounded number. Knows no socket and no packet.

use super::identity::Identity;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A client as others of its kind must not take it over: monitors have client ids of their own each.
type Key = (String, String);

/// All seats of a gate.
pub(super) struct Seats {
    /// Each with the way to send away who sits there.
    taken: Mutex<HashMap<Key, watch::Sender<bool>>>,
    free: Arc<Semaphore>,
}

/// A seat that is taken. Dropping it, the last thing a session does, lets the next one sit down.
pub(super) struct Seat {
    seats: Arc<Seats>,
    key: Key,
    sent_away: watch::Receiver<bool>,
    _counted: Option<OwnedSemaphorePermit>,
}

impl Seats {
    pub(super) fn new(seats_max: usize) -> Arc<Self> {
        Arc::new(Seats { taken: Mutex::default(), free: Arc::new(Semaphore::new(seats_max)) })
    }

    /// Takes the seat of this client; who sits there is sent away and waited for. `None` when all seats are taken.
    ///
    /// The coordinator always finds a seat: without it, nothing works that the others could be here for.
    pub(super) async fn take(self: &Arc<Self>, identity: &Identity, client_id: &str) -> Option<Seat> {
        let owner = match identity {
            Identity::Coordinator => "coordinator".to_owned(),
            Identity::Agent { .. } => "agent".to_owned(),
            Identity::Monitor { name } => format!("monitor {name}"),
        };
        let key = (owner, client_id.to_owned());
        loop {
            let predecessor = match self.taken().entry(key.clone()) {
                Entry::Occupied(entry) => entry.get().clone(),
                Entry::Vacant(entry) => {
                    let counted = match identity {
                        Identity::Coordinator => None,
                        _ => Some(Arc::clone(&self.free).try_acquire_owned().ok()?),
                    };
                    let (send_away, sent_away) = watch::channel(false);
                    entry.insert(send_away);
                    return Some(Seat { seats: Arc::clone(self), key, sent_away, _counted: counted });
                }
            };
            predecessor.send_replace(true);
            predecessor.closed().await;
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Key, watch::Sender<bool>>> {
        self.taken.lock().expect("nothing panics while it holds this lock")
    }
}

impl Seat {
    /// Resolves when a newcomer wants this seat.
    pub(super) fn sent_away(&self) -> impl Future<Output = ()> + use<> {
        let mut sent_away = self.sent_away.clone();
        async move {
            // An error would mean that the seat is no longer in the table, which is as good a reason to leave it.
            let _ = sent_away.wait_for(|sent_away| *sent_away).await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    fn monitor(name: &str) -> Identity {
        Identity::Monitor { name: name.into() }
    }

    #[tokio::test]
    async fn a_newcomer_sits_down_only_when_its_predecessor_has_left() {
        let seats = Seats::new(1);
        let first = seats.take(&monitor("alice"), "x").await.unwrap();
        let newcomer = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.take(&monitor("alice"), "x").await.is_some() }
        });
        first.sent_away().await;
        assert!(!newcomer.is_finished());
        drop(first);
        assert!(newcomer.await.unwrap());
    }

    #[tokio::test]
    async fn equal_client_ids_of_different_users_are_different_seats() {
        let seats = Seats::new(2);
        let alice = seats.take(&monitor("alice"), "x").await.unwrap();
        let _bob = seats.take(&monitor("bob"), "x").await.unwrap();
        assert!(timeout(Duration::from_millis(10), alice.sent_away()).await.is_err());
    }

    #[tokio::test]
    async fn the_coordinator_finds_a_seat_when_all_are_taken() {
        let seats = Seats::new(1);
        let alice = seats.take(&monitor("alice"), "x").await.unwrap();
        assert!(seats.take(&monitor("bob"), "y").await.is_none());
        assert!(seats.take(&Identity::Coordinator, "coordinator").await.is_some());
        drop(alice);
        assert!(seats.take(&monitor("bob"), "y").await.is_some());
    }
}

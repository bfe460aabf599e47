//! How much publishers may be ahead of the one consumer of what they say: nothing that the gate has acknowledged is lost
//! because the router's log of it was overrun. Knows no socket and no packet.
//!
//! A publisher waits, in the order of arrival, while the consumer has not taken [`ROOM_BYTES`] of what was handed over.
//! Without a consumer nobody waits: what nobody hears need not be kept.

use rumqttd::protocol::matches;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Semaphore;

/// How many bytes may be on their way. Four of the longest messages, some thousand usual ones.
pub(super) const ROOM_BYTES: usize = 256 * 1024;

/// What the router's log counts for a message beside topic and payload.
const OVERHEAD_BYTES: usize = 4;

/// The messages on their way to one consumer.
#[derive(Default)]
pub(super) struct Backlog {
    consumer: Mutex<Option<Consumer>>,
}

#[derive(Clone)]
struct Consumer {
    filters: Arc<[String]>,
    room: Arc<Semaphore>,
}

/// A consumer, until it is dropped.
pub(super) struct Consuming {
    backlog: Arc<Backlog>,
    room: Arc<Semaphore>,
}

impl Backlog {
    fn consumer(&self) -> MutexGuard<'_, Option<Consumer>> {
        self.consumer.lock().expect("nothing panics while it holds this lock")
    }

    /// From now on what matches `filters` reaches this consumer, and nobody else.
    pub(super) fn consume(self: &Arc<Self>, filters: Vec<String>) -> Consuming {
        let room = Arc::new(Semaphore::new(ROOM_BYTES));
        let consumer = Consumer { filters: filters.into(), room: Arc::clone(&room) };
        if let Some(before) = self.consumer().replace(consumer) {
            before.room.close();
        }
        Consuming { backlog: Arc::clone(self), room }
    }

    /// Waits until there is room for this message. It must be handed over then.
    pub(super) async fn admit(&self, topic: &str, payload_bytes: usize) {
        let Some(consumer) = self.consumer().clone() else { return };
        if consumer.filters.iter().any(|filter| matches(topic, filter))
            && let Ok(room) = consumer.room.acquire_many(cost(topic, payload_bytes)).await
        {
            // Given back by the consumer. One that ends lets everybody pass.
            room.forget();
        }
    }
}

impl Consuming {
    /// The consumer has this message.
    pub(super) fn took(&self, topic: &str, payload_bytes: usize) {
        // A message that was handed over before there was a consumer was not counted.
        let missing = ROOM_BYTES.saturating_sub(self.room.available_permits());
        self.room.add_permits((cost(topic, payload_bytes) as usize).min(missing));
    }
}

impl Drop for Consuming {
    fn drop(&mut self) {
        self.room.close();
        let mut consumer = self.backlog.consumer();
        if consumer.as_ref().is_some_and(|consumer| Arc::ptr_eq(&consumer.room, &self.room)) {
            *consumer = None;
        }
    }
}

fn cost(topic: &str, payload_bytes: usize) -> u32 {
    // Never more than there is: a message is at most a quarter of it.
    (topic.len() + payload_bytes + OVERHEAD_BYTES).min(ROOM_BYTES) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const REPORT: &str = "piseduce/main/node/10000000000000ab/report";

    /// How many messages of 64 KiB find room at once.
    async fn admitted(backlog: &Backlog, topic: &str) -> usize {
        let mut admitted = 0;
        let message = || timeout(Duration::ZERO, backlog.admit(topic, 64 * 1024 - 64));
        while admitted < 100 && message().await.is_ok() {
            admitted += 1;
        }
        admitted
    }

    #[tokio::test]
    async fn publishers_wait_for_the_consumer_of_their_topic_only() {
        let backlog = Arc::new(Backlog::default());
        assert_eq!(admitted(&backlog, REPORT).await, 100, "nobody consumes");
        let consuming = backlog.consume(vec!["piseduce/main/node/+/report".into()]);
        assert_eq!(admitted(&backlog, REPORT).await, 4);
        assert_eq!(admitted(&backlog, "piseduce/main/event").await, 100);
        for _ in 0..2 {
            consuming.took(REPORT, 64 * 1024 - 64);
        }
        assert_eq!(admitted(&backlog, REPORT).await, 2);
        for _ in 0..50 {
            consuming.took(REPORT, 64 * 1024 - 64);
        }
        assert_eq!(admitted(&backlog, REPORT).await, 4, "no more than there is");
    }

    #[tokio::test]
    async fn the_end_of_a_consumer_lets_everybody_pass() {
        let backlog = Arc::new(Backlog::default());
        let first = backlog.consume(vec!["#".into()]);
        assert_eq!(admitted(&backlog, REPORT).await, 4);
        let waiting = tokio::spawn({
            let backlog = Arc::clone(&backlog);
            async move { backlog.admit(REPORT, 64 * 1024).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let second = backlog.consume(vec!["#".into()]);
        waiting.await.unwrap();
        drop(first);
        assert_eq!(admitted(&backlog, REPORT).await, 4, "the end of the first is none of the second");
        drop(second);
        assert_eq!(admitted(&backlog, REPORT).await, 100);
    }
}

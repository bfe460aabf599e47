//! The connections of one HTTP listener: how many there are, from where, and how each gets on. Bookkeeping only; it is told
//! what happens and says which connection is to be closed. See [`super::limits`] for the numbers.

use super::limits::Limits;
use crate::clock::{self, Instant};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// When all connections are taken, one that did nothing for so long makes room for another.
const REPLACEABLE_AFTER: Duration = Duration::from_secs(1);

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A head is on its way, or the first is awaited.
    Head,
    /// No request has begun.
    Idle,
    /// A request is being answered.
    Answering,
}

/// How a connection gets on.
#[derive(Clone, Copy, Debug)]
struct Progress {
    phase: Phase,
    /// Since when it is in that phase.
    since: Instant,
    /// When a byte came or went last.
    moved: Instant,
    /// Since when the client takes nothing of what is there for it.
    blocked: Option<Instant>,
}

impl Progress {
    fn enter(&mut self, phase: Phase, now: Instant) {
        (self.phase, self.since) = (phase, now);
    }

    /// Why it is to be closed.
    fn overdue(&self, now: Instant, limits: &Limits) -> Option<&'static str> {
        let longer = |since: Instant, limit| now.since(since) >= limit;
        if self.blocked.is_some_and(|since| longer(since, limits.stall_time)) {
            return Some("the client takes nothing of the answer");
        }
        match self.phase {
            Phase::Head => {
                longer(self.since, limits.head_time).then_some("the head of a request took too long")
            }
            Phase::Idle => longer(self.moved, limits.idle_time).then_some("no request came"),
            Phase::Answering => None,
        }
    }
}

/// One connection, as what reads and writes it and the table see it.
#[derive(Debug)]
pub(super) struct Connection {
    address: IpAddr,
    progress: Mutex<Progress>,
    /// Whether it carries a stream that lasts: then silence means nothing.
    lasts: AtomicBool,
    close: Notify,
}

impl Connection {
    fn new(address: IpAddr, now: Instant) -> Self {
        let progress = Progress { phase: Phase::Head, since: now, moved: now, blocked: None };
        Connection {
            address,
            progress: Mutex::new(progress),
            lasts: AtomicBool::new(false),
            close: Notify::new(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came.
    pub(super) fn received(&self) {
        let now = clock::now();
        let mut progress = self.progress();
        progress.moved = now;
        if progress.phase == Phase::Idle {
            progress.enter(Phase::Head, now);
        }
    }

    /// Bytes went.
    pub(super) fn sent(&self) {
        let mut progress = self.progress();
        (progress.moved, progress.blocked) = (clock::now(), None);
    }

    /// Bytes could not go.
    pub(super) fn blocked(&self) {
        let mut progress = self.progress();
        progress.blocked.get_or_insert_with(clock::now);
    }

    /// A request is being answered until the result is dropped.
    pub(super) fn answer(self: &Arc<Self>) -> Answering {
        self.progress().enter(Phase::Answering, clock::now());
        Answering(self.clone())
    }

    /// The answer is a stream that ends when one of both sides wants.
    pub(super) fn lasts(&self) {
        self.lasts.store(true, Ordering::Relaxed);
    }

    /// Resolves when the connection is to be closed.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Connection>);

impl Answering {
    pub(super) fn connection(&self) -> &Connection {
        &self.0
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let now = clock::now();
        let mut progress = self.0.progress();
        progress.enter(Phase::Idle, now);
        progress.moved = now;
        self.0.lasts.store(false, Ordering::Relaxed);
    }
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its address has as many as it may.
    Address,
    /// All are taken, and each is at work.
    Full,
}

/// All connections of a listener.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    all: HashMap<u64, Arc<Connection>>,
    per_address: HashMap<IpAddr, usize>,
}

impl Inner {
    fn remove(&mut self, number: u64) -> Option<Arc<Connection>> {
        let connection = self.all.remove(&number)?;
        if let Some(count) = self.per_address.get_mut(&connection.address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&connection.address);
            }
        }
        Some(connection)
    }

    /// The one that did nothing for the longest time.
    fn replaceable(&self, now: Instant) -> Option<u64> {
        let waiting = self.all.iter().filter(|(_, connection)| !connection.lasts.load(Ordering::Relaxed));
        let moved = waiting.map(|(number, connection)| (connection.progress().moved, *number));
        moved.min().filter(|(moved, _)| now.since(*moved) >= REPLACEABLE_AFTER).map(|(_, number)| number)
    }
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Connections { limits, inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection from `address`. When all are taken, the one that did nothing for the longest time is closed for it.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Seat, Refusal> {
        let mut inner = self.inner();
        if inner.per_address.get(&address).is_some_and(|count| *count >= self.limits.per_address) {
            return Err(Refusal::Address);
        }
        if inner.all.len() >= self.limits.connections {
            let replaced = inner.replaceable(now).ok_or(Refusal::Full)?;
            if let Some(connection) = inner.remove(replaced) {
                tracing::debug!(address = %connection.address, "an HTTP connection makes room for another");
                connection.close.notify_one();
            }
        }
        let number = inner.next;
        inner.next += 1;
        let connection = Arc::new(Connection::new(address, now));
        inner.all.insert(number, connection.clone());
        *inner.per_address.entry(address).or_default() += 1;
        Ok(Seat { number, connection, connections: self.clone() })
    }

    /// Closes what takes too long.
    pub(super) fn close_overdue(&self, now: Instant) {
        for connection in self.inner().all.values() {
            let overdue = connection.progress().overdue(now, &self.limits);
            if let Some(why) = overdue {
                tracing::debug!(address = %connection.address, why, "an HTTP connection is closed");
                connection.close.notify_one();
            }
        }
    }
}

/// A connection's place among all; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    pub(super) connection: Arc<Connection>,
    connections: Arc<Connections>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.inner().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn at(seconds: u64) -> Instant {
        clock::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn an_address_has_its_share_and_a_place_is_given_back() {
        let connections = Connections::new(Limits::new(10, 2));
        let first = connections.enter(address(1), at(0)).unwrap();
        let _second = connections.enter(address(1), at(0)).unwrap();
        assert_eq!(connections.enter(address(1), at(0)).unwrap_err(), Refusal::Address);
        assert!(connections.enter(address(2), at(0)).is_ok());
        drop(first);
        assert!(connections.enter(address(1), at(0)).is_ok());
    }

    #[test]
    fn when_all_are_taken_the_one_that_did_nothing_for_longest_makes_room() {
        let connections = Connections::new(Limits::new(3, 3));
        let seats: Vec<Seat> = (1..4).map(|last| connections.enter(address(last), at(0)).unwrap()).collect();
        assert_eq!(connections.enter(address(9), at(0)).unwrap_err(), Refusal::Full, "all are new");
        seats[0].connection.lasts();
        let new = connections.enter(address(9), at(2)).unwrap();
        let left: Vec<u64> = connections.inner().all.keys().copied().collect();
        assert!(left.contains(&seats[0].number), "a stream may be silent");
        assert!(left.contains(&new.number) && left.len() == 3);
        drop(seats);
        assert_eq!(connections.inner().per_address.len(), 1, "who made room is counted once");
    }

    #[test]
    fn each_phase_has_its_time() {
        let limits = Limits::new(1, 1);
        let progress = |phase| Progress { phase, since: at(0), moved: at(0), blocked: None };
        let overdue = |progress: Progress, seconds| progress.overdue(at(seconds), &limits).is_some();
        assert!(!overdue(progress(Phase::Head), 9) && overdue(progress(Phase::Head), 11));
        assert!(!overdue(progress(Phase::Idle), 74) && overdue(progress(Phase::Idle), 76));
        assert!(!overdue(progress(Phase::Answering), 3600), "a stream may be silent");
        let blocked = Progress { blocked: Some(at(0)), ..progress(Phase::Answering) };
        assert!(!overdue(blocked, 40), "a slow card");
        assert!(overdue(blocked, 61));
    }
}

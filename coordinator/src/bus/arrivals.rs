//! Connections that have not shown yet who they are: few at once, and few from one address, so that whoever opens them
//! and says nothing keeps nobody out. Knows no socket and no packet.

use crate::clock::Instant;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::select;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

/// The part of all places that one address may take. What this machine itself opens has no such bound.
const PART_OF_ADDRESS: usize = 8;

/// For so long nobody loses a place to others: an honest client needs milliseconds, and a busy head some more.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a full house is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Who has arrived, by address, the oldest first.
#[derive(Default)]
struct Table {
    by_address: HashMap<IpAddr, VecDeque<Waiting>>,
    count: usize,
    next: u64,
}

struct Waiting {
    number: u64,
    since: Instant,
    /// Dropped when somebody else gets the place.
    _stay: oneshot::Sender<()>,
}

/// All places of a gate for those that arrive.
pub(super) struct Arrivals {
    places_max: usize,
    table: Mutex<Table>,
    freed: Notify,
}

/// A place among those that arrive.
pub(super) struct Place {
    arrivals: Arc<Arrivals>,
    address: IpAddr,
    number: u64,
    stay: oneshot::Receiver<()>,
}

/// What a connection gets.
pub(super) enum Arrival {
    Place(Place),
    /// Its address has too many.
    Refused,
    /// All places are taken, none for long.
    Later,
}

impl Arrivals {
    pub(super) fn new(places_max: usize) -> Arc<Self> {
        Arc::new(Arrivals { places_max, table: Mutex::default(), freed: Notify::new() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics while it holds this lock")
    }

    /// A place for a connection from this address. When all are taken, the oldest of the address that has most of them is
    /// sent away, if it has had its time.
    pub(super) fn arrive(self: &Arc<Self>, address: IpAddr, now: Instant) -> Arrival {
        let address = neighbourhood(address);
        let mut table = self.table();
        let own = table.by_address.get(&address).map_or(0, VecDeque::len);
        if !address.is_loopback() && own >= (self.places_max / PART_OF_ADDRESS).max(1) {
            return Arrival::Refused;
        }
        if table.count >= self.places_max {
            let most = table.by_address.values_mut().max_by_key(|waiting| waiting.len());
            let Some(waiting) = most else { return Arrival::Later };
            if waiting.front().is_none_or(|oldest| now.since(oldest.since) < PATIENCE) {
                return Arrival::Later;
            }
            waiting.pop_front();
            table.count -= 1;
        }
        let (stay_sender, stay) = oneshot::channel();
        let number = table.next;
        table.next += 1;
        table.count += 1;
        let waiting = Waiting { number, since: now, _stay: stay_sender };
        table.by_address.entry(address).or_default().push_back(waiting);
        Arrival::Place(Place { arrivals: Arc::clone(self), address, number, stay })
    }

    /// Resolves when there may be a place.
    pub(super) async fn room(&self) {
        select! {
            () = self.freed.notified() => {}
            () = sleep(LOOK_AGAIN) => {}
        }
    }
}

impl Place {
    /// Resolves when somebody else got this place.
    pub(super) async fn lost(&mut self) {
        // Nothing is ever sent.
        let _ = (&mut self.stay).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.arrivals.table();
        let Some(waiting) = table.by_address.get_mut(&self.address) else { return };
        let before = waiting.len();
        waiting.retain(|waiting| waiting.number != self.number);
        let left = before - waiting.len();
        if waiting.is_empty() {
            table.by_address.remove(&self.address);
        }
        table.count -= left;
        drop(table);
        self.arrivals.freed.notify_one();
    }
}

/// What counts as one address: of IPv6 a machine has as many as it likes, all in its network of 64 bits.
pub(super) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    fn address(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    async fn is_lost(place: &mut Place) -> bool {
        timeout(Duration::from_millis(1), place.lost()).await.is_ok()
    }

    fn place(arrivals: &Arc<Arrivals>, address: IpAddr, seconds: u64) -> Option<Place> {
        match arrivals.arrive(address, Instant(seconds * 1_000)) {
            Arrival::Place(place) => Some(place),
            Arrival::Refused | Arrival::Later => None,
        }
    }

    #[test]
    fn one_address_takes_a_part_of_the_places_only() {
        let arrivals = Arrivals::new(16);
        let places: Vec<_> = (0..100).filter_map(|_| place(&arrivals, address(1), 0)).collect();
        assert_eq!(places.len(), 2);
        assert!(place(&arrivals, "::ffff:10.0.0.1".parse().unwrap(), 9).is_none(), "the same address");
        assert!(place(&arrivals, address(2), 0).is_some());
        drop(places);
        assert!(place(&arrivals, address(1), 0).is_some());
        let six = |number: u16| place(&arrivals, format!("fd00::{number}").parse().unwrap(), 0);
        assert_eq!((1..9).filter_map(six).collect::<Vec<_>>().len(), 2);
    }

    #[tokio::test]
    async fn a_full_house_sends_away_the_oldest_of_who_has_most_when_it_had_its_time() {
        let arrivals = Arrivals::new(16);
        let local: IpAddr = [127, 0, 0, 1].into();
        let mut crowd: Vec<_> = (0..16).map(|_| place(&arrivals, local, 0).unwrap()).collect();
        assert!(matches!(arrivals.arrive(address(1), Instant(2_999)), Arrival::Later));
        let mut guest = place(&arrivals, address(1), 3).unwrap();
        assert!(is_lost(&mut crowd[0]).await && !is_lost(&mut crowd[1]).await);
        let _another = place(&arrivals, local, 3).unwrap();
        assert!(is_lost(&mut crowd[1]).await && !is_lost(&mut guest).await);
        drop(crowd);
        drop(guest);
        assert_eq!(arrivals.table().count, 1);
    }
}

//! Which hardware address asks. The kernel's table says so; whoever is not in it is asked for, and few are at a time: addresses can
//! be invented faster than the kernel can ask for them.

use crate::clock::{self, Instant};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The kernel's table of neighbours, as it is now.
pub type Table = fn() -> HashMap<IpAddr, String>;

/// The table is read again when it is as old as this. A forged question would make it be read each time otherwise.
const TABLE_AGE_MAX: Duration = Duration::from_millis(10);
/// Where nobody listens: a datagram there makes the kernel ask for the hardware address.
const DISCARD_PORT: u16 = 9;
/// How long an answer may take, and how often the table is looked at for it.
const ANSWER_MAX: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Whoever did not answer is not asked for again before this, and gets no answer meanwhile: firmware asks again.
const ABSENT_FOR: Duration = Duration::from_secs(1);
/// So many addresses are asked for at once, and in a second.
const ASKED_AT_ONCE: usize = 64;
const ASKED_A_SECOND: u32 = 100;
/// And beyond that those of registered nodes, if no more than so many a second must be looked up for that.
const LOOKED_UP_A_SECOND: u32 = 500;
/// So many that did not answer are remembered.
const ABSENT_MAX: usize = 1024;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// The board with this hardware address, lower case with colons.
    Known(String),
    /// Nobody of this network: the address was asked for in vain.
    Unknown,
    /// It cannot be said now.
    Unclear,
}

/// Knows neighbours.
#[derive(Debug)]
pub(super) struct Neighbours {
    table: Table,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<IpAddr, String>,
    read_at: Option<Instant>,
    /// Those that are being asked for, and how many questions wait for that.
    asked_for: HashMap<IpAddr, usize>,
    absent: HashMap<IpAddr, Instant>,
    /// The second that is counted, how many were asked for in it, and of how many it was looked up whether they are nodes.
    second: Instant,
    asked_in_second: u32,
    looked_up_in_second: u32,
}

/// A place among those that are asked for, until it is dropped.
struct Asking<'a>(&'a Neighbours, IpAddr);

impl Neighbours {
    /// Those of `table`.
    pub(super) fn new(table: Table) -> Neighbours {
        Neighbours { table, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hardware address of `address`, if the table has it.
    pub(super) fn known(&self, address: IpAddr, now: Instant) -> Option<String> {
        let mut inner = self.lock();
        if inner.read_at.is_none_or(|read_at| now.since(read_at) >= TABLE_AGE_MAX) {
            inner.known = (self.table)();
            inner.read_at = Some(now);
        }
        inner.known.get(&address).cloned()
    }

    /// Whether to ask for an address that the table has not. An address of a registered node is asked for even when there are many,
    /// so that invented ones are no obstacle for it.
    fn may_ask(&self, address: IpAddr, is_node: impl FnOnce() -> bool, now: Instant) -> Option<Asking<'_>> {
        let mut inner = self.lock();
        inner.absent.retain(|_, since| now.since(*since) < ABSENT_FOR);
        if inner.absent.contains_key(&address) {
            return None;
        }
        if now.since(inner.second) >= Duration::from_secs(1) {
            (inner.second, inner.asked_in_second, inner.looked_up_in_second) = (now, 0, 0);
        }
        let is_asked_for = inner.asked_for.contains_key(&address);
        let is_room = inner.asked_for.len() < ASKED_AT_ONCE && inner.asked_in_second < ASKED_A_SECOND;
        if !is_asked_for && is_room {
            inner.asked_in_second += 1;
        } else if !is_asked_for {
            inner.looked_up_in_second += 1;
            let may_look_up = inner.looked_up_in_second <= LOOKED_UP_A_SECOND;
            drop(inner);
            if !may_look_up || !is_node() {
                return None;
            }
            inner = self.lock();
        }
        *inner.asked_for.entry(address).or_default() += 1;
        Some(Asking(self, address))
    }

    /// Who is at `address`. Somebody who learned our address from a DHCP server's answer never asked for it, and is in the kernel's
    /// table only after something was sent there.
    pub(super) async fn find(&self, address: IpAddr, is_node: impl FnOnce() -> bool) -> Neighbour {
        let now = clock::now();
        if let Some(mac) = self.known(address, now) {
            return Neighbour::Known(mac);
        }
        let Some(_asking) = self.may_ask(address, is_node, now) else { return Neighbour::Unclear };
        ask(address);
        while clock::now().since(now) < ANSWER_MAX {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(mac) = self.known(address, clock::now()) {
                return Neighbour::Known(mac);
            }
        }
        let mut inner = self.lock();
        if inner.absent.len() < ABSENT_MAX {
            inner.absent.insert(address, clock::now());
        }
        Neighbour::Unknown
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        if let Some(count) = inner.asked_for.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                inner.asked_for.remove(&self.1);
            }
        }
    }
}

/// Makes the kernel ask. The datagram itself is nothing to anybody.
fn ask(address: IpAddr) {
    let any: SocketAddr = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Where it cannot be sent nobody is found.
    let _ = UdpSocket::bind(any).and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(&[], (address, DISCARD_PORT))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 0, 1));

    fn one() -> HashMap<IpAddr, String> {
        HashMap::from([(NODE, "dc:a6:32:00:00:01".into())])
    }

    fn no() -> bool {
        false
    }

    fn invented(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        [127, 8, high, low].into()
    }

    #[tokio::test]
    async fn whoever_does_not_answer_is_asked_for_once_a_second_and_holds_up_nobody() {
        let neighbours = Neighbours::new(one);
        let began = clock::now();
        assert_eq!(neighbours.find(NODE, no).await, Neighbour::Known("dc:a6:32:00:00:01".into()));
        assert!(clock::now().since(began) < LOOK_EVERY);
        let absent = invented(1);
        let (first, beside) = tokio::join!(neighbours.find(absent, no), neighbours.find(absent, no));
        assert_eq!((first, beside), (Neighbour::Unknown, Neighbour::Unknown));
        assert_eq!(neighbours.find(absent, || true).await, Neighbour::Unclear, "it is known not to answer");
        assert!(neighbours.lock().asked_for.is_empty());
    }

    #[test]
    fn few_addresses_are_asked_for_at_a_time_and_those_of_nodes_always() {
        let neighbours = Neighbours::new(one);
        let now = Instant(5000);
        let ask = |number, now| neighbours.may_ask(invented(number), no, now);
        let asked: Vec<Asking<'_>> = (0..500).filter_map(|number| ask(number, now)).collect();
        assert_eq!(asked.len(), ASKED_AT_ONCE);
        assert!(ask(0, now).is_some(), "one that is asked for already costs nothing");
        assert!(neighbours.may_ask(invented(600), || true, now).is_some());
        drop(asked);
        let asked = (1000..2000).filter_map(|number| ask(number, now)).count();
        assert_eq!(asked, ASKED_A_SECOND as usize - ASKED_AT_ONCE);
        assert!(ask(3000, now + Duration::from_secs(1)).is_some());
    }
}

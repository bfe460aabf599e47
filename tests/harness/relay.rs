//! A TCP relay that can be told to misbehave: what lies between programs on a bad day, in front of broker or HTTP.
//!
//! It forwards every connection to one target, in bytes, and knows nothing about what they mean. Orders hold for all its
//! connections, also those that are open. It ends with its owner. What boards send through one still comes from their own
//! addresses.

mod flip;
mod wire;

pub use flip::Flip;

use crate::namespace::Namespace;
use crate::rack_network::{HEAD, RackNetwork};
use flip::Ordered;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use wire::Wire;

/// One direction of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who connected to the target.
    Out,
    /// From the target back.
    Back,
}

/// Both directions.
pub const BOTH: [Way; 2] = [Way::Out, Way::Back];

/// How connections are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// In order, as by a program that closes.
    Finish,
    /// With a reset, as by a router that forgot the connection.
    Reset,
}

/// What is done to the bytes of one direction.
#[derive(Debug, Default)]
struct Orders {
    held: bool,
    bytes_per_second: Option<u64>,
    delay: Duration,
    flips: Vec<Ordered>,
}

/// From where the target is reached for who connected from an address; none: not at all.
type Origin = Box<dyn Fn(IpAddr) -> Option<Namespace> + Send + Sync>;

/// What a relay and the threads of its connections share.
struct Shared {
    target: SocketAddr,
    /// None: from where the relay is.
    origin: Option<Origin>,
    /// By [`Way`].
    orders: Mutex<[Orders; 2]>,
    /// Orders changed, or a connection was cut.
    changed: Condvar,
    open: Mutex<Vec<Weak<Wire>>>,
    accepted: AtomicUsize,
    flipped: AtomicUsize,
    ended: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A relay that runs.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    /// A relay on loopback to `target`, which need not be there yet.
    ///
    /// # Errors
    /// When there is no port.
    pub fn to(target: SocketAddr) -> io::Result<Relay> {
        Relay::start(Ipv4Addr::LOCALHOST, target, None)
    }

    /// A relay on the head of `network` for its boards: the target sees the address of the board that connected.
    ///
    /// # Errors
    /// When there is no port, or this thread is not there.
    pub fn for_boards(network: &Arc<RackNetwork>, target: SocketAddr) -> io::Result<Relay> {
        let network = network.clone();
        let origin = move |board: IpAddr| network.board_at(board).cloned();
        Relay::start(HEAD, target, Some(Box::new(origin)))
    }

    /// A relay on this thread's loopback to a target that is reached from `inside`.
    ///
    /// # Errors
    /// When there is no port.
    pub fn into(inside: &Namespace, target: SocketAddr) -> io::Result<Relay> {
        let inside = inside.clone();
        Relay::start(Ipv4Addr::LOCALHOST, target, Some(Box::new(move |_| Some(inside.clone()))))
    }

    fn start(listen: Ipv4Addr, target: SocketAddr, origin: Option<Origin>) -> io::Result<Relay> {
        let listener = TcpListener::bind((listen, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            origin,
            orders: Mutex::default(),
            changed: Condvar::new(),
            open: Mutex::default(),
            accepted: AtomicUsize::new(0),
            flipped: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                accepting.accepted.fetch_add(1, Ordering::SeqCst);
                // When the target is not there the connection is closed at once.
                let _ = wire::open(&accepting, near);
            }
        });
        Ok(Relay { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn order(&self, ways: &[Way], change: impl Fn(&mut Orders)) {
        let mut orders = lock(&self.shared.orders);
        ways.iter().for_each(|way| change(&mut orders[*way as usize]));
        self.shared.changed.notify_all();
    }

    /// Lets everything pass as it comes; no flip is to be done any more.
    pub fn pass(&self) {
        self.order(&BOTH, |orders| *orders = Orders::default());
    }

    /// Holds back the bytes of these directions until they may pass; connections are made and stay open.
    pub fn hold(&self, ways: &[Way]) {
        self.order(ways, |orders| orders.held = true);
    }

    /// Lets at most so many bytes a second pass, in each direction of each connection.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.order(&BOTH, |orders| orders.bytes_per_second = Some(bytes_per_second));
    }

    /// Delivers what is read at once so much later, before more is read.
    pub fn delay(&self, delay: Duration) {
        self.order(&BOTH, |orders| orders.delay = delay);
    }

    /// Damages bytes of this direction as `flip` says.
    pub fn flip(&self, way: Way, flip: &Flip) {
        self.order(&[way], |orders| orders.flips.push(Ordered::new(flip)));
    }

    /// How many bytes were damaged.
    pub fn flipped(&self) -> usize {
        self.shared.flipped.load(Ordering::SeqCst)
    }

    /// How many connections were made, those that are closed included.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Ends every open connection at both sides, and says how many that were. New ones are made as before.
    pub fn cut(&self, how: Cut) -> usize {
        let wires: Vec<Arc<Wire>> =
            std::mem::take(&mut *lock(&self.shared.open)).iter().filter_map(Weak::upgrade).collect();
        wires.iter().for_each(|wire| wire.cut(how));
        // A thread that is between its look at the orders and its sleep holds this lock.
        drop(lock(&self.shared.orders));
        self.shared.changed.notify_all();
        wires.len()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut(Cut::Finish);
        // The accepting thread looks up when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{seconds, wait_for};
    use std::io::{Read as _, Write as _};
    use std::thread::spawn;

    /// A relay to somebody who says back what he hears, and a connection through it.
    fn echo() -> (Relay, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let relay = Relay::to(listener.local_addr().expect("bound")).expect("a port");
        spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                spawn(move || io::copy(&mut &socket, &mut &socket));
            }
        });
        let client = connect(&relay);
        (relay, client)
    }

    fn connect(relay: &Relay) -> TcpStream {
        let client = TcpStream::connect(relay.address()).expect("the relay listens");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a duration");
        client
    }

    /// What comes back for `text`.
    fn said(client: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        client.write_all(text)?;
        let mut back = vec![0; text.len()];
        client.read_exact(&mut back)?;
        Ok(back)
    }

    #[test]
    fn what_is_held_comes_when_it_may_pass() {
        let (relay, mut client) = echo();
        assert_eq!(said(&mut client, b"one").expect("passes"), b"one");
        for ways in [&[Way::Out][..], &[Way::Back], &BOTH] {
            relay.hold(ways);
            client.write_all(b"two").expect("there is room");
            client.set_read_timeout(Some(Duration::from_millis(200))).expect("a duration");
            client.read_exact(&mut [0; 3]).expect_err("nothing comes");
            client.set_read_timeout(Some(Duration::from_secs(20))).expect("a duration");
            relay.pass();
            let mut back = [0; 3];
            client.read_exact(&mut back).expect("it comes");
            assert_eq!(&back, b"two");
        }
    }

    #[test]
    fn a_cut_ends_open_connections_in_its_way_and_new_ones_are_made() {
        for how in [Cut::Finish, Cut::Reset] {
            let (relay, mut client) = echo();
            said(&mut client, b"one").expect("passes");
            relay.hold(&[Way::Back]);
            assert_eq!(relay.cut(how), 1);
            match client.read(&mut [0; 1]) {
                Ok(count) => assert_eq!((how, count), (Cut::Finish, 0)),
                Err(error) => assert_eq!((how, error.kind()), (Cut::Reset, io::ErrorKind::ConnectionReset)),
            }
            relay.pass();
            said(&mut connect(&relay), b"two").expect("passes");
            assert_eq!(relay.accepted(), 2);
        }
    }

    #[test]
    fn exactly_the_bytes_that_were_asked_for_are_damaged() {
        let (relay, mut client) = echo();
        relay.flip(Way::Out, &Flip::after(*b"key=", 1).nth(2));
        // The second occurrence comes in two pieces.
        let mut back = said(&mut client, b"key=aaa ke").expect("passes");
        back.extend(said(&mut client, b"y=aaa key=aaa").expect("passes"));
        assert_eq!(back, b"key=aaa key=aqa key=aaa");
        relay.flip(Way::Back, &Flip::at(2).times(2));
        for (expected, flipped) in [(b"aaqa", 2), (b"aaqa", 3), (b"aaaa", 3)] {
            assert_eq!(said(&mut connect(&relay), b"aaaa").expect("passes"), expected);
            assert_eq!(relay.flipped(), flipped);
        }
    }

    #[test]
    fn a_throttled_or_delayed_connection_takes_its_time() {
        let (relay, mut client) = echo();
        relay.throttle(50_000);
        let began = seconds();
        said(&mut client, &[7; 25_000]).expect("passes");
        assert!(seconds() - began >= 0.4, "{} s", seconds() - began);
        relay.pass();
        relay.delay(Duration::from_millis(200));
        let began = seconds();
        said(&mut client, b"there and back").expect("passes");
        assert!(seconds() - began >= 0.4, "{} s", seconds() - began);
    }

    #[test]
    fn a_target_that_is_away_is_a_closed_connection_and_the_relay_ends_with_its_owner() {
        let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let relay = Relay::to(nobody).expect("a port");
        assert!(matches!(connect(&relay).read(&mut [0; 1]), Ok(0) | Err(_)));
        let address = relay.address();
        drop(relay);
        wait_for("the port to be closed", 10.0, || TcpStream::connect(address).is_err(), |closed| *closed);
    }
}

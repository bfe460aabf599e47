//! One connection through a relay: two sockets, and a thread for each direction.

use super::flip::Passed;
use super::{Cut, Shared, Way, lock};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// As much is read at once.
const BLOCK_BYTES: usize = 64 * 1024;
/// As often in a second a throttled connection moves.
const STEPS_A_SECOND: u64 = 20;

/// The two sockets of a connection; they are closed when both threads have ended.
pub(super) struct Wire {
    near: TcpStream,
    far: TcpStream,
    cut: AtomicBool,
}

/// Connects `near` to the relay's target.
pub(super) fn open(shared: &Arc<Shared>, near: TcpStream) -> io::Result<()> {
    let connect = || TcpStream::connect(shared.target);
    let far = match &shared.origin {
        None => connect()?,
        Some(origin) => {
            let inside = origin(near.peer_addr()?.ip()).ok_or(io::ErrorKind::AddrNotAvailable)?;
            inside.during(connect)?
        }
    };
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let wire = Arc::new(Wire { near, far, cut: AtomicBool::new(false) });
    let mut open = lock(&shared.open);
    open.retain(|wire| wire.strong_count() > 0);
    open.push(Arc::downgrade(&wire));
    for way in super::BOTH {
        let (shared, wire) = (shared.clone(), wire.clone());
        std::thread::spawn(move || wire.carry(&shared, way));
    }
    Ok(())
}

impl Wire {
    /// Ends the connection at both sides.
    pub(super) fn cut(&self, how: Cut) {
        self.cut.store(true, Ordering::SeqCst);
        for socket in [&self.near, &self.far] {
            // A socket that is closed already is as good as cut.
            if how == Cut::Reset {
                let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
                // This wakes the threads and says nothing to the other side; closing resets then.
                let _ = socket.shutdown(Shutdown::Read);
            } else {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }

    /// Carries the bytes of one direction until there are no more.
    fn carry(&self, shared: &Shared, way: Way) {
        let (mut from, mut to) = match way {
            Way::Out => (&self.near, &self.far),
            Way::Back => (&self.far, &self.near),
        };
        let (mut block, mut passed) = (vec![0; BLOCK_BYTES], Passed::default());
        loop {
            let step = self.step_bytes(shared, way);
            // An end that is not one in order is forwarded as one: nobody here tells them apart.
            let count = from.read(&mut block[..step]).unwrap_or(0);
            self.wait_to_pass(shared, way);
            if self.cut.load(Ordering::SeqCst) {
                return;
            }
            if count == 0 {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            let flipped = passed.damage(&mut block[..count], &mut lock(&shared.orders)[way as usize].flips);
            shared.flipped.fetch_add(flipped, Ordering::SeqCst);
            if to.write_all(&block[..count]).is_err() {
                // Who sends must learn that nobody takes it.
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            self.pace(shared, way, count);
        }
    }

    fn step_bytes(&self, shared: &Shared, way: Way) -> usize {
        let limit = lock(&shared.orders)[way as usize].bytes_per_second;
        limit
            .map_or(BLOCK_BYTES, |limit| usize::try_from(limit / STEPS_A_SECOND).unwrap_or(BLOCK_BYTES))
            .clamp(1, BLOCK_BYTES)
    }

    /// Waits while this direction is held, and for the delay.
    fn wait_to_pass(&self, shared: &Shared, way: Way) {
        let held = |orders: &mut [super::Orders; 2]| orders[way as usize].held && !self.is_cut(shared);
        let orders =
            shared.changed.wait_while(lock(&shared.orders), held).unwrap_or_else(PoisonError::into_inner);
        let delay = orders[way as usize].delay;
        if !delay.is_zero() {
            let same =
                |orders: &mut [super::Orders; 2]| orders[way as usize].delay == delay && !self.is_cut(shared);
            drop(shared.changed.wait_timeout_while(orders, delay, same));
        }
    }

    /// Takes the time that `count` bytes may take.
    fn pace(&self, shared: &Shared, way: Way, count: usize) {
        let orders = lock(&shared.orders);
        let Some(limit) = orders[way as usize].bytes_per_second else { return };
        let time = Duration::from_secs_f64(count as f64 / limit as f64);
        let same = |orders: &mut [super::Orders; 2]| {
            orders[way as usize].bytes_per_second == Some(limit) && !self.is_cut(shared)
        };
        drop(shared.changed.wait_timeout_while(orders, time, same));
    }

    fn is_cut(&self, shared: &Shared) -> bool {
        self.cut.load(Ordering::SeqCst) || shared.ended.load(Ordering::SeqCst)
    }
}

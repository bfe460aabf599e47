//! What a client of an HTTP listener may take: connections, time, memory. One place for every number.

use std::time::Duration;

/// A head has come so long after its first byte or after the connection was opened.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// A connection may be kept so long without a request: longer than a copy waits for a slow card (40 s were seen).
const IDLE_TIME: Duration = Duration::from_secs(75);
/// A client that takes nothing of an answer for so long is gone. A card's backpressure ends sooner.
const STALL_TIME: Duration = Duration::from_secs(60);
/// A piece of a body comes within this time, and the first byte of it.
const BODY_PIECE_TIME: Duration = Duration::from_secs(10);
/// A body comes at this rate at least, in bytes a second: a hundredth of what the slowest card reads.
const BODY_RATE_MIN: u64 = 4 << 10;

/// The longest head of a request, in bytes: path and headers.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;
/// What the kernel holds of an answer that is not taken, in bytes a connection: 1 Gbit/s at 2 ms.
pub(super) const SEND_BUFFER_BYTES: usize = 256 << 10;

/// What a listener allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub per_address: usize,
    /// From the first byte of a head to its end; from the opening of a connection to the end of the first.
    pub head_time: Duration,
    /// Without a request.
    pub idle_time: Duration,
    /// Without taking anything of an answer.
    pub stall_time: Duration,
    /// From one piece of a body to the next.
    pub body_piece_time: Duration,
    /// The slowest rate of a body, in bytes a second.
    pub body_rate_min: u64,
}

impl Limits {
    /// The usual times, for so many connections.
    pub fn new(connections: u32, per_address: u32) -> Limits {
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Limits {
            connections: count(connections),
            per_address: count(per_address),
            head_time: HEAD_TIME,
            idle_time: IDLE_TIME,
            stall_time: STALL_TIME,
            body_piece_time: BODY_PIECE_TIME,
            body_rate_min: BODY_RATE_MIN,
        }
    }
}

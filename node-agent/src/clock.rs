//! The only caller of now(): what time it is, on which of the node's clocks, and how to set the one it has.
//!
//! A Pi has no calendar clock at boot, so deadlines and rates use the monotonic clock, messages are counted
//! by the clock since boot, and calendar time comes from the head node with each command.

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::io;
use std::time::{Duration, Instant, SystemTime};

/// The monotonic time, for limits and rates.
pub fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
    Instant::now()
}

/// Microseconds since the kernel booted, suspended time included. It survives a restart of the agent.
pub fn since_boot_us() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000
}

/// The system's calendar time in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the calendar clock")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sets the system's calendar time to `unix_ms` milliseconds since 1970.
///
/// # Errors
/// What the kernel says; `EPERM` without the right to do so.
pub fn set_unix_ms(unix_ms: u64) -> io::Result<()> {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let nanoseconds = i64::try_from(unix_ms % 1000 * 1_000_000).unwrap_or(0);
    Ok(clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: nanoseconds })?)
}

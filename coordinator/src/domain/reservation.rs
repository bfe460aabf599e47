//! Reservations: a user's sole right to nodes for a time.

use crate::clock::UnixMs;

/// A reservation's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(pub u64);

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Its number.
    pub id: ReservationId,
    /// The user's name.
    pub owner: String,
    /// When it began.
    pub from: UnixMs,
    /// When it ends.
    pub until: UnixMs,
    /// The names of its nodes that are still held.
    pub nodes: Vec<String>,
}

/// A calendar time for people, such as `2026-11-23T15:25:00Z`.
pub fn utc(unix_ms: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(unix_ms));
    let time = time.unwrap_or(std::time::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

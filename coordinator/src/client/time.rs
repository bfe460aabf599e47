//! Times for eyes, in the zone of whoever looks (`TZ`, else the system's), with the zone's name.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A calendar time such as `2026-11-23 16:25 CET`, of milliseconds since 1970.
pub(super) fn local(unix_ms: u64) -> String {
    format(unix_ms, TimeZone::system(), "%Y-%m-%d %H:%M %Z")
}

/// The same with seconds, for logs and journals.
pub(super) fn local_seconds(unix_ms: u64) -> String {
    format(unix_ms, TimeZone::system(), "%Y-%m-%d %H:%M:%S %Z")
}

fn format(unix_ms: u64, zone: TimeZone, format: &str) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match time {
        Some(time) => time.to_zoned_datetime(zone).strftime(format).to_string(),
        None => "never".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_zone_and_a_change_to_summer_time_in_them() {
        let at = |unix_ms, zone: &str| format(unix_ms, TimeZone::posix(zone).unwrap(), "%Y-%m-%d %H:%M %Z");
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        assert_eq!(at(1_700_000_000_000, berlin), "2023-11-14 23:13 CET");
        assert_eq!(at(1_690_000_000_000, berlin), "2023-07-22 06:26 CEST");
        assert_eq!(at(1_700_000_000_000, "UTC0"), "2023-11-14 22:13 UTC");
        assert_eq!(at(u64::MAX, "UTC0"), "never");
    }
}

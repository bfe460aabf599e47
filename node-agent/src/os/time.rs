//! Calendar time in the forms that an environment without a clock of its own starts from.

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Days since 1970, as `/etc/shadow` counts them.
pub fn day(unix_ms: u64) -> u64 {
    unix_ms / 1000 / DAY_SECONDS
}

/// The line of `/etc/fake-hwclock.data`: date and time in UTC.
pub fn fake_hwclock(unix_ms: u64) -> String {
    let second = unix_ms / 1000 % DAY_SECONDS;
    let (year, month, day) = date(day(unix_ms));
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}\n")
}

/// Year, month and day of a day since 1970 in the Gregorian calendar, counted in eras of 400 years that
/// begin in March, so that the leap day is the last of a year (Howard Hinnant, "chrono-compatible
/// low-level date algorithms", civil_from_days).
fn date(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_utc() {
        for (unix_ms, text) in [
            (0, "1970-01-01 00:00:00\n"),
            (951_782_399_000, "2000-02-28 23:59:59\n"),
            (951_782_400_000, "2000-02-29 00:00:00\n"),
            (1_795_447_800_999, "2026-11-23 15:30:00\n"),
            (4_107_542_400_000, "2100-03-01 00:00:00\n"),
        ] {
            assert_eq!(fake_hwclock(unix_ms), text);
        }
        assert_eq!(day(1_795_447_800_999), 20_780);
    }
}

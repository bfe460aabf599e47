//! How refused clients are logged: a few times a minute an address, then one line that says how many more there were.
//! Whoever knocks without end fills no log. Pure: no socket, time is handed in.

use super::arrivals::neighbourhood;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// How often it is said how many more there were.
pub(super) const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);

/// Lines in this time about one address, and in all.
const LINES_OF_ADDRESS: u32 = 3;
const LINES: u32 = 60;

/// Addresses that are counted one by one; the others are counted together.
const ADDRESSES_MAX: usize = 1_024;

/// Addresses that a summary names.
const NAMED_MAX: usize = 5;

/// Refusals since the last summary.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Table>);

#[derive(Default)]
struct Table {
    lines: u32,
    by_address: HashMap<IpAddr, Count>,
    others: u64,
}

#[derive(Default)]
struct Count {
    lines: u32,
    more: u64,
}

impl Refusals {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }

    /// Somebody at this address was refused; whether that has a line of its own in the log.
    pub(super) fn is_logged(&self, address: IpAddr) -> bool {
        let mut table = self.table();
        let address = neighbourhood(address);
        if table.by_address.len() >= ADDRESSES_MAX && !table.by_address.contains_key(&address) {
            table.others += 1;
            return false;
        }
        let is_room = table.lines < LINES;
        let count = table.by_address.entry(address).or_default();
        if is_room && count.lines < LINES_OF_ADDRESS {
            count.lines += 1;
            table.lines += 1;
            return true;
        }
        count.more += 1;
        false
    }

    /// What had no line since the last summary, in words; counting begins anew.
    pub(super) fn summary(&self) -> Option<String> {
        let Table { by_address, others, .. } = std::mem::take(&mut *self.table());
        let mut more: Vec<_> = by_address.into_iter().filter(|(_, count)| count.more > 0).collect();
        more.sort_by_key(|(address, count)| (std::cmp::Reverse(count.more), *address));
        let named = more.iter().take(NAMED_MAX);
        let mut parts: Vec<String> =
            named.map(|(address, count)| format!("{} more from {address}", count.more)).collect();
        let rest: u64 = others + more.iter().skip(NAMED_MAX).map(|(_, count)| count.more).sum::<u64>();
        if rest > 0 {
            parts.push(format!("{rest} more from other addresses"));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of this many refusals at one address are logged.
    fn logged(refusals: &Refusals, last: u8, count: usize) -> usize {
        (0..count).filter(|_| refusals.is_logged([10, 0, last, 1].into())).count()
    }

    #[test]
    fn an_address_is_logged_a_few_times_and_then_counted() {
        let refusals = Refusals::default();
        assert_eq!(logged(&refusals, 0, 315), 3);
        assert_eq!(logged(&refusals, 1, 2), 2);
        assert_eq!(refusals.summary().as_deref(), Some("312 more from 10.0.0.1"));
        assert_eq!(refusals.summary(), None);
        assert_eq!(logged(&refusals, 0, 4), 3, "counting begins anew");
    }

    #[test]
    fn any_number_of_addresses_takes_few_lines_and_little_room() {
        let refusals = Refusals::default();
        let from = |number: u32| refusals.is_logged(IpAddr::from(number.to_be_bytes()));
        assert_eq!((0..100_000).filter(|number| from(*number)).count(), 60);
        assert_eq!(refusals.table().by_address.len(), ADDRESSES_MAX);
        let summary = refusals.summary().unwrap();
        assert!(summary.ends_with("99935 more from other addresses"), "{summary}");
    }
}

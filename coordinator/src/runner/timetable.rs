//! When something falls due at each of many things. Asked by time, so that no turn of the loop walks over all of them.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// At most one time for each `K`.
#[derive(Debug)]
pub(super) struct Timetable<K, T> {
    by_time: BTreeSet<(T, K)>,
    times: HashMap<K, T>,
}

impl<K, T> Default for Timetable<K, T> {
    fn default() -> Self {
        Timetable { by_time: BTreeSet::new(), times: HashMap::new() }
    }
}

impl<K: Copy + Ord + Hash, T: Copy + Ord> Timetable<K, T> {
    /// From now on `key` is due at `time`, or never.
    pub(super) fn set(&mut self, key: K, time: Option<T>) {
        let before = match time {
            Some(time) => self.times.insert(key, time),
            None => self.times.remove(&key),
        };
        if before == time {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, key));
        }
        if let Some(time) = time {
            self.by_time.insert((time, key));
        }
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<T> {
        self.by_time.first().map(|(time, _)| *time)
    }

    /// All that are due at `now`, the earliest first.
    pub(super) fn due(&self, now: T) -> Vec<K> {
        self.by_time.iter().take_while(|(time, _)| *time <= now).map(|(_, key)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_due_at_the_time_that_was_set_last() {
        let mut table = Timetable::default();
        table.set('a', Some(5));
        table.set('b', Some(3));
        table.set('c', Some(4));
        assert_eq!((table.next(), table.due(2), table.due(4)), (Some(3), vec![], vec!['b', 'c']));
        table.set('b', Some(9));
        table.set('c', None);
        assert_eq!((table.next(), table.due(9)), (Some(5), vec!['a', 'b']));
        table.set('a', None);
        table.set('b', None);
        assert_eq!((table.next(), table.due(99), table.times.len()), (None, vec![], 0));
    }
}

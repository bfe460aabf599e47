//! Boards that ask and that nobody registered. They get nothing, and people can see them.

use crate::clock::UnixMs;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many are remembered; whoever was silent for longest is forgotten first.
const STRANGERS_MAX: usize = 256;

/// A board that asks and is not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its hardware address, lower case with colons, if it is a neighbour of this machine.
    pub mac: Option<String>,
    /// The last 8 hex digits of its serial number, once it showed them.
    pub serial_end: Option<u32>,
    /// What board it may be.
    pub model: Option<&'static str>,
    /// The address that it last asked from.
    pub address: IpAddr,
    /// What it last asked for.
    pub file: String,
    /// When it first asked.
    pub first: UnixMs,
    /// When it last asked.
    pub last: UnixMs,
    /// How often it asked.
    pub questions: u64,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Strangers {
    known: Arc<Mutex<BTreeMap<String, Stranger>>>,
}

impl Strangers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stranger>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All, the last to ask first.
    pub fn all(&self) -> Vec<Stranger> {
        let mut all: Vec<Stranger> = self.lock().values().cloned().collect();
        all.sort_by_key(|stranger| std::cmp::Reverse(stranger.last));
        all
    }

    /// Takes down that one asked. Returns whether it is new.
    pub(super) fn asked(&self, asked: Stranger) -> bool {
        let key = asked.mac.clone().unwrap_or_else(|| asked.address.to_string());
        let mut known = self.lock();
        if let Some(before) = known.get_mut(&key) {
            before.serial_end = asked.serial_end.or(before.serial_end);
            before.model = asked.model.or(before.model);
            before.questions += 1;
            (before.address, before.file, before.last) = (asked.address, asked.file, asked.last);
            return false;
        }
        if known.len() >= STRANGERS_MAX {
            let oldest = known.iter().min_by_key(|(_, stranger)| stranger.last).map(|(key, _)| key.clone());
            oldest.and_then(|key| known.remove(&key));
        }
        known.insert(key, asked);
        true
    }

    /// Forgets who is registered now.
    pub(super) fn forget(&self, mac: &str) {
        self.lock().remove(mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(number: u64, file: &str) -> Stranger {
        Stranger {
            mac: Some(format!("mac-{number}")),
            serial_end: None,
            model: None,
            address: "10.0.0.9".parse().unwrap(),
            file: file.into(),
            first: UnixMs(number),
            last: UnixMs(number),
            questions: 1,
        }
    }

    #[test]
    fn one_board_is_one_stranger_and_what_was_learned_stays() {
        let strangers = Strangers::default();
        let start = Stranger { serial_end: Some(7), model: Some("Pi 4"), ..stranger(1, "start4.elf") };
        assert!(strangers.asked(start));
        assert!(!strangers.asked(Stranger { last: UnixMs(9), ..stranger(1, "config.txt") }));
        let all = strangers.all();
        assert_eq!((all.len(), all[0].serial_end, all[0].questions), (1, Some(7), 2));
        assert_eq!((all[0].file.as_str(), all[0].first, all[0].last), ("config.txt", UnixMs(1), UnixMs(9)));
    }

    #[test]
    fn whoever_was_silent_for_longest_is_forgotten_when_there_are_many() {
        let strangers = Strangers::default();
        for number in 0..=STRANGERS_MAX as u64 {
            strangers.asked(stranger(number, "x"));
        }
        let all = strangers.all();
        assert_eq!((all.len(), all[0].first), (STRANGERS_MAX, UnixMs(STRANGERS_MAX as u64)));
        assert!(all.iter().all(|stranger| stranger.first != UnixMs(0)));
    }
}

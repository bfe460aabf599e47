//! Boards that ask and that nobody registered. They get nothing, and people can see them.

use crate::clock::{Instant, UnixMs};
use piseduce_protocol::enrolment::BoardInventory;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So many are remembered. Whoever has no hardware address is forgotten first, as such addresses can be invented; then whoever was
/// silent for longest and is not invited.
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
    /// What it is, once it was invited and told.
    pub inventory: Option<BoardInventory>,
    /// Its invitation into the boot root.
    pub(super) invited: Option<Invited>,
}

/// An invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invited {
    ticket: String,
    until: Instant,
}

/// A board that is invited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) ticket: String,
    pub(super) model: Option<&'static str>,
}

/// How long an invitation is good, which is longer than a boot takes.
const INVITATION_MAX: Duration = Duration::from_secs(600);

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
            // What a board asks for first tells most.
            before.model = before.model.or(asked.model);
            before.questions += 1;
            (before.address, before.file, before.last) = (asked.address, asked.file, asked.last);
            return false;
        }
        if known.len() >= STRANGERS_MAX {
            let least = known.iter().min_by_key(|(_, stranger)| {
                (stranger.invited.is_some(), stranger.mac.is_some(), stranger.last)
            });
            let least = least.map(|(key, _)| key.clone());
            least.and_then(|key| known.remove(&key));
        }
        known.insert(key, asked);
        true
    }

    /// Invites the board with this hardware address into the boot root, from its next boot on, by `ticket`. Returns whether there
    /// is such a board.
    pub fn invite(&self, mac: &str, ticket: &str, now: Instant) -> bool {
        let mut known = self.lock();
        let Some(stranger) = known.get_mut(mac) else { return false };
        stranger.invited = Some(Invited { ticket: ticket.into(), until: now + INVITATION_MAX });
        stranger.inventory = None;
        true
    }

    /// The board with this hardware address, if it is invited.
    pub(super) fn guest(&self, mac: &str, now: Instant) -> Option<Guest> {
        let known = self.lock();
        let stranger = known.get(mac)?;
        let invited = stranger.invited.as_ref().filter(|invited| now < invited.until)?;
        Some(Guest { ticket: invited.ticket.clone(), model: stranger.model })
    }

    /// A board tells what it is, by its ticket. Returns whether somebody was invited by that.
    pub fn told(&self, ticket: &str, inventory: BoardInventory, now: Instant) -> bool {
        let mut known = self.lock();
        let is_invited = |stranger: &&mut Stranger| {
            stranger.invited.as_ref().is_some_and(|invited| invited.ticket == ticket && now < invited.until)
        };
        let Some(stranger) = known.values_mut().find(is_invited) else { return false };
        stranger.inventory = Some(inventory);
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
    use piseduce_protocol::id::Serial;

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
            inventory: None,
            invited: None,
        }
    }

    #[test]
    fn an_invited_board_tells_what_it_is_as_long_as_it_is_invited() {
        let strangers = Strangers::default();
        assert!(!strangers.invite("mac-1", "ticket", Instant(0)), "nobody asked");
        strangers.asked(Stranger { model: Some("Pi 5 or CM5"), ..stranger(1, "config.txt") });
        assert_eq!(strangers.guest("mac-1", Instant(0)), None);
        assert!(strangers.invite("mac-1", "ticket", Instant(0)));
        let guest = Guest { ticket: "ticket".into(), model: Some("Pi 5 or CM5") };
        assert_eq!(strangers.guest("mac-1", Instant(599_999)), Some(guest));
        assert_eq!(strangers.guest("mac-1", Instant(600_000)), None);
        let inventory = BoardInventory {
            serial: Serial(0x1234_5678_0000_0001),
            mac: "mac-1".into(),
            model: "Raspberry Pi 5 Model B Rev 1.0".into(),
            memory_kib: 1,
            card: None,
            bootloader: vec![],
        };
        assert!(!strangers.told("other", inventory.clone(), Instant(0)));
        assert!(!strangers.told("ticket", inventory.clone(), Instant(600_000)), "too late");
        assert!(strangers.told("ticket", inventory.clone(), Instant(1)));
        assert_eq!(strangers.all()[0].inventory, Some(inventory));
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
    fn invented_addresses_drive_out_no_board() {
        let strangers = Strangers::default();
        strangers.asked(stranger(1, "x"));
        strangers.asked(stranger(2, "x"));
        assert!(strangers.invite("mac-2", "ticket", Instant(0)));
        for number in 0..1000u32 {
            let address = std::net::Ipv4Addr::from(number).into();
            strangers.asked(Stranger { mac: None, address, ..stranger(9, "x") });
        }
        assert_eq!(strangers.all().iter().filter(|stranger| stranger.mac.is_some()).count(), 2);
        for number in 10..1000 {
            strangers.asked(stranger(number, "x"));
        }
        assert!(strangers.guest("mac-2", Instant(1)).is_some() && strangers.all().len() == STRANGERS_MAX);
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

//! What nobody can explain on the nodes' networks: who gives addresses that should not, and who has an address of somebody
//! else's. Kept in memory until the coordinator ends.

use crate::clock::UnixMs;
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many are remembered; the one that was not seen for longest is forgotten first.
const ALARMS_MAX: usize = 256;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// It gives addresses, and is not this head.
    ForeignDhcp,
    /// It says that it has an address, which is somebody else's.
    TakenAddress(Holder),
    /// It was given an address, and found that somebody else has it.
    RefusedAddress,
}

/// Whose address it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// This head's.
    Head,
    /// The node's of this name.
    Node(String),
}

impl Trouble {
    /// Its name, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Trouble::ForeignDhcp => "foreign_dhcp",
            Trouble::TakenAddress(_) | Trouble::RefusedAddress => "address_conflict",
        }
    }
}

/// Where and by whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// What is wrong.
    pub trouble: Trouble,
    /// The head's interface where it was heard.
    pub interface: String,
    /// The address that it is about.
    pub address: Ipv4Addr,
    /// The hardware address of who did it, lower case with colons; none: it was not heard itself.
    pub mac: Option<String>,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Alarm { trouble, interface, address, mac } = self;
        let who = mac.as_deref().unwrap_or("somebody");
        match trouble {
            Trouble::ForeignDhcp => {
                write!(f, "{address} ({who}) gives addresses on {interface}, where this head does")
            }
            Trouble::TakenAddress(Holder::Head) => {
                write!(f, "{who} on {interface} says that it has {address}, which is this head's")
            }
            Trouble::TakenAddress(Holder::Node(node)) => {
                write!(f, "{who} on {interface} says that it has {address}, which is {node}'s")
            }
            Trouble::RefusedAddress => {
                write!(f, "{who} on {interface} was given {address} and found that somebody else has it")
            }
        }
    }
}

/// When it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// First.
    pub first: UnixMs,
    /// Last.
    pub last: UnixMs,
    /// How often.
    pub count: u64,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    known: Arc<Mutex<BTreeMap<Alarm, Times>>>,
}

impl Alarms {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Alarm, Times>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All, the last one seen first.
    pub fn all(&self) -> Vec<(Alarm, Times)> {
        let mut all: Vec<_> = self.lock().iter().map(|(alarm, times)| (alarm.clone(), *times)).collect();
        all.sort_by_key(|(_, times)| std::cmp::Reverse(times.last));
        all
    }

    /// Takes one down. Returns whether it is new.
    pub(super) fn raise(&self, alarm: Alarm, now: UnixMs) -> bool {
        let mut known = self.lock();
        if let Some(times) = known.get_mut(&alarm) {
            (times.last, times.count) = (now, times.count + 1);
            return false;
        }
        if known.len() >= ALARMS_MAX {
            let oldest = known.iter().min_by_key(|(_, times)| times.last).map(|(alarm, _)| alarm.clone());
            oldest.and_then(|alarm| known.remove(&alarm));
        }
        known.insert(alarm, Times { first: now, last: now, count: 1 });
        true
    }
}

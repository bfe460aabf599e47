//! What nobody can explain on the nodes' networks: who gives addresses that should not, who has an address of somebody
//! else's, and who asks for what is a node's. Kept in memory until the coordinator ends.

use crate::clock::UnixMs;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many are remembered; the one that was not seen for longest is forgotten first.
const ALARMS_MAX: usize = 256;
/// So many new ones a minute go to log and journal.
const TOLD_A_MINUTE: usize = 20;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// It gives addresses, and is not this head.
    ForeignDhcp,
    /// It says that it has an address, which is somebody else's.
    TakenAddress(Holder),
    /// It was given an address, and found that somebody else has it.
    RefusedAddress,
    /// It asked for what is a node's, and was refused.
    Stranger {
        /// The node's name.
        node: String,
        /// What it asked for.
        wanted: Wanted,
    },
    /// It showed the token of a node's boot, which it did not fetch, and was refused.
    LeakedToken {
        /// The node's name.
        node: String,
    },
}

/// What a stranger wants of a node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// The command line with the token of its boot.
    CommandLine,
    /// Another file of its boot.
    BootFile,
    /// To be its agent at the broker.
    Broker,
    /// The configuration of its user.
    Bundle,
    /// To store boot files in its name.
    Upload,
    /// To report its first boot.
    FirstBoot,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wanted::CommandLine => "asked for the command line of",
            Wanted::BootFile => "asked for boot files of",
            Wanted::Broker => "wanted to be the agent of",
            Wanted::Bundle => "asked for the configuration of",
            Wanted::Upload => "sent boot files in the name of",
            Wanted::FirstBoot => "reported in the name of",
        })
    }
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
            Trouble::Stranger { .. } => "stranger_refused",
            Trouble::LeakedToken { .. } => "token_leaked",
        }
    }
}

/// Where and by whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// What is wrong.
    pub trouble: Trouble,
    /// The head's interface where it was heard; none: it asked a server that listens on all of them.
    pub interface: Option<String>,
    /// The address that it is about.
    pub address: IpAddr,
    /// The hardware address of who did it, lower case with colons; none: it was not heard itself.
    pub mac: Option<String>,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Alarm { trouble, interface, address, mac } = self;
        let who = mac.as_deref().unwrap_or("somebody");
        let interface = interface.as_deref().unwrap_or("a network of this head");
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
            Trouble::Stranger { node, wanted } => {
                write!(
                    f,
                    "{address} ({who}) {wanted} {node} and was refused: that is for its own board, at the address that fetched its token"
                )
            }
            Trouble::LeakedToken { node } => {
                write!(f, "{address} ({who}) showed the token of {node}'s boot, which it did not fetch")
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
    told: Arc<Mutex<Told>>,
}

/// How many new ones were told in the present minute.
#[derive(Debug, Default)]
struct Told {
    minute: u64,
    count: usize,
}

impl Told {
    fn may_tell(&mut self, now: UnixMs) -> bool {
        let minute = now.0 / 60_000;
        if minute != self.minute {
            *self = Told { minute, count: 0 };
        }
        self.count += 1;
        self.count <= TOLD_A_MINUTE
    }
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

    /// Takes one down. Returns whether it is new and to be told: whoever comes from ever new addresses fills neither
    /// log nor journal.
    pub fn raise(&self, alarm: Alarm, now: UnixMs) -> bool {
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
        drop(known);
        self.told.lock().unwrap_or_else(PoisonError::into_inner).may_tell(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(number: u8) -> Alarm {
        Alarm {
            trouble: Trouble::Stranger { node: "pi-1".into(), wanted: Wanted::Bundle },
            interface: None,
            address: [10, 0, 0, number].into(),
            mac: Some("02:00:00:00:00:66".into()),
        }
    }

    #[test]
    fn whoever_comes_from_ever_new_addresses_is_counted_and_fills_no_journal() {
        let alarms = Alarms::default();
        let told = |now| (0..100).filter(|number| alarms.raise(stranger(*number), UnixMs(now))).count();
        assert_eq!((told(0), told(1)), (TOLD_A_MINUTE, 0));
        assert_eq!(alarms.all().iter().map(|(_, times)| times.count).sum::<u64>(), 200);
        assert!(alarms.raise(stranger(200), UnixMs(60_000)), "a minute later somebody new is told again");
        let text = stranger(9).to_string();
        assert_eq!(
            text,
            "10.0.0.9 (02:00:00:00:00:66) asked for the configuration of pi-1 and was refused: that is for its own board, \
             at the address that fetched its token"
        );
    }
}

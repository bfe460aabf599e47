//! File descriptors: how many this process may have open, what is kept for its own work, and how the listeners share the
//! rest. Whatever strangers open, store, images, switches, consoles and TFTP still get theirs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for what is no client's connection: the store and its log, packs of images and uploads, switches, consoles, TFTP
/// transfers, DHCP, child processes' pipes, our own link to the broker.
pub const RESERVED: u64 = 640;

/// The soft limit is raised no further, as programs that switch ports inherit it and some close every number below it.
const RAISED_MAX: u64 = 65_536;

/// A listener with fewer connections is of no use.
const CONNECTIONS_MIN: u64 = 16;

/// More connections than these are not needed unless the settings say so: an agent holds one at the broker, and at the
/// nodes' listener one or two while it copies.
const BROKER_DEFAULT: u64 = 6_144;
const NODES_DEFAULT: u64 = 4_096;
const PEOPLE_DEFAULT: u64 = 512;

/// Connections that each listener may have open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// At the broker.
    pub broker: u32,
    /// At the nodes' HTTP listener.
    pub nodes: u32,
    /// At the people's HTTP listener.
    pub people: u32,
}

/// What the settings say of them; what they leave out follows from the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `[broker] connections`.
    pub broker: Option<u32>,
    /// `[nodes] connections`.
    pub nodes: Option<u32>,
    /// `[people] connections`.
    pub people: Option<u32>,
}

/// The settings want more descriptors than there are.
#[derive(Debug, thiserror::Error)]
#[error(
    "{wanted} connections and {RESERVED} files of its own are more than the {limit} files that the coordinator may have \
     open: raise LimitNOFILE in its unit (or `ulimit -Hn`), or lower `connections` in [broker], [nodes] or [people]"
)]
pub struct DescriptorsError {
    /// Connections that the settings name, and the fewest of each listener that they do not name.
    pub wanted: u64,
    /// What may be open.
    pub limit: u64,
}

/// Raises the soft limit to the hard one; how many descriptors may be open from now on.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current.unwrap_or(RAISED_MAX);
    let raised = maximum.unwrap_or(RAISED_MAX).min(RAISED_MAX);
    if raised <= current {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => raised,
        Err(error) => {
            tracing::warn!(%error, current, "the limit of open files cannot be raised");
            current
        }
    }
}

impl Connections {
    /// Shares `limit` descriptors: what the settings name first, half of the rest for the broker, then nodes and people.
    ///
    /// # Errors
    /// When not all wishes can come true.
    pub fn share(limit: u64, wishes: Wishes) -> Result<Connections, DescriptorsError> {
        let named = |wish: Option<u32>| wish.map_or(CONNECTIONS_MIN, u64::from);
        let wanted = named(wishes.broker) + named(wishes.nodes) + named(wishes.people);
        let spare = limit.checked_sub(RESERVED + wanted).ok_or(DescriptorsError { wanted, limit })?;
        let mut left = spare;
        let mut take = |wish: Option<u32>, default: u64, part: u64| {
            let share = wish.map_or_else(|| (CONNECTIONS_MIN + left / part).min(default), u64::from);
            if wish.is_none() {
                left -= share - CONNECTIONS_MIN;
            }
            u32::try_from(share).expect("a wish or a default")
        };
        let broker = take(wishes.broker, BROKER_DEFAULT, 2);
        let people = take(wishes.people, PEOPLE_DEFAULT, 4);
        let nodes = take(wishes.nodes, NODES_DEFAULT, 1);
        Ok(Connections { broker, nodes, people })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(connections: Connections) -> u64 {
        [connections.broker, connections.nodes, connections.people].map(u64::from).iter().sum()
    }

    #[test]
    fn listeners_never_share_more_than_there_is() {
        for limit in (700..30_000).step_by(97) {
            let shared = Connections::share(limit, Wishes::default()).unwrap();
            assert!(all(shared) + RESERVED <= limit, "{limit}: {shared:?}");
            assert!(shared.people >= 16 && shared.nodes >= 16 && shared.broker >= 16, "{shared:?}");
        }
        let full = Connections { broker: 6_144, nodes: 4_096, people: 512 };
        assert_eq!(Connections::share(16_384, Wishes::default()).unwrap(), full);
    }

    #[test]
    fn what_the_settings_name_is_given_or_refused_in_words() {
        let wishes = Wishes { nodes: Some(3_000), ..Wishes::default() };
        assert_eq!(Connections::share(4_096, wishes).unwrap().nodes, 3_000);
        let error = Connections::share(1_024, wishes).unwrap_err().to_string();
        assert!(
            error.starts_with("3032 connections and 640 files of its own are more than the 1024"),
            "{error}"
        );
        assert!(Connections::share(100, Wishes::default()).is_err());
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(RAISED_MAX);
        let raised = raise();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(raised));
        assert!(raised >= hard.min(RAISED_MAX));
    }
}

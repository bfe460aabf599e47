//! Who is connected, at most once each: a newcomer takes over its predecessor's seat when that has ended entirely.
//!
//! A seat is a place in a table and, but for the coordinator, one of a bounded number. Knows no socket and no packet.

use super::identity::{Identity, LiveBoots};
use piseduce_protocol::id::{BootNumber, Serial};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// How a gate's connections are shared, so that nobody starves anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Connections of nobody yet, which have shown no password.
    pub(super) arriving: usize,
    /// Sessions of monitors.
    pub(super) monitors: usize,
    /// Sessions of one monitor's account.
    pub(super) of_account: usize,
    /// Sessions of agents.
    pub(super) agents: usize,
}

impl Shares {
    /// Of this many connections; the coordinator has one beside them.
    pub(super) fn of(connections: usize) -> Self {
        let arriving = (connections / 10).clamp(1, 512);
        let monitors = (connections / 40).clamp(2, 128);
        let of_account = (monitors / 4).max(2);
        Shares {
            arriving,
            monitors,
            of_account,
            agents: connections.saturating_sub(arriving + monitors).max(1),
        }
    }
}

/// Why somebody must leave a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// A newcomer wants it.
    TakenOver,
    /// The agent's boot is no longer live.
    BootOver,
}

/// Whose seats are all taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// Those of agents.
    #[error("all {0} seats of agents are taken: raise [broker] connections")]
    Agents(usize),
    /// Those of monitors.
    #[error("all {0} seats of monitors are taken")]
    Monitors(usize),
    /// Those of one account.
    #[error("this user has taken all {0} seats that one user may have")]
    Account(usize),
}

/// A client as others of its kind must not take it over: monitors have client ids of their own each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Coordinator,
    Agent(Serial),
    Monitor { account: String, client_id: String },
}

struct Sitting {
    /// Of an agent.
    boot: Option<BootNumber>,
    send_away: watch::Sender<Option<Farewell>>,
}

#[derive(Default)]
struct Table {
    taken: HashMap<Key, Sitting>,
    agents: usize,
    /// By account; without those that have none.
    monitors: HashMap<String, usize>,
}

/// All seats of a gate.
pub(super) struct Seats {
    shares: Shares,
    table: Mutex<Table>,
}

/// A seat that is taken. Dropping it, the last thing a session does, lets the next one sit down.
pub(super) struct Seat {
    seats: Arc<Seats>,
    key: Key,
    sent_away: watch::Receiver<Option<Farewell>>,
}

impl Table {
    /// Counts one more of this kind, if there may be one more.
    fn count(&mut self, key: &Key, shares: &Shares) -> Result<(), Full> {
        match key {
            // Without it, nothing works that the others could be here for.
            Key::Coordinator => {}
            Key::Agent(_) if self.agents >= shares.agents => return Err(Full::Agents(shares.agents)),
            Key::Agent(_) => self.agents += 1,
            Key::Monitor { account, .. } => {
                if self.monitors.get(account).is_some_and(|count| *count >= shares.of_account) {
                    return Err(Full::Account(shares.of_account));
                }
                if self.monitors.values().sum::<usize>() >= shares.monitors {
                    return Err(Full::Monitors(shares.monitors));
                }
                *self.monitors.entry(account.clone()).or_default() += 1;
            }
        }
        Ok(())
    }

    fn leave(&mut self, key: &Key) {
        self.taken.remove(key);
        match key {
            Key::Coordinator => {}
            Key::Agent(_) => self.agents -= 1,
            Key::Monitor { account, .. } => {
                if let Entry::Occupied(mut entry) = self.monitors.entry(account.clone()) {
                    *entry.get_mut() -= 1;
                    if *entry.get() == 0 {
                        entry.remove();
                    }
                }
            }
        }
    }
}

impl Seats {
    pub(super) fn new(shares: Shares) -> Arc<Self> {
        Arc::new(Seats { shares, table: Mutex::default() })
    }

    /// Takes the seat of this client; who sits there is sent away and waited for.
    ///
    /// # Errors
    /// When all seats of its kind are taken.
    pub(super) async fn take(self: &Arc<Self>, identity: &Identity, client_id: &str) -> Result<Seat, Full> {
        let (key, boot) = match identity {
            Identity::Coordinator => (Key::Coordinator, None),
            Identity::Agent { serial, boot } => (Key::Agent(*serial), Some(*boot)),
            Identity::Monitor { name } => {
                (Key::Monitor { account: name.clone(), client_id: client_id.to_owned() }, None)
            }
        };
        loop {
            let predecessor = {
                let mut table = self.table();
                match table.taken.get(&key) {
                    Some(sitting) => sitting.send_away.clone(),
                    None => {
                        table.count(&key, &self.shares)?;
                        let (send_away, sent_away) = watch::channel(None);
                        table.taken.insert(key.clone(), Sitting { boot, send_away });
                        return Ok(Seat { seats: Arc::clone(self), key, sent_away });
                    }
                }
            };
            predecessor.send_replace(Some(Farewell::TakenOver));
            predecessor.closed().await;
        }
    }

    /// Sends away the agents whose boots are not `live`.
    pub(super) fn end_boots(&self, live: &LiveBoots) {
        for (key, sitting) in &self.table().taken {
            if let (Key::Agent(serial), Some(boot)) = (key, &sitting.boot)
                && live.get(serial) != Some(boot)
            {
                sitting.send_away.send_replace(Some(Farewell::BootOver));
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics while it holds this lock")
    }
}

impl Seat {
    /// Resolves when this seat must be left.
    pub(super) fn sent_away(&self) -> impl Future<Output = Farewell> + use<> {
        let mut sent_away = self.sent_away.clone();
        async move {
            // An error would mean that the seat is no longer in the table, which is as good a reason to leave it.
            sent_away.wait_for(Option::is_some).await.ok().and_then(|why| *why).unwrap_or(Farewell::TakenOver)
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.table().leave(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SHARES: Shares = Shares { arriving: 1, monitors: 3, of_account: 2, agents: 2 };

    fn monitor(name: &str) -> Identity {
        Identity::Monitor { name: name.into() }
    }

    fn agent(serial: u64) -> Identity {
        Identity::Agent { serial: Serial(serial), boot: BootNumber(1) }
    }

    #[tokio::test]
    async fn a_newcomer_sits_down_only_when_its_predecessor_has_left() {
        let seats = Seats::new(SHARES);
        let first = seats.take(&monitor("alice"), "x").await.unwrap();
        let newcomer = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.take(&monitor("alice"), "x").await.is_ok() }
        });
        assert_eq!(first.sent_away().await, Farewell::TakenOver);
        assert!(!newcomer.is_finished());
        drop(first);
        assert!(newcomer.await.unwrap());
    }

    #[tokio::test]
    async fn equal_client_ids_of_different_users_are_different_seats() {
        let seats = Seats::new(SHARES);
        let alice = seats.take(&monitor("alice"), "x").await.unwrap();
        let _bob = seats.take(&monitor("bob"), "x").await.unwrap();
        assert!(timeout(Duration::from_millis(10), alice.sent_away()).await.is_err());
    }

    #[tokio::test]
    async fn agents_users_and_the_coordinator_take_no_seats_of_each_other() {
        let seats = Seats::new(SHARES);
        let alice = seats.take(&monitor("alice"), "1").await.unwrap();
        let _second = seats.take(&monitor("alice"), "2").await.unwrap();
        assert_eq!(seats.take(&monitor("alice"), "3").await.err(), Some(Full::Account(2)));
        let _bob = seats.take(&monitor("bob"), "1").await.unwrap();
        assert_eq!(seats.take(&monitor("carol"), "1").await.err(), Some(Full::Monitors(3)));
        let _agents = [seats.take(&agent(1), "").await.unwrap(), seats.take(&agent(2), "").await.unwrap()];
        assert_eq!(seats.take(&agent(3), "").await.err(), Some(Full::Agents(2)));
        assert!(seats.take(&Identity::Coordinator, "coordinator").await.is_ok());
        drop(alice);
        assert!(seats.take(&monitor("carol"), "1").await.is_ok());
    }

    #[tokio::test]
    async fn only_the_agent_whose_boot_is_over_is_told_so() {
        let seats = Seats::new(SHARES);
        let (first, second) =
            (seats.take(&agent(1), "").await.unwrap(), seats.take(&agent(2), "").await.unwrap());
        seats.end_boots(&Arc::new(HashMap::from([(Serial(1), BootNumber(1)), (Serial(2), BootNumber(2))])));
        assert_eq!(second.sent_away().await, Farewell::BootOver);
        assert!(timeout(Duration::from_millis(10), first.sent_away()).await.is_err());
    }

    #[test]
    fn shares_are_never_more_than_there_is() {
        for connections in 4..10_000 {
            let Shares { arriving, monitors, agents, of_account } = Shares::of(connections);
            assert!(arriving + monitors + agents <= connections, "{connections}");
            assert!(
                of_account <= monitors && (connections < 40 || agents > connections * 4 / 5),
                "{connections}"
            );
        }
        let usual = Shares { arriving: 512, monitors: 128, of_account: 32, agents: 5_504 };
        assert_eq!(Shares::of(6_144), usual);
    }
}

//! A PoE switch that speaks SNMP, with faults to order. Its agent is a real one: v1 and v2c with a community, v3 with
//! a user; what its ports do is simulated, and told to whoever has the boards.
//!
//! What it shows to SNMP is in [`mib`]; datagrams get lost in [`door`].

mod door;
mod mib;

use anyhow::Context as _;
use async_snmp::agent::Agent;
use async_snmp::v3::AuthoritativeEngine;
use async_snmp::{AuthProtocol, Oid, PrivProtocol};
use piseduce_coordinator::clock::{self, Instant};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::Duration;

/// What its community and passwords are; a story may look for them where they must not be.
pub const COMMUNITY: &str = "rack-community";
/// The password of its user by v3.
pub const PASSWORD: &str = "rack-password-of-v3";
/// Its user by v3.
pub const SNMP_USER: &str = "rack-user";

/// Told of a port that begins or ends to deliver power.
pub type Wire = Box<dyn Fn(u32, bool) + Send + Sync>;

/// Faults to order.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Every SET is refused, with this.
    pub refuse: Option<Refusal>,
    /// A SET is accepted, and nothing happens.
    pub ignore_sets: bool,
    /// Each answer takes so long.
    pub delay: Duration,
    /// So many requests get no answer.
    pub lose: usize,
    /// No request gets an answer.
    pub silent: bool,
    /// Ports whose detection stays what it is.
    pub stuck: BTreeSet<u32>,
    /// Ports at which no address is seen.
    pub hidden: BTreeSet<u32>,
    /// What all ports together may deliver, in milliwatts; a port beyond it is denied power.
    pub budget_mw: Option<u64>,
    /// What becomes of GETBULK.
    pub bulk: Bulk,
    /// How the table of addresses is shown.
    pub addresses: Addresses,
    /// Addresses that belong to nobody, at the uplink.
    pub strangers: u32,
}

/// What a switch makes of GETBULK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bulk {
    /// It answers.
    #[default]
    Answered,
    /// It says nothing.
    Dropped,
    /// It says genErr.
    Refused,
}

/// How a switch shows the addresses that it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// By VLAN and address.
    #[default]
    ByVlan,
    /// By address, all VLANs in one.
    ByAddress,
    /// By the number of the row.
    ByRow,
    /// By address, to who asks in this VLAN only: `community@VLAN`, context `vlan-VLAN`.
    InVlan(u16),
    /// Not at all.
    Hidden,
    /// Whoever asks for them gets no answer.
    Silent,
}

/// What a switch says instead of doing as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It can only be read.
    NotWritable,
    /// It has its own reasons.
    GeneralFailure,
}

/// A port.
#[derive(Clone, Debug)]
struct Outlet {
    admin: bool,
    /// Since when it delivers; none: it does not.
    delivers_from: Option<Instant>,
    /// The address of the board on it.
    board: Option<String>,
    /// What the board draws, in milliwatts.
    draws_mw: u64,
    denied: bool,
}

struct State {
    outlets: BTreeMap<u32, Outlet>,
    started: Instant,
    /// What it says beyond that: it was running before the story began.
    ran_before: Duration,
    faults: Faults,
    /// How long a port searches before it delivers.
    detection: Duration,
    sets: Vec<(Instant, u32, bool)>,
    requests: usize,
    in_flight: usize,
    most_in_flight: usize,
}

/// A running switch.
pub struct SimulatedSwitch {
    address: SocketAddr,
    state: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    state: Mutex<State>,
    wire: Wire,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sets a port as the agent was told to.
    fn set(&self, port: u32, on: bool) {
        let told = {
            let mut state = self.lock();
            if state.faults.ignore_sets {
                return;
            }
            state.sets.push((clock::now(), port, on));
            state.set(port, on)
        };
        if let Some(on) = told {
            (self.wire)(port, on);
        }
    }
}

impl State {
    /// A request arrives, or gets lost.
    fn arrives(&mut self) -> bool {
        if self.faults.silent || self.faults.lose > 0 {
            self.faults.lose = self.faults.lose.saturating_sub(1);
            return false;
        }
        self.requests += 1;
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        true
    }

    /// What the board on a port feels, if that changed.
    fn set(&mut self, port: u32, on: bool) -> Option<bool> {
        let used: u64 = self
            .outlets
            .values()
            .filter(|outlet| outlet.delivers_from.is_some())
            .map(|outlet| outlet.draws_mw)
            .sum();
        let (budget, detection) = (self.faults.budget_mw, self.detection);
        let outlet = self.outlets.get_mut(&port)?;
        outlet.admin = on;
        let had = outlet.delivers_from.is_some();
        outlet.denied = on && !had && budget.is_some_and(|budget| used + outlet.draws_mw > budget);
        let has = on && outlet.board.is_some() && !outlet.denied;
        if had != has {
            outlet.delivers_from = has.then(|| clock::now() + detection);
            return Some(has);
        }
        None
    }
}

impl SimulatedSwitch {
    /// A switch with so many ports, all off and without a board.
    ///
    /// # Errors
    /// When its agent cannot be started.
    pub fn start(ports: u32, wire: Wire) -> anyhow::Result<SimulatedSwitch> {
        let outlet = Outlet { admin: false, delivers_from: None, board: None, draws_mw: 6000, denied: false };
        let state = State {
            outlets: (1..=ports).map(|port| (port, outlet.clone())).collect(),
            started: clock::now(),
            ran_before: Duration::from_secs(3600),
            faults: Faults::default(),
            detection: Duration::from_millis(20),
            sets: vec![],
            requests: 0,
            in_flight: 0,
            most_in_flight: 0,
        };
        let state = Arc::new(Shared { state: Mutex::new(state), wire });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (send, bound) = mpsc::channel();
        let mib = Arc::new(mib::Mib { shared: state.clone() });
        let shared = state.clone();
        runtime.spawn(async move {
            let opened = open(mib).await;
            let _ = send.send(
                opened.as_ref().map(|(_, door)| door.local_addr()).map_err(|error| format!("{error:#}")),
            );
            if let Ok((agent, door)) = opened {
                // Both end with the runtime.
                tokio::spawn(door::pass(door, agent.local_addr(), shared));
                let _ = agent.run().await;
            }
        });
        let address = bound.recv()?.map_err(|error| anyhow::anyhow!(error))??;
        Ok(SimulatedSwitch { address, state, runtime: Some(runtime) })
    }

    /// Where its agent listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Plugs a board into a port.
    pub fn plug(&self, port: u32, mac: &str) {
        if let Some(outlet) = self.state.lock().outlets.get_mut(&port) {
            outlet.board = Some(mac.into());
        }
    }

    /// Changes the faults.
    pub fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state.lock().faults);
    }

    /// No address is seen at this port any more.
    pub fn hide(&self, port: u32) {
        self.fault(|faults| {
            faults.hidden.insert(port);
        });
    }

    /// How long a port searches before it delivers.
    pub fn detect_for(&self, time: Duration) {
        self.state.lock().detection = time;
    }

    /// Whether a port is switched on.
    pub fn is_on(&self, port: u32) -> bool {
        self.state.lock().outlets.get(&port).is_some_and(|outlet| outlet.admin)
    }

    /// Switches a port as a person at the switch does.
    pub fn set(&self, port: u32, on: bool) {
        self.state.set(port, on);
    }

    /// Every SET that was carried out, in order.
    pub fn sets(&self) -> Vec<(Instant, u32, bool)> {
        self.state.lock().sets.clone()
    }

    /// The most requests that were being answered at once.
    pub fn most_in_flight(&self) -> usize {
        self.state.lock().most_in_flight
    }

    /// How many requests arrived.
    pub fn requests(&self) -> usize {
        self.state.lock().requests
    }

    /// Power fails: every board is dark, and nothing answers until [`SimulatedSwitch::power_returns`].
    pub fn power_fails(&self) {
        let dark: Vec<u32> = {
            let mut state = self.state.lock();
            state.faults.silent = true;
            let outlets = state.outlets.iter_mut();
            outlets.filter_map(|(port, outlet)| outlet.delivers_from.take().map(|_| *port)).collect()
        };
        dark.into_iter().for_each(|port| (self.state.wire)(port, false));
    }

    /// The switch starts, and its ports are as they were set.
    pub fn power_returns(&self) {
        let lit: Vec<u32> = {
            let mut state = self.state.lock();
            state.faults.silent = false;
            (state.started, state.ran_before) = (clock::now(), Duration::ZERO);
            let on: Vec<u32> =
                state.outlets.iter().filter(|(_, outlet)| outlet.admin).map(|(port, _)| *port).collect();
            on.into_iter().filter(|port| state.set(*port, true) == Some(true)).collect()
        };
        lit.into_iter().for_each(|port| (self.state.wire)(port, true));
    }

    /// Writes a file of its secrets for one version into `directory`; returns the lines of an inventory that name it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn entry(&self, directory: &Path, name: &str, version: &str) -> anyhow::Result<String> {
        let secrets = directory.join(format!("{name}.secrets"));
        let text = match version {
            "3" => format!(
                "user = \"{SNMP_USER}\"\nauth_password = \"{PASSWORD}\"\nprivacy_password = \"{PASSWORD}\"\n"
            ),
            _ => format!("community = \"{COMMUNITY}\"\n"),
        };
        fs::write(&secrets, text).with_context(|| format!("failed to write {}", secrets.display()))?;
        fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600))?;
        Ok(format!(
            "[[switch]]\nname = \"{name}\"\noff_time_ms = 100\n[switch.driver.snmp]\naddress = \"{}\"\nversion = \"{version}\"\nsecrets = \"{}\"\n",
            self.address,
            secrets.display()
        ))
    }
}

impl Drop for SimulatedSwitch {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn open(mib: Arc<mib::Mib>) -> anyhow::Result<(Agent, tokio::net::UdpSocket)> {
    Ok((agent(mib).await?, tokio::net::UdpSocket::bind("127.0.0.1:0").await?))
}

async fn agent(mib: Arc<mib::Mib>) -> anyhow::Result<Agent> {
    let engine = AuthoritativeEngine::install(b"piseduce-simulated".to_vec(), |_| {
        Ok::<(), std::convert::Infallible>(())
    });
    let agent = Agent::builder()
        .bind("127.0.0.1:0")
        .community(COMMUNITY.as_bytes())
        .community(format!("{COMMUNITY}@{}", mib::VLAN).as_bytes())
        .authoritative_engine(engine.map_err(|error| anyhow::anyhow!("{error}"))?)
        .usm_user(SNMP_USER, |user| {
            user.auth_priv(AuthProtocol::Sha256, PASSWORD, PrivProtocol::Aes128, PASSWORD)
        })?
        .without_builtin_handlers()
        .handler(Oid::parse("1.3.6.1").map_err(|error| anyhow::anyhow!("{error}"))?, mib)
        .allow_all_access();
    agent.build().await.map_err(|error| anyhow::anyhow!("no SNMP agent: {error}"))
}

//! The broker as the settings want it: the embedded one with its door, or an external one with our accounts there. For
//! the rest of the house both are an address and an account; only here is the difference known.

use crate::bus::gate::{Gate, GateSettings};
use crate::bus::link::{Heard, LinkSettings};
use crate::bus::{Admission, COORDINATOR_CLIENT_ID, Doorkeeper, Identity, LiveBoots, Login, Refusal};
use crate::config::{self, Accounts, Config};
use crate::credentials::Credentials;
use crate::domain::user::Role;
use crate::store::Store;
use piseduce_protocol::boot::Account;
use piseduce_protocol::id::BootNumber;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The broker, running or reachable.
pub(super) struct Broker {
    gate: Option<Gate>,
    /// How our own link gets there.
    pub(super) link: LinkSettings,
    /// Its address as nodes reach it.
    pub(super) advertised: SocketAddr,
    /// The account that agents share there; none: each boot has credentials of its own.
    pub(super) agents: Option<Account>,
}

impl Broker {
    /// Opens the door of the embedded broker, or reads the accounts at the external one.
    ///
    /// # Errors
    /// When the gate cannot listen, or the accounts cannot be read. An external broker that cannot be reached is none:
    /// it may come later.
    pub(super) async fn open(config: &Config, door: Door, epoch: u32) -> anyhow::Result<Broker> {
        let site = config.site.clone();
        match &config.broker {
            config::Broker::Embedded(listener) => {
                let password = door.credentials.coordinator_password();
                let live = door.live.clone();
                let settings = GateSettings::new(listener.listen);
                let gate = Gate::start(settings, site.clone(), Arc::new(door), live).await?;
                let bound = gate.local_addr();
                let link = LinkSettings {
                    host: if bound.is_ipv6() { format!("[{}]", bound.ip()) } else { bound.ip().to_string() },
                    tcp_port: bound.port(),
                    client_id: COORDINATOR_CLIENT_ID.into(),
                    account: Account { user: COORDINATOR_CLIENT_ID.into(), password },
                    site,
                    epoch,
                };
                Ok(Broker { gate: Some(gate), link, advertised: listener.advertised(bound), agents: None })
            }
            config::Broker::External(external) => {
                let accounts = Accounts::read(&external.accounts)?;
                let link = LinkSettings {
                    host: external.host.clone(),
                    tcp_port: external.tcp_port,
                    client_id: door.credentials.coordinator_client_id(),
                    account: accounts.coordinator,
                    site,
                    epoch,
                };
                let (advertised, agents) = (external.advertised, Some(accounts.agents));
                Ok(Broker { gate: None, link, advertised, agents })
            }
        }
    }

    /// Resolves when the embedded broker's router has died. The end of an external one is no end of ours.
    pub(super) fn died(&self) -> impl Future<Output = ()> + Send + use<> {
        let died = self.gate.as_ref().map(Gate::router_died);
        async move {
            match died {
                Some(died) => died.await,
                None => pending().await,
            }
        }
    }

    /// Closes the embedded broker.
    pub(super) async fn stop(self) {
        if let Some(gate) = self.gate {
            gate.stop().await;
        }
    }
}

/// Who may come in at the embedded broker.
pub(super) struct Door {
    pub(super) credentials: Credentials,
    pub(super) live: watch::Receiver<LiveBoots>,
    pub(super) store: Store,
    /// Hears of agents that should be without power.
    pub(super) heard: mpsc::Sender<Heard>,
}

impl Door {
    async fn identify(&self, login: &Login) -> Result<Identity, Refusal> {
        if login.user_name == COORDINATOR_CLIENT_ID {
            let expected = self.credentials.coordinator_password();
            return same(&login.password, &expected)
                .then_some(Identity::Coordinator)
                .ok_or(Refusal::Credentials);
        }
        if let Ok(serial) = login.user_name.parse() {
            let boot = self.live.borrow().get(&serial).copied().ok_or(Refusal::Credentials)?;
            let expected = self.credentials.boot_keys(serial, boot).mqtt_password;
            if same(&login.password, &expected) {
                return Ok(Identity::Agent { serial, boot });
            }
            let before = BootNumber(boot.0.saturating_sub(1));
            if same(&login.password, &self.credentials.boot_keys(serial, before).mqtt_password) {
                // One that is not heard because the coordinator is busy knocks again.
                let _ = self.heard.try_send(Heard::Stale(serial));
            }
            return Err(Refusal::Credentials);
        }
        let user = self.store.user_of_token(&login.password).await.map_err(|_| Refusal::Unavailable)?;
        match user {
            Some(user) if user.name == login.user_name => match user.role {
                Role::Monitor | Role::Admin => Ok(Identity::Monitor { name: user.name }),
                Role::User => Err(Refusal::NotAuthorised),
            },
            _ => Err(Refusal::Credentials),
        }
    }
}

/// Compares hashes, which takes the same time wherever the texts differ.
fn same(shown: &str, expected: &str) -> bool {
    blake3::hash(shown.as_bytes()) == blake3::hash(expected.as_bytes())
}

impl Doorkeeper for Door {
    fn admit<'a>(&'a self, login: &'a Login) -> Admission<'a> {
        Box::pin(self.identify(login))
    }
}

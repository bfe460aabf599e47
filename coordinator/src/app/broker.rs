//! The broker as the settings want it: the embedded one with its door, or an external one with our accounts there. For
//! the rest of the house both are an address and an account; only here is the difference known.

use super::door::Door;
use crate::bus::COORDINATOR_CLIENT_ID;
use crate::bus::gate::{Gate, GateSettings};
use crate::bus::link::LinkSettings;
use crate::config::{self, Accounts, Config};
use piseduce_protocol::boot::Account;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

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
    pub(super) async fn open(
        config: &Config,
        door: Door,
        epoch: u32,
        connections: u32,
    ) -> anyhow::Result<Broker> {
        let site = config.site.clone();
        match &config.broker {
            config::Broker::Embedded(listener) => {
                let password = door.credentials.coordinator_password();
                let live = door.live.clone();
                let connections_max = usize::try_from(connections).expect("usize has 32 bits at least");
                let settings = GateSettings { connections_max, ..GateSettings::new(listener.listen) };
                tell_if_few(&settings, door.store.nodes().await?.len());
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

/// Agents that find no seat wait, and their nodes are restarted in the end.
fn tell_if_few(settings: &GateSettings, nodes: usize) {
    let seats = settings.agents_max();
    if nodes > seats {
        tracing::warn!(
            nodes,
            seats,
            "fewer agents can be connected than there are nodes: raise [broker] connections, and LimitNOFILE with it"
        );
    }
}

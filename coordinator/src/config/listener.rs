//! The sections of the listeners: where to listen, how others reach it, how many may come.

use super::{ConfigError, Section};
use std::net::SocketAddr;

/// HTTP connections from one address of nodes: an agent has one or two, and those of a boot that was cut linger for a while.
/// A cache before the listener needs more.
pub(super) const PER_ADDRESS_NODES: u32 = 32;
/// HTTP connections from one address of people: many may come through one proxy or from one desk.
pub(super) const PER_ADDRESS_PEOPLE: u32 = 128;

/// Nobody needs more.
const CONNECTIONS_MAX: u64 = 1_000_000;

/// Where to listen, and how others reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address to bind.
    pub listen: SocketAddr,
    /// The address that others use; TCP port 0 stands for the one that was bound.
    advertised: SocketAddr,
    /// Connections at once; none: what the limit of open files leaves.
    pub connections: Option<u32>,
    /// Connections at once from one address.
    pub per_address: u32,
}

impl Listener {
    /// The address that others use, once `bound` is known.
    pub fn advertised(&self, bound: SocketAddr) -> SocketAddr {
        match self.advertised.port() {
            0 => SocketAddr::new(self.advertised.ip(), bound.port()),
            _ => self.advertised,
        }
    }
}

impl Section<'_> {
    /// Where to listen for HTTP, for how many connections.
    pub(super) fn http_listener(mut self, default: &str, per_address: u32) -> Result<Listener, ConfigError> {
        let per_address = self.number("connections_per_address", per_address.into(), 1..=CONNECTIONS_MAX)?;
        let per_address = u32::try_from(per_address).expect("at most a million");
        let connections = self.connections()?;
        Ok(Listener { connections, per_address, ..self.listener(default)? })
    }

    /// How many connections there may be at once, if that is set.
    pub(super) fn connections(&mut self) -> Result<Option<u32>, ConfigError> {
        // Zero is not allowed, so it stands for nothing.
        let found = self.number("connections", 0, 1..=CONNECTIONS_MAX)?;
        Ok(Some(u32::try_from(found).expect("at most a million")).filter(|connections| *connections > 0))
    }

    /// Where to listen, and nothing else.
    pub(super) fn listener(mut self, default: &str) -> Result<Listener, ConfigError> {
        let listen = self.address("listen")?;
        let listen = listen.unwrap_or_else(|| default.parse().expect("a default is an address"));
        let advertised = self.address("advertised_address")?;
        let advertised = match advertised {
            Some(advertised) => advertised,
            None if listen.ip().is_unspecified() => {
                let allowed = format!(
                    "the address by which others reach \"{listen}\", such as \"10.0.0.1:{}\"",
                    listen.port()
                );
                return Err(self.wrong("advertised_address", "missing", allowed));
            }
            None => listen,
        };
        if advertised.ip().is_unspecified() {
            let allowed = "one address of this head node, not a wildcard";
            return Err(self.wrong("advertised_address", format!("\"{advertised}\""), allowed));
        }
        self.finish()?;
        Ok(Listener { listen, advertised, connections: None, per_address: u32::MAX })
    }
}

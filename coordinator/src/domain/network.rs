//! A network that nodes boot on: the head's interface and address there, and who gives addresses.

use std::fmt;
use std::net::Ipv4Addr;

/// The longest name of an interface that Linux allows.
const INTERFACE_CHARACTERS_MAX: usize = 15;

/// Who gives addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dhcp {
    /// The DHCP server of this head.
    Own,
    /// Another one; this head's only says what to boot.
    Proxy,
}

impl Dhcp {
    /// What settings call it.
    pub const NAMES: [(&str, Dhcp); 2] = [("own", Dhcp::Own), ("proxy", Dhcp::Proxy)];
}

/// What exports boot roots over NFS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NfsServer {
    /// The kernel's own, of Debian's package nfs-kernel-server.
    Kernel,
    /// A program, of Debian's packages nfs-ganesha and nfs-ganesha-vfs.
    Ganesha,
}

impl NfsServer {
    /// What settings call it.
    pub const NAMES: [(&str, NfsServer); 2] =
        [("nfs-kernel-server", NfsServer::Kernel), ("nfs-ganesha", NfsServer::Ganesha)];

    /// The server that settings call `name`.
    pub fn named(name: &str) -> Option<NfsServer> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, server)| *server)
    }
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The head's interface.
    pub interface: String,
    /// The head's address on it.
    pub head: Ipv4Addr,
    /// How many bits of an address name the network.
    pub prefix_length: u8,
    /// Who gives addresses.
    pub dhcp: Dhcp,
    /// The first and last address for boards that have none of their own; none: they get none.
    pub range: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The way to everywhere else.
    pub gateway: Option<Ipv4Addr>,
    /// Who knows names.
    pub dns: Vec<Ipv4Addr>,
    /// Who knows the time.
    pub ntp: Vec<Ipv4Addr>,
}

/// What is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Linux has no such interface.
    #[error(
        "interface `{0}` is not allowed: 1 to {INTERFACE_CHARACTERS_MAX} letters, digits, `.`, `-` and `_`"
    )]
    Interface(String),
    /// Too small or too large a network.
    #[error("a network of /{0} is not allowed: /8 to /30")]
    PrefixLength(u8),
    /// An address that cannot be one there.
    #[error("{what} {address} is no address in {network}")]
    Outside {
        /// Whose address.
        what: &'static str,
        /// The address.
        address: Ipv4Addr,
        /// The network.
        network: Subnet,
    },
    /// The range ends before it begins, or has the head in it.
    #[error(
        "range {0} to {1} is not allowed: it must not end before it begins, and the head's address must not be in it"
    )]
    Range(Ipv4Addr, Ipv4Addr),
    /// Another server's addresses.
    #[error("with dhcp = \"proxy\" another server gives addresses: there can be no {0}")]
    Proxy(&'static str),
}

/// A network's address and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its first address, which nobody has.
    pub address: Ipv4Addr,
    /// How many bits of an address name it.
    pub prefix_length: u8,
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

impl Network {
    /// Its mask.
    pub fn mask(&self) -> Ipv4Addr {
        u32::MAX.checked_shl(32 - u32::from(self.prefix_length)).unwrap_or(0).into()
    }

    /// Its address and length.
    pub fn subnet(&self) -> Subnet {
        let address = u32::from(self.head) & u32::from(self.mask());
        Subnet { address: address.into(), prefix_length: self.prefix_length }
    }

    /// The address of everybody there.
    pub fn broadcast(&self) -> Ipv4Addr {
        (u32::from(self.head) | !u32::from(self.mask())).into()
    }

    /// Whether a board could have this address there.
    pub fn has(&self, address: Ipv4Addr) -> bool {
        let (mask, address) = (u32::from(self.mask()), u32::from(address));
        let host = address & !mask;
        address & mask == u32::from(self.head) & mask && host != 0 && host != !mask
    }

    /// Whose address this is on the network already, if no board may have it there.
    pub fn taken_by(&self, address: Ipv4Addr) -> Option<&'static str> {
        match address {
            _ if address == self.head => Some("this head's own address"),
            _ if self.gateway == Some(address) => Some("the gateway's address"),
            _ if address == self.broadcast() => Some("the address of everybody"),
            _ if address == self.subnet().address => Some("the network's own name"),
            _ => None,
        }
    }

    /// The network, if it can be one.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn checked(self) -> Result<Self, NetworkError> {
        let of_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if !(1..=INTERFACE_CHARACTERS_MAX).contains(&self.interface.len())
            || !self.interface.chars().all(of_name)
        {
            return Err(NetworkError::Interface(self.interface));
        }
        if !(8..=30).contains(&self.prefix_length) {
            return Err(NetworkError::PrefixLength(self.prefix_length));
        }
        let inside = |what, address: Ipv4Addr| match self.has(address) {
            true => Ok(()),
            false => Err(NetworkError::Outside { what, address, network: self.subnet() }),
        };
        inside("the head's address", self.head)?;
        self.gateway.map_or(Ok(()), |gateway| inside("gateway", gateway))?;
        if let Some((first, last)) = self.range {
            inside("the range's first address", first)?;
            inside("the range's last address", last)?;
            if first > last || (first..=last).contains(&self.head) {
                return Err(NetworkError::Range(first, last));
            }
        }
        if self.dhcp == Dhcp::Proxy {
            let given = [
                ("range", self.range.is_some()),
                ("gateway", self.gateway.is_some()),
                ("dns", !self.dns.is_empty()),
                ("ntp", !self.ntp.is_empty()),
            ];
            if let Some((what, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
                return Err(NetworkError::Proxy(what));
            }
        }
        Ok(self)
    }
}

/// A network for tests: the head has 10.0.0.1 on `eth1`, in a network of /24 with a range.
#[cfg(test)]
pub(crate) fn sample() -> Network {
    Network {
        interface: "eth1".into(),
        head: Ipv4Addr::new(10, 0, 0, 1),
        prefix_length: 24,
        dhcp: Dhcp::Own,
        range: Some((Ipv4Addr::new(10, 0, 0, 100), Ipv4Addr::new(10, 0, 0, 199))),
        gateway: None,
        dns: vec![],
        ntp: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::sample as network;
    use super::*;

    #[test]
    fn a_network_knows_what_is_in_it() {
        let network = network().checked().unwrap();
        assert_eq!(
            (network.mask().to_string(), network.subnet().to_string()),
            ("255.255.255.0".into(), "10.0.0.0/24".into())
        );
        for (address, is_in) in
            [("10.0.0.7", true), ("10.0.0.0", false), ("10.0.0.255", false), ("10.0.1.7", false)]
        {
            assert_eq!(network.has(address.parse().unwrap()), is_in, "{address}");
        }
        let gateway = Some(Ipv4Addr::new(10, 0, 0, 254));
        let network = Network { gateway, ..network };
        for address in ["10.0.0.0", "10.0.0.1", "10.0.0.254", "10.0.0.255"] {
            assert!(network.taken_by(address.parse().unwrap()).is_some(), "{address}");
        }
        assert_eq!(network.taken_by(Ipv4Addr::new(10, 0, 0, 7)), None);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let at = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        for (change, expected) in [
            (Network { interface: "eth 1".into(), ..network() }, "interface `eth 1` is not allowed"),
            (Network { prefix_length: 31, ..network() }, "a network of /31 is not allowed"),
            (
                Network { gateway: Some(at("10.0.1.1")), ..network() },
                "gateway 10.0.1.1 is no address in 10.0.0.0/24",
            ),
            (
                Network { range: Some((at("10.0.0.9"), at("10.0.0.8"))), ..network() },
                "range 10.0.0.9 to 10.0.0.8",
            ),
            (
                Network { range: Some((at("10.0.0.1"), at("10.0.0.8"))), ..network() },
                "range 10.0.0.1 to 10.0.0.8",
            ),
            (Network { dhcp: Dhcp::Proxy, ..network() }, "there can be no range"),
        ] {
            let error = change.checked().unwrap_err().to_string();
            assert!(error.contains(expected), "`{expected}` is not in: {error}");
        }
    }
}

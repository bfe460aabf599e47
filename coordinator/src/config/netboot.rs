//! The section `[netboot]`: where firmware is answered, and the networks that nodes boot on.

use super::{ConfigError, Section, one_of};
use crate::domain::network::{Dhcp, Network, NfsServer};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use toml::Value;

/// Network boot as it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netboot {
    /// Where nodes' firmware is answered over TFTP (UDP); nowhere: nodes boot by other means.
    pub tftp: Vec<SocketAddr>,
    /// The networks that nodes boot on.
    pub networks: Vec<Network>,
    /// Where boot roots lie that nodes fetch over NFS; none: there are none.
    pub nfs: Option<Nfs>,
}

impl Netboot {
    /// Where the trees are that nodes fetch over NFS.
    pub fn exports(&self) -> Option<PathBuf> {
        self.nfs.as_ref().map(|nfs| nfs.directory.clone())
    }
}

/// Where boot roots for NFS lie, and who exports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nfs {
    /// A directory that everybody may read, with nothing else in it.
    pub directory: PathBuf,
    /// What exports it.
    pub server: NfsServer,
}

impl Section<'_> {
    /// Network boot as this section has it.
    pub(super) fn netboot(mut self) -> Result<Netboot, ConfigError> {
        let tftp = self.addresses("tftp")?;
        let mut networks: Vec<Network> = Vec::new();
        let tables = match self.take_as("network", "[[netboot.network]]") {
            None => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(other) => return Err(self.wrong("network", other.type_str(), "[[netboot.network]] tables")),
        };
        for entry in tables {
            let Value::Table(table) = entry else {
                return Err(self.wrong("network", entry.type_str(), "[[netboot.network]] tables"));
            };
            let network = Section::new(self.file, "netboot.network", table).network()?;
            if networks.iter().any(|known| known.interface == network.interface) {
                return Err(self.wrong("network", network.interface, "each interface once"));
            }
            networks.push(network);
        }
        let nfs = match self.take_as("nfs", "[netboot.nfs]") {
            None => None,
            Some(Value::Table(table)) => Some(Section::new(self.file, "netboot.nfs", table).nfs()?),
            Some(other) => return Err(self.wrong("nfs", other.type_str(), "a section [netboot.nfs]")),
        };
        self.finish()?;
        Ok(Netboot { tftp, networks, nfs })
    }

    fn nfs(mut self) -> Result<Nfs, ConfigError> {
        // It stands on a kernel command line, where a comma would begin an option.
        const DIRECTORY: &str =
            "an absolute path without spaces, commas, quotes and `#`, such as \"/srv/piseduce\"";
        let directory = self.text("directory", DIRECTORY)?;
        let directory = directory.ok_or_else(|| self.wrong("directory", "missing", DIRECTORY))?;
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b",\"'#\\".contains(&byte);
        if !directory.starts_with('/') || !directory.bytes().all(is_plain) {
            return Err(self.wrong("directory", format!("\"{directory}\""), DIRECTORY));
        }
        let names = one_of(NfsServer::NAMES.iter().map(|(name, _)| *name));
        let server = match self.text("server", &names)? {
            None => NfsServer::Kernel,
            Some(text) => {
                NfsServer::named(&text).ok_or_else(|| self.wrong("server", format!("\"{text}\""), names))?
            }
        };
        self.finish()?;
        Ok(Nfs { directory: directory.trim_end_matches('/').into(), server })
    }

    fn network(mut self) -> Result<Network, ConfigError> {
        const HEAD: &str = "this head's address there with the network's length, such as \"10.0.0.1/24\"";
        let needed = |section: &Self, key: &str, allowed: &str| section.wrong(key, "missing", allowed);
        let interface = self.text("interface", "an interface, such as \"eth1\"")?;
        let interface =
            interface.ok_or_else(|| needed(&self, "interface", "an interface, such as \"eth1\""))?;
        let head = self.text("head", HEAD)?.ok_or_else(|| needed(&self, "head", HEAD))?;
        let split = head
            .split_once('/')
            .and_then(|(address, length)| Some((address.parse().ok()?, length.parse().ok()?)));
        let (head, prefix_length) = split.ok_or_else(|| self.wrong("head", format!("\"{head}\""), HEAD))?;
        let names = one_of(Dhcp::NAMES.iter().map(|(name, _)| *name));
        let dhcp = match self.text("dhcp", &names)? {
            None => Dhcp::Own,
            Some(text) => {
                let known = Dhcp::NAMES.iter().find(|(name, _)| *name == text);
                known
                    .map(|(_, dhcp)| *dhcp)
                    .ok_or_else(|| self.wrong("dhcp", format!("\"{text}\""), names))?
            }
        };
        const RANGE: &str = "two addresses such as \"10.0.0.100-10.0.0.199\"";
        let range = match self.text("range", RANGE)? {
            None => None,
            Some(text) => {
                let split = text.split_once('-');
                let parsed = split
                    .and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
                Some(parsed.ok_or_else(|| self.wrong("range", format!("\"{text}\""), RANGE))?)
            }
        };
        let gateway = self.list("gateway")?.first().copied();
        let network = Network {
            interface: interface.clone(),
            head,
            prefix_length,
            dhcp,
            range,
            gateway,
            dns: self.list("dns")?,
            ntp: self.list("ntp")?,
        };
        let network = network.checked().map_err(|error| {
            let key = format!("of {interface}");
            self.wrong(&key, "not allowed", error.to_string())
        })?;
        self.finish()?;
        Ok(network)
    }

    /// One address with its port, or a list of them.
    fn addresses(&mut self, key: &str) -> Result<Vec<SocketAddr>, ConfigError> {
        const ALLOWED: &str = "an address with its port or a list of them, each once, such as [\"10.0.0.1:69\", \"10.1.0.1:69\"]";
        let values = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(value) => vec![value],
        };
        let mut addresses = Vec::new();
        for value in values {
            let address = value.as_str().and_then(|text| text.parse().ok());
            match address.filter(|address| !addresses.contains(address)) {
                Some(address) => addresses.push(address),
                None => return Err(self.wrong(key, value.to_string(), ALLOWED)),
            }
        }
        Ok(addresses)
    }

    /// One address, or a list of them.
    fn list(&mut self, key: &str) -> Result<Vec<Ipv4Addr>, ConfigError> {
        const ALLOWED: &str = "an address or a list of them, such as [\"10.0.0.1\"]";
        let values = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(value) => vec![value],
        };
        let parse = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        let wrong = |value: &Value| self.wrong(key, value.to_string(), ALLOWED);
        values.iter().map(|value| parse(value).ok_or_else(|| wrong(value))).collect()
    }
}

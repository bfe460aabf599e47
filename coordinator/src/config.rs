//! The coordinator's own settings: a TOML file becomes a checked [`Config`]. Nodes, switches,
//! environments and users are not here; they live in the store. Every error names file, key, what was
//! found and what is allowed.

mod broker;
mod guards;
mod limits;
mod netboot;

pub use broker::{Accounts, Broker, External};
pub use netboot::{Netboot, Nfs};

use crate::machine::Policy;
use crate::store::Retention;
use piseduce_protocol::command::Wipe;
use piseduce_protocol::topic::Site;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::{Table, Value};

const DAY_S: u64 = 24 * 3600;

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The site, a level of every topic.
    pub site: Site,
    /// Where store, images and site key are.
    pub data_directory: PathBuf,
    /// The listener for nodes.
    pub nodes: Listener,
    /// The listener for people.
    pub people: Listener,
    /// The broker.
    pub broker: Broker,
    /// Network boot.
    pub netboot: Netboot,
    /// The machine's limits.
    pub policy: Policy,
    /// Whether the head's clock is believed although nothing keeps it right.
    pub trust_unsynchronised: bool,
    /// How long nodes are held for an open form.
    pub hold: Duration,
    /// What the library of images leaves free on its file system, in bytes.
    pub free_bytes: u64,
    /// How long what is over is remembered.
    pub retention: Retention,
}

/// Where to listen, and how others reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address to bind.
    pub listen: SocketAddr,
    /// The address that others use; TCP port 0 stands for the one that was bound.
    advertised: SocketAddr,
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

/// What is wrong with a settings file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("failed to read {file}")]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("{file} is not TOML: {message}")]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A value is not what it should be.
    #[error("{file}: {key} is {found}; allowed: {allowed}")]
    Value {
        /// Which file.
        file: PathBuf,
        /// Which key, with its section.
        key: String,
        /// What is there.
        found: String,
        /// What may be there.
        allowed: String,
    },
    /// It holds passwords, and others may read it.
    #[error("{file} holds passwords and has mode {mode:o}: `chmod 600 {file}` lets only its owner read it")]
    Public {
        /// Which file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

impl Config {
    /// Reads the settings in `file`.
    ///
    /// # Errors
    /// Every [`ConfigError`].
    pub fn read(file: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Read { file: file.into(), source })?;
        Config::parse(&text, file)
    }

    /// The settings in `text`, which came from `file`.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] and [`ConfigError::Value`].
    pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            file: file.into(),
            message: error.to_string(),
        })?;
        let mut top = Section { file, name: "", table };
        let config = Config {
            site: top.site()?,
            data_directory: top
                .text("data_directory", "a directory")?
                .map_or("/var/lib/piseduce".into(), Into::into),
            nodes: top.section("nodes")?.listener("0.0.0.0:8070")?,
            people: top.section("people")?.listener("127.0.0.1:8080")?,
            broker: top.section("broker")?.broker()?,
            netboot: top.section("netboot")?.netboot()?,
            policy: Policy::default(),
            trust_unsynchronised: top.section("clock")?.clock()?,
            hold: Duration::ZERO,
            free_bytes: 0,
            retention: top.section("retention")?.retention()?,
        };
        let mut config = top.section("limits")?.limits(config)?;
        (config.policy.wipe, config.policy.wipe_later) = top.section("release")?.release()?;
        config.policy.guards = top.section("guards")?.guards()?;
        top.finish()?;
        Ok(config)
    }
}

/// One table of the file, from which keys are taken until none is left.
struct Section<'a> {
    file: &'a Path,
    name: &'static str,
    table: Table,
}

impl<'a> Section<'a> {
    fn wrong(&self, key: &str, found: impl AsRef<str>, allowed: impl Into<String>) -> ConfigError {
        let key = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        ConfigError::Value {
            file: self.file.into(),
            key,
            found: found.as_ref().into(),
            allowed: allowed.into(),
        }
    }

    fn section(&mut self, name: &'static str) -> Result<Section<'a>, ConfigError> {
        match self.table.remove(name) {
            None => Ok(Section { file: self.file, name, table: Table::new() }),
            Some(Value::Table(table)) => Ok(Section { file: self.file, name, table }),
            Some(other) => Err(self.wrong(name, other.to_string(), format!("a section [{name}]"))),
        }
    }

    fn text(&mut self, key: &str, allowed: &str) -> Result<Option<String>, ConfigError> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, other.to_string(), format!("text: {allowed}"))),
        }
    }

    fn number(
        &mut self,
        key: &str,
        default: u64,
        allowed: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let found = match self.table.remove(key) {
            None => return Ok(default),
            Some(found) => found,
        };
        let number = found.as_integer().and_then(|number| u64::try_from(number).ok());
        number.filter(|number| allowed.contains(number)).ok_or_else(|| {
            self.wrong(
                key,
                found.to_string(),
                format!("a whole number from {} to {}", allowed.start(), allowed.end()),
            )
        })
    }

    fn site(&mut self) -> Result<Site, ConfigError> {
        let allowed = "1 to 63 characters of a-z, 0-9, `-` and `_`";
        let name = self.text("site", allowed)?.unwrap_or("main".into());
        Site::new(&name).map_err(|_| self.wrong("site", format!("\"{name}\""), allowed))
    }

    fn address(&mut self, key: &str) -> Result<Option<SocketAddr>, ConfigError> {
        let allowed = "IP address and TCP port such as \"10.0.0.1:8070\"";
        let Some(text) = self.text(key, allowed)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.wrong(key, format!("\"{text}\""), allowed))
    }

    fn listener(mut self, default: &str) -> Result<Listener, ConfigError> {
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
        Ok(Listener { listen, advertised })
    }

    fn clock(mut self) -> Result<bool, ConfigError> {
        let trust = match self.table.remove("trust_unsynchronised") {
            None => false,
            Some(Value::Boolean(trust)) => trust,
            Some(other) => {
                return Err(self.wrong("trust_unsynchronised", other.to_string(), "true or false"));
            }
        };
        self.finish()?;
        Ok(trust)
    }

    /// What is done with a card whose user has gone, and whether that waits for another user.
    fn release(mut self) -> Result<(Wipe, bool), ConfigError> {
        let defaults = Policy::default();
        let wipe = match self.text("wipe", &one_of(Wipe::ALL.iter().map(|wipe| wipe.name())))? {
            None => defaults.wipe,
            Some(text) => text.parse().map_err(|_| {
                let allowed = one_of(Wipe::ALL.iter().map(|wipe| wipe.name()));
                self.wrong("wipe", format!("\"{text}\""), allowed)
            })?,
        };
        const WHEN: [&str; 2] = ["release", "next_use"];
        let later = match self.text("wipe_when", &one_of(WHEN.into_iter()))?.as_deref() {
            None => defaults.wipe_later,
            Some("release") => false,
            Some("next_use") => true,
            Some(other) => {
                return Err(self.wrong("wipe_when", format!("\"{other}\""), one_of(WHEN.into_iter())));
            }
        };
        self.finish()?;
        Ok((wipe, later))
    }

    fn retention(mut self) -> Result<Retention, ConfigError> {
        let defaults = Retention::default();
        let mut days = |key: &str, default: Duration| {
            let found = self.number(key, default.as_secs() / DAY_S, 1..=36_500);
            found.map(|days| Duration::from_secs(days * DAY_S))
        };
        let retention = Retention {
            journal: days("journal_days", defaults.journal)?,
            output: days("output_days", defaults.output)?,
        };
        self.finish()?;
        Ok(retention)
    }

    /// Nothing may be left: a key that nobody takes is a typing error.
    fn finish(self) -> Result<(), ConfigError> {
        let known = match self.name {
            "" => {
                "site, data_directory, [nodes], [people], [broker], [netboot], [limits], [release], [guards], \
                 [clock], [retention]"
            }
            "netboot" => "tftp, [[netboot.network]], [netboot.nfs]",
            "netboot.nfs" => "directory, server",
            "guards" => "the findings that firmware-notes/eeprom.md lists",
            "netboot.network" => "interface, head, dhcp, range, gateway, dns, ntp",
            "release" => "wipe, wipe_when",
            "clock" => "trust_unsynchronised",
            "retention" => "journal_days, output_days",
            "limits" => {
                "restart_budget, restart_after_s, blocked_max_s, env_boot_restart_after_s, \
                 env_boot_blocked_max_s, hold_s, boots_in_flight, boot_spacing_ms, free_space_mb"
            }
            "broker" => {
                "listen, advertised_address; for an external broker url, accounts, advertised_address"
            }
            _ => "listen, advertised_address",
        };
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => Err(self.wrong(key, "not a setting", known)),
        }
    }
}

fn one_of(names: impl Iterator<Item = &'static str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    quoted.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        site = "lab"
        [nodes]
        listen = "0.0.0.0:8070"
        advertised_address = "10.0.0.1:8070"
        [broker]
        listen = "10.0.0.1:0"
    "#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("head.toml"))
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.people.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.policy, Policy::default());
        let Broker::Embedded(listener) = config.broker else { panic!("{:?}", config.broker) };
        let bound = "10.0.0.1:4711".parse().unwrap();
        assert_eq!(listener.advertised(bound), bound);
    }

    #[test]
    fn an_error_names_file_key_what_was_found_and_what_is_allowed() {
        let with = |line: &str| format!("{GOOD}\n{line}");
        let cases = [
            (GOOD.replace("\"lab\"", "\"Lab/1\""), ["site", "\"Lab/1\"", "a-z"]),
            (GOOD.replace("\"lab\"", "7"), ["site", "is 7", "text"]),
            (
                GOOD.replace("10.0.0.1:8070", "0.0.0.0:8070"),
                ["nodes.advertised_address", "0.0.0.0:8070", "not a wildcard"],
            ),
            (
                GOOD.replace("advertised_address", "advertized"),
                ["nodes.advertised_address", "missing", "10.0.0.1:8070"],
            ),
            (GOOD.replace("10.0.0.1:0", "head:1883"), ["broker.listen", "\"head:1883\"", "IP address"]),
            (with("tls = true"), ["broker.tls", "not a setting", "listen, advertised_address"]),
            (with("[limits]\nblocked_max_s = 10"), ["limits.blocked_max_s", "is 10", "at least 300"]),
            (with("[limits]\nhold_s = -1"), ["limits.hold_s", "is -1", "from 1 to 86400"]),
            (
                with("[release]\nwipe = \"shred\""),
                ["release.wipe", "\"shred\"", "\"headers\" or \"discard\""],
            ),
            (with("[release]\nwipe_when = \"never\""), ["release.wipe_when", "\"never\"", "\"next_use\""]),
            (with("[retention]\njournal_days = 0"), ["retention.journal_days", "is 0", "from 1 to 36500"]),
            (
                with("[retention]\njournal = 1"),
                ["retention.journal is", "not a setting", "journal_days, output_days"],
            ),
            (
                with("[netboot]\n[[netboot.network]]\ninterface = \"eth1\"\nhead = \"10.0.0.1\""),
                ["netboot.network.head", "\"10.0.0.1\"", "such as \"10.0.0.1/24\""],
            ),
            (
                with(
                    "[netboot]\n[[netboot.network]]\ninterface = \"eth1\"\nhead = \"10.0.0.1/24\"\ndns = \"dns\"",
                ),
                ["netboot.network.dns", "\"dns\"", "an address or a list of them"],
            ),
            (
                with(
                    "[netboot]\n[[netboot.network]]\ninterface = \"eth1\"\nhead = \"10.0.0.1/24\"\nrange = \"10.0.1.5-10.0.1.9\"",
                ),
                ["netboot.network", "not allowed", "10.0.1.5 is no address in 10.0.0.0/24"],
            ),
            (
                with("[netboot.nfs]\ndirectory = \"srv\""),
                ["netboot.nfs.directory", "\"srv\"", "an absolute path without spaces"],
            ),
            (
                with("[netboot.nfs]\ndirectory = \"/srv\"\nserver = \"samba\""),
                ["netboot.nfs.server", "\"samba\"", "\"nfs-ganesha\""],
            ),
            (with("[guards]\nusb = \"warn\""), ["guards.usb", "not a setting", "eeprom.md"]),
            (with("[limit]\nhold_s = 1"), ["limit is", "not a setting", "[limits]"]),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.starts_with("head.toml: "), "{error}");
            for part in expected {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        }
        assert!(parse("site =").unwrap_err().to_string().contains("line 1"));
    }
}

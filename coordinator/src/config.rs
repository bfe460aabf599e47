//! The coordinator's own settings: a TOML file becomes a checked [`Config`]. Nodes, switches,
//! environments and users are not here; they live in the store. Every error names file, key, what was
//! found and what is allowed.

mod broker;
mod guards;
mod limits;
mod listener;
mod netboot;
mod section;

pub use broker::{Accounts, Broker, External};
pub use listener::Listener;
pub use netboot::{Netboot, Nfs};

use crate::machine::Policy;
use crate::store::Retention;
use piseduce_protocol::topic::Site;
use section::{Section, one_of};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Table;

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
        let mut top = Section::new(file, "", table);
        let config = Config {
            site: top.site()?,
            data_directory: top
                .text("data_directory", "a directory")?
                .map_or("/var/lib/piseduce".into(), Into::into),
            nodes: top.section("nodes")?.http_listener("0.0.0.0:8070", listener::PER_ADDRESS_NODES)?,
            people: top.section("people")?.http_listener("127.0.0.1:8080", listener::PER_ADDRESS_PEOPLE)?,
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
            (with("[guards]\nusb = \"warn\""), ["guards.usb", "not a setting", "usb_first"]),
            (
                with("[limits]\nboots_inflight_pi3 = 2"),
                ["limits.boots_inflight_pi3", "boots_in_flight_pi3", "boot_spacing_pi3_ms"],
            ),
            (with("[limit]\nhold_s = 1"), ["limit is", "not a setting", "[limits], [release]"]),
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

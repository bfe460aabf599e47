//! What a boot root is told on its kernel command line, written by the coordinator, read by the agent.

use crate::id::{BootNumber, Serial};
use crate::seal::BootToken;
use crate::topic::Site;
use alloc::format;
use alloc::string::{String, ToString};
use core::str::FromStr;

/// The parameters of one boot of one node.
#[derive(Clone, PartialEq, Eq)]
pub struct BootParameters {
    /// The site whose topics the agent uses.
    pub site: Site,
    /// The broker's address: host and TCP port.
    pub broker: String,
    /// The coordinator's nodes' listener: host and TCP port, plain HTTP.
    pub head: String,
    /// The node that this boot is for.
    pub serial: Serial,
    /// Which boot it is.
    pub boot: BootNumber,
    /// The boot's secret.
    pub token: BootToken,
}

/// Why a kernel command line does not tell an agent what it needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// A parameter is not there.
    #[error("kernel command line has no parameter {0}")]
    Missing(&'static str),
    /// A parameter's value is not what it should be. The token's value is not repeated.
    #[error("parameter {name} on the kernel command line is wrong: {found}")]
    Wrong {
        /// The parameter.
        name: &'static str,
        /// Its value.
        found: String,
    },
}

const SITE: &str = "piseduce.site";
const BROKER: &str = "piseduce.broker";
const HEAD: &str = "piseduce.head";
const SERIAL: &str = "piseduce.serial";
const BOOT: &str = "piseduce.boot";
const TOKEN: &str = "piseduce.token";

impl BootParameters {
    /// The parameters as words of a kernel command line.
    pub fn render(&self) -> String {
        format!(
            "{SITE}={} {BROKER}={} {HEAD}={} {SERIAL}={} {BOOT}={} {TOKEN}={}",
            self.site.name(),
            self.broker,
            self.head,
            self.serial,
            self.boot,
            self.token.to_hex(),
        )
    }

    /// The parameters among the words of `command_line`.
    ///
    /// # Errors
    /// [`BootError`] with the first parameter that is missing or wrong.
    pub fn parse(command_line: &str) -> Result<Self, BootError> {
        let value = |name: &'static str| {
            let mut words = command_line.split_ascii_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).ok_or(BootError::Missing(name))
        };
        Ok(BootParameters {
            site: Site::new(value(SITE)?).map_err(|_| wrong(SITE, value(SITE)))?,
            broker: value(BROKER)?.into(),
            head: value(HEAD)?.into(),
            serial: parsed(SERIAL, value(SERIAL)?)?,
            boot: parsed(BOOT, value(BOOT)?).map(BootNumber)?,
            token: BootToken::from_hex(value(TOKEN)?).ok_or_else(|| wrong(TOKEN, Ok("not 64 hex digits")))?,
        })
    }
}

fn parsed<T: FromStr>(name: &'static str, text: &str) -> Result<T, BootError> {
    text.parse().map_err(|_| wrong(name, Ok(text)))
}

fn wrong(name: &'static str, found: Result<&str, BootError>) -> BootError {
    BootError::Wrong { name, found: found.unwrap_or_default().to_string() }
}

/// The MQTT client id of the agent of a node; a newer boot takes the older one's session over.
pub fn client_id(serial: Serial) -> String {
    format!("agent-{serial}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> BootParameters {
        BootParameters {
            site: Site::new("main").unwrap(),
            broker: "10.0.0.1:1883".into(),
            head: "10.0.0.1:8070".into(),
            serial: Serial(0x1000_0000_0000_00ab),
            boot: BootNumber(7),
            token: BootToken([3; 32]),
        }
    }

    #[test]
    fn what_was_rendered_is_found_among_other_words() {
        let line = format!("console=ttyAMA0 {} panic=10\n", parameters().render());
        assert!(BootParameters::parse(&line) == Ok(parameters()));
    }

    #[test]
    fn a_missing_or_wrong_parameter_is_named_and_the_token_is_not_shown() {
        let line = parameters().render();
        let error = |line: &str| BootParameters::parse(line).err().unwrap().to_string();
        assert!(error("quiet").contains("piseduce.site"));
        assert!(error(&line.replace("boot=7", "boot=x")).contains("piseduce.boot"));
        let token = error(&line.replace("0303", "03zz"));
        assert!(token.contains("piseduce.token") && !token.contains("zz"), "{token}");
    }
}

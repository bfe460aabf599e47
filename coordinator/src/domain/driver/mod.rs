//! Drivers: how a switch is spoken to. Their settings are one format for the inventory, the API and the store: what
//! an operator wrote is what is kept, and no setting holds a secret, only the path of the file that has it.

mod command;
mod http;
pub(crate) mod serial;
mod snmp;

pub use command::CommandSettings;
pub use http::{
    HttpLogin, HttpMeaning, HttpPreset, HttpRequest, HttpSettings, HttpState, HttpSuccess, Piece, pieces,
};
pub use serial::SerialSettings;
pub use snmp::{GroupOffset, SnmpObjects, SnmpPreset, SnmpSettings, SnmpVersion};

use serde::{Deserialize, Serialize};
use std::path::Path;

/// How to speak to a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// A program on the head node.
    Command(CommandSettings),
    /// A PoE switch that speaks SNMP.
    Snmp(SnmpSettings),
    /// A switch, plug or controller that is asked over HTTP.
    Http(Box<HttpSettings>),
    /// A person, who is asked.
    Manual,
    /// A relay board on a serial line.
    Serial(SerialSettings),
}

/// What is wrong with a driver's settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` of its driver `{driver}` is {found}; allowed: {allowed}")]
pub struct DriverError {
    /// Which driver.
    pub driver: &'static str,
    /// Which key of its settings.
    pub key: &'static str,
    /// What is there.
    pub found: String,
    /// What may be there.
    pub allowed: String,
}

/// A switch has no such outlet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("port `{}` is none of a switch with the driver `{driver}`; allowed: {allowed}", .port.escape_debug())]
pub struct PortError {
    /// What was given.
    pub port: String,
    /// Its driver.
    pub driver: &'static str,
    /// What may be given.
    pub allowed: String,
}

impl Driver {
    /// Its name in the inventory.
    pub fn name(&self) -> &'static str {
        match self {
            Driver::Command(_) => "command",
            Driver::Snmp(_) => "snmp",
            Driver::Http(_) => "http",
            Driver::Manual => "manual",
            Driver::Serial(_) => "serial",
        }
    }

    /// The file that has its secrets.
    pub fn secrets(&self) -> Option<&Path> {
        match self {
            Driver::Snmp(settings) => Some(&settings.secrets),
            Driver::Http(settings) => settings.secrets.as_deref().map(Path::new),
            Driver::Command(_) | Driver::Serial(_) | Driver::Manual => None,
        }
    }

    /// An outlet in its one form, so that `1` and `01` are not two.
    ///
    /// # Errors
    /// [`PortError`] when such a switch has no such outlet.
    pub fn port(&self, port: &str) -> Result<String, PortError> {
        let port = port.trim();
        let found = match self {
            _ if port.chars().any(char::is_control) => Err("characters that can be printed".into()),
            Driver::Snmp(settings) => settings.port(port),
            Driver::Serial(settings) => settings.port(port),
            Driver::Command(_) | Driver::Http(_) | Driver::Manual if port.is_empty() => Err("a name".into()),
            Driver::Command(_) | Driver::Http(_) | Driver::Manual => Ok(port.into()),
        };
        found.map_err(|allowed| PortError { port: port.into(), driver: self.name(), allowed })
    }

    /// Checks what can be checked without the switch.
    ///
    /// # Errors
    /// [`DriverError`] naming the key.
    pub fn check(&self) -> Result<(), DriverError> {
        match self {
            Driver::Command(settings) => settings.check(),
            Driver::Snmp(settings) => settings.check(),
            Driver::Http(settings) => settings.check(),
            Driver::Manual => Ok(()),
            Driver::Serial(settings) => settings.check(),
        }
    }
}

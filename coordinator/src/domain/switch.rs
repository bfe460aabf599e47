//! Switches: what powers nodes, and how it may be used.

use super::driver::{Driver, DriverError, PortError};
use crate::domain::node::SwitchId;
use std::time::Duration;

/// A registered switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Its number.
    pub id: SwitchId,
    /// What an operator registered.
    pub attributes: SwitchAttributes,
}

/// What an operator registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchAttributes {
    /// Its name.
    pub name: String,
    /// How to speak to it.
    pub driver: Driver,
    /// How long a port stays off between off and on, so that a board loses its charge.
    pub off_time: Duration,
    /// Outlets that nobody switches: the head node's, uplinks.
    pub protected: Vec<String>,
    /// What all its outlets together may deliver, in watts; none: no limit is known.
    pub budget_watts: Option<u32>,
}

/// Five seconds, as labgrid and pdudaemon wait between off and on.
pub const OFF_TIME_DEFAULT: Duration = Duration::from_secs(5);

/// What cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// A name is needed.
    #[error("a switch has an empty name")]
    Name,
    /// It is shown to others, in terminals and logs.
    #[error("switch name `{}` is not allowed: it has a character that cannot be printed", .0.escape_debug())]
    Unprintable(String),
    /// It cannot be spoken to like this.
    #[error("switch {name}: {error}")]
    Driver {
        /// Its name.
        name: String,
        /// What is wrong with its driver.
        error: DriverError,
    },
    /// It has no such outlet.
    #[error("switch {name}: `protected_ports`: {why}")]
    Protected {
        /// Its name.
        name: String,
        /// What is wrong.
        why: PortError,
    },
    /// Nothing could be powered.
    #[error("switch {0}: `budget_watts` is 0; leave it out when no limit is known")]
    Budget(String),
}

impl SwitchAttributes {
    /// Checks that the switch can be spoken to.
    ///
    /// # Errors
    /// Every [`SwitchError`].
    pub fn checked(mut self) -> Result<Self, SwitchError> {
        if self.name.trim().is_empty() {
            return Err(SwitchError::Name);
        }
        if self.name.chars().any(char::is_control) {
            return Err(SwitchError::Unprintable(self.name));
        }
        if self.budget_watts == Some(0) {
            return Err(SwitchError::Budget(self.name));
        }
        if let Err(error) = self.driver.check() {
            return Err(SwitchError::Driver { name: self.name, error });
        }
        let protected: Result<_, _> = self.protected.iter().map(|port| self.driver.port(port)).collect();
        self.protected = protected.map_err(|why| SwitchError::Protected { name: self.name.clone(), why })?;
        Ok(self)
    }

    /// Whether nobody may switch this outlet.
    pub fn protects(&self, port: &str) -> bool {
        self.protected.iter().any(|protected| protected == port)
    }
}

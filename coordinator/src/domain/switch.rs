//! Switches: what powers nodes, and how to speak to it.

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
}

/// How to speak to a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A program on the head node: `{action}` (`on`, `off`, `status`), `{port}` and `{node}` are filled in.
    Command {
        /// Program and arguments, without a shell.
        argv: Vec<String>,
    },
}

/// Five seconds, as labgrid and pdudaemon wait between off and on.
pub const OFF_TIME_DEFAULT: Duration = Duration::from_secs(5);

/// What cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// A name is needed.
    #[error("a switch has an empty name")]
    Name,
    /// The program must be named.
    #[error("switch {0} has an empty `argv`: name the program to run")]
    Argv(String),
    /// The program must be told what to do.
    #[error("switch {0}: no word of its `argv` contains {1}")]
    Placeholder(String, &'static str),
}

impl SwitchAttributes {
    /// Checks that the switch can be spoken to.
    ///
    /// # Errors
    /// Every [`SwitchError`].
    pub fn checked(self) -> Result<Self, SwitchError> {
        if self.name.trim().is_empty() {
            return Err(SwitchError::Name);
        }
        let Driver::Command { argv } = &self.driver;
        if argv.first().is_none_or(String::is_empty) {
            return Err(SwitchError::Argv(self.name));
        }
        for placeholder in ["{action}", "{port}"] {
            if !argv.iter().any(|word| word.contains(placeholder)) {
                return Err(SwitchError::Placeholder(self.name, placeholder));
            }
        }
        Ok(self)
    }
}

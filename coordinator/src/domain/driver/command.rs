//! Settings of the `command` driver: a program on the head node, see [`crate::power`].

use super::DriverError;
use serde::{Deserialize, Serialize};

/// A program that switches ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSettings {
    /// Program and arguments, without a shell; `{action}` (`on`, `off`, `status`), `{port}` and `{node}` are filled in.
    pub argv: Vec<String>,
}

impl CommandSettings {
    pub(super) fn check(&self) -> Result<(), DriverError> {
        let wrong = |allowed: &str| {
            let (driver, key) = ("command", "argv");
            Err(DriverError { driver, key, found: format!("{:?}", self.argv), allowed: allowed.into() })
        };
        if self.argv.first().is_none_or(String::is_empty) {
            return wrong("the program to run and its arguments");
        }
        for placeholder in ["{action}", "{port}"] {
            if !self.argv.iter().any(|word| word.contains(placeholder)) {
                return wrong(&format!("words of which one contains {placeholder}"));
            }
        }
        Ok(())
    }
}

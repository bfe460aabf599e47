//! Subcommands that act on the head node itself: they open the coordinator's directory, beside a running
//! coordinator or without one. Run them as the user that the coordinator runs as.

pub mod environment;
pub mod user;

use crate::config::{Config, ConfigError};
use clap::Args;
use std::path::PathBuf;

/// Which coordinator's directory.
#[derive(Clone, Debug, Args)]
pub struct ConfigOption {
    /// The coordinator's settings
    #[arg(
        long,
        value_name = "FILE",
        env = "PISEDUCE_CONFIG",
        default_value = "/etc/piseduce/coordinator.toml"
    )]
    config: PathBuf,
}

impl ConfigOption {
    /// Reads the settings.
    ///
    /// # Errors
    /// Every [`ConfigError`].
    pub fn read(&self) -> Result<Config, ConfigError> {
        Config::read(&self.config)
    }
}

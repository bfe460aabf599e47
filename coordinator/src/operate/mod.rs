//! Subcommands that act on the head node itself: they open the coordinator's directory, beside a running
//! coordinator or without one. Run them as the user that the coordinator runs as.

pub mod backup;
pub mod boot_root;
mod check;
pub mod doctor;
pub mod environment;
pub mod netboot;
mod progress;
pub mod site_key;
pub mod user;

use crate::config::{Config, ConfigError};
use crate::data_directory::BOOT_ROOTS;
use crate::netboot::BootRoots;
use crate::signal;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

    /// The settings file.
    pub fn file(&self) -> &Path {
        &self.config
    }
}

/// The boot roots of the coordinator with these settings.
fn boot_roots(config: &Config) -> BootRoots {
    BootRoots::at(config.data_directory.join(BOOT_ROOTS), config.netboot.exports())
}

/// Does work that waits for disks in a thread of its own. Ctrl-C and SIGTERM set the flag that it gets.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce(&AtomicBool) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let mut work = tokio::task::spawn_blocking(move || work(&seen));
    let result = tokio::select! {
        result = &mut work => result,
        () = signal::stop() => {
            stop.store(true, Ordering::SeqCst);
            work.await
        }
    };
    result.expect("the work does not panic")
}

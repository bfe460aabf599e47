//! `piseduce site-key`: a new site key, for a store that does not belong to the old one.

use super::ConfigOption;
use crate::data_directory::{DataDirectory, SITE_KEY};
use crate::print;
use clap::Subcommand;

/// What can be done with the site key.
#[derive(Clone, Debug, Subcommand)]
pub enum SiteKeyCommand {
    /// Remove the site key, so that the next start makes a new one with the store that is there
    ///
    /// Nodes in the boot root are booted again then, from their restart budget; deployed nodes keep working.
    Renew {
        /// Which coordinator's
        #[command(flatten)]
        config: ConfigOption,
    },
}

/// Carries out a subcommand.
///
/// # Errors
/// When a coordinator runs, or the key cannot be removed.
pub fn run(command: &SiteKeyCommand) -> anyhow::Result<()> {
    let SiteKeyCommand::Renew { config } = command;
    let data = DataDirectory::open(&config.read()?.data_directory)?;
    let _no_coordinator = data.lock()?;
    let path = data.path().join(SITE_KEY);
    print::line(match data.forget_site_key()? {
        true => format!("{} removed: the next start makes a new one", path.display()),
        false => format!("there is no {}: the next start makes one", path.display()),
    });
    Ok(())
}

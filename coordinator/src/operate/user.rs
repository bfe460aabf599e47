//! `piseduce user`: who may use the coordinator.

use super::ConfigOption;
use crate::clock;
use crate::data_directory::DataDirectory;
use crate::domain::user::{Role, Token, User, check_name};
use crate::print;
use crate::store::Actor;
use anyhow::Context as _;
use clap::Subcommand;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// `piseduce user`.
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user and print the token that proves it is one; it is shown this once
    Add {
        /// The user's name
        name: String,
        /// What the user may do: admin, user, or monitor (may read the monitoring topics only)
        #[arg(long, default_value = "user", value_parser = role)]
        role: Role,
        /// Write the token to this file, readable by its owner only, instead of printing it
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// Which coordinator's users
        #[command(flatten)]
        config: ConfigOption,
    },
    /// All users
    List {
        /// Which coordinator's users
        #[command(flatten)]
        config: ConfigOption,
    },
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| "admin, user and monitor are the roles".into())
}

/// Carries out a subcommand.
///
/// # Errors
/// When the name is taken or not allowed, or the coordinator's directory cannot be used.
pub async fn run(command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add { name, role, token_file, config } => {
            check_name(&name)?;
            let store = DataDirectory::open(&config.read()?.data_directory)?.store()?;
            let mut random = [0; 32];
            getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
            let token = Token::new(random);
            // The file is made first: a user whose token was lost could do nothing with the name.
            if let Some(file) = &token_file {
                write(file, token.reveal()).with_context(|| format!("failed to write {}", file.display()))?;
            }
            let user = User { name: name.clone(), role };
            let actor = Actor::User("root".into());
            store.add_user(user, Token::hash(token.reveal()), clock::unix_ms(), actor).await?;
            match token_file {
                Some(file) => print::line(format!("user {name} added; token in {}", file.display())),
                None => print::line(token.reveal()),
            }
        }
        UserCommand::List { config } => {
            let store = DataDirectory::open(&config.read()?.data_directory)?.store()?;
            for user in store.users().await? {
                print::line(format!("{}  {}", user.name, user.role.name()));
            }
        }
    }
    Ok(())
}

fn write(file: &Path, token: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(file)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}

//! `piseduce user`: who may use the coordinator.

use super::ConfigOption;
use crate::clock;
use crate::data_directory::DataDirectory;
use crate::domain::user::{Role, Token, User, check_name};
use crate::print::Output;
use crate::store::Actor;
use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;
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

/// A user that was added.
#[derive(Serialize)]
struct Added {
    name: String,
    role: &'static str,
    /// The token, unless it is in the file.
    token: Option<String>,
    token_file: Option<PathBuf>,
}

/// A user in the list.
#[derive(Serialize)]
struct Listed {
    name: String,
    role: &'static str,
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| "admin, user and monitor are the roles".into())
}

/// Carries out a subcommand.
///
/// # Errors
/// When the name is taken or not allowed, or the coordinator's directory cannot be used.
pub async fn run(command: UserCommand, output: Output) -> anyhow::Result<()> {
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
            let shown = token_file.is_none().then(|| token.reveal().to_owned());
            let added = Added { name, role: role.name(), token: shown, token_file };
            output.tell("user", &added, |added| match (&added.token, &added.token_file) {
                (None, Some(file)) => format!("user {} added; token in {}", added.name, file.display()),
                (token, _) => token.clone().unwrap_or_default(),
            });
        }
        UserCommand::List { config } => {
            let store = DataDirectory::open(&config.read()?.data_directory)?.store()?;
            let users = store.users().await?.into_iter();
            let users: Vec<Listed> =
                users.map(|user| Listed { name: user.name, role: user.role.name() }).collect();
            let width = users.iter().map(|user| user.name.len()).max().unwrap_or_default();
            output.tell("users", &users, |users| {
                let lines = users.iter().map(|user| format!("{:<width$}  {}", user.name, user.role));
                lines.collect::<Vec<_>>().join("\n")
            });
        }
    }
    Ok(())
}

fn write(file: &Path, token: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(file)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}

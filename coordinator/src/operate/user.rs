//! `piseduce user`: who may use the coordinator.

use super::ConfigOption;
use crate::clock;
use crate::credentials;
use crate::data_directory::DataDirectory;
use crate::domain::user::{Role, Token, User, check_name};
use crate::print::Output;
use crate::store::{Actor, Store};
use clap::Subcommand;
use serde::Serialize;
use std::io::{self, Write as _};
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
    /// Give a user another token and print it; the old one is void
    Renew {
        /// The user's name
        name: String,
        /// Write the token to this file, readable by its owner only, instead of printing it
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// Which coordinator's users
        #[command(flatten)]
        config: ConfigOption,
    },
    /// Make a user's token void; `renew` gives another one
    Revoke {
        /// The user's name
        name: String,
        /// Which coordinator's users
        #[command(flatten)]
        config: ConfigOption,
    },
    /// Remove a user who holds no node
    Remove {
        /// The user's name
        name: String,
        /// Which coordinator's users
        #[command(flatten)]
        config: ConfigOption,
    },
}

/// A user with a new token.
#[derive(Serialize)]
struct Issued {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// The token, unless it is in the file.
    token: Option<String>,
    token_file: Option<PathBuf>,
}

/// A user, and what was done with it.
#[derive(Serialize)]
struct Changed {
    name: String,
    change: &'static str,
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
    let actor = || Actor::User("root".into());
    let (at, store) = (clock::unix_ms(), |config: ConfigOption| -> anyhow::Result<Store> {
        Ok(DataDirectory::open(&config.read()?.data_directory)?.store()?)
    });
    match command {
        UserCommand::Add { name, role, token_file, config } => {
            check_name(&name)?;
            let (store, token) = (store(config)?, credentials::new_token()?);
            let user = User { name: name.clone(), role };
            let hash = Token::hash(token.reveal());
            let show = show(output, "added", Issued::new(name, Some(role), &token, token_file), token);
            store.add_user(user, hash, at, actor(), show).await?;
        }
        UserCommand::Renew { name, token_file, config } => {
            let (store, token) = (store(config)?, credentials::new_token()?);
            let hash = Token::hash(token.reveal());
            let show = show(output, "renewed", Issued::new(name.clone(), None, &token, token_file), token);
            store.renew_token(name, hash, at, actor(), show).await?;
        }
        UserCommand::Revoke { name, config } => {
            let nobodys = Token::hash(credentials::new_token()?.reveal());
            store(config)?.revoke_token(name.clone(), nobodys, at, actor()).await?;
            changed(output, name, "revoked", "has no valid token now; `piseduce user renew` gives another");
        }
        UserCommand::Remove { name, config } => {
            let nobodys = Token::hash(credentials::new_token()?.reveal());
            store(config)?.remove_user(name.clone(), nobodys, at, actor()).await?;
            changed(output, name, "removed", "is removed");
        }
        UserCommand::List { config } => {
            let users = store(config)?.users().await?.into_iter();
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

impl Issued {
    fn new(name: String, role: Option<Role>, token: &Token, token_file: Option<PathBuf>) -> Issued {
        let shown = token_file.is_none().then(|| token.reveal().to_owned());
        Issued { name, role: role.map(Role::name), token: shown, token_file }
    }
}

/// Hands the token over, into its file or to the terminal; a user is changed only if that worked.
fn show(
    output: Output,
    change: &'static str,
    issued: Issued,
    token: Token,
) -> impl FnOnce() -> io::Result<()> + Send {
    move || {
        if let Some(file) = &issued.token_file {
            let wrong = |error: io::Error| {
                io::Error::new(error.kind(), format!("failed to write {}: {error}", file.display()))
            };
            write(file, token.reveal()).map_err(wrong)?;
        }
        let told = output.tell_now("user", &issued, |issued| match (&issued.token, &issued.token_file) {
            (None, Some(file)) => format!("user {} {change}; token in {}", issued.name, file.display()),
            (token, _) => token.clone().unwrap_or_default(),
        });
        if let (Err(_), Some(file)) = (&told, &issued.token_file) {
            // A token that nobody is known by only misleads.
            let _ = std::fs::remove_file(file);
        }
        told
    }
}

fn changed(output: Output, name: String, change: &'static str, text: &str) {
    output.tell("user", &Changed { name, change }, |changed| format!("user {} {text}", changed.name));
}

fn write(file: &Path, token: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(file)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}

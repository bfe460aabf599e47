//! The `piseduce` program: parses its command line, sets up the log, runs one subcommand, maps the exit
//! code: 0 done, 1 an error, 2 a wrong command line, 3 a deployment that was waited for did not end well.

use clap::{Parser, Subcommand};
use piseduce_coordinator::client::commands::{self, Command, EnvironmentCommand};
use piseduce_coordinator::client::{ClientError, ConnectionOptions, Ended};
use piseduce_coordinator::operate::backup::{self, restore};
use piseduce_coordinator::operate::user::UserCommand;
use piseduce_coordinator::operate::{ConfigOption, doctor, environment, user};
use piseduce_coordinator::{app, print};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Deploys operating systems to racks of Raspberry Pis.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(subcommand)]
    subcommand: Top,
}

#[derive(Subcommand)]
enum Top {
    /// Run the coordinator on this head node
    Serve(ConfigOption),
    /// Look at this head node: what is wrong, and what to do about it
    Doctor(doctor::Doctor),
    /// Write store, settings and images into one file, while the coordinator runs
    Backup(backup::Backup),
    /// Make a backup the coordinator's directory
    Restore(restore::Restore),
    /// The users of the coordinator on this head node
    #[command(subcommand)]
    User(UserCommand),
    /// Images that can be deployed
    #[command(subcommand)]
    Environment(Environments),
    #[command(flatten)]
    Ask(Command),
}

#[derive(Subcommand)]
enum Environments {
    /// Import an image file on this head node
    Add(environment::Add),
    /// All environments
    List,
    /// One environment
    Show {
        /// Its name
        name: String,
    },
    /// Remove an environment; deployments that use its image keep it
    Remove {
        /// Its name
        name: String,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter =
        EnvFilter::try_from_env("PISEDUCE_LOG").unwrap_or_else(|_| EnvFilter::new("info,rumqttd=off"));
    let colours = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match std::env::var_os("JOURNAL_STREAM") {
        // journald writes its own time before every line.
        Some(_) => log.without_time().init(),
        None => log.init(),
    }
    match run(arguments) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Badly) => ExitCode::from(3),
        Err(error) => {
            let hint = error.downcast_ref::<ClientError>().map(ClientError::hint).unwrap_or_default();
            print::error(format!("{error:#}"), &hint);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<Ended> {
    let connection = arguments.connection;
    let list = |command| commands::environment(&connection, command);
    match arguments.subcommand {
        Top::Serve(config) => runtime()?.block_on(app::serve(config.read()?))?,
        Top::Doctor(arguments) => doctor::doctor(&arguments)?,
        Top::Backup(arguments) => runtime()?.block_on(backup::backup(arguments))?,
        Top::Restore(arguments) => runtime()?.block_on(restore::restore(arguments))?,
        Top::User(command) => runtime()?.block_on(user::run(command))?,
        Top::Environment(Environments::Add(add)) => runtime()?.block_on(environment::add(add))?,
        Top::Environment(Environments::List) => list(EnvironmentCommand::List)?,
        Top::Environment(Environments::Show { name }) => list(EnvironmentCommand::Show(name))?,
        Top::Environment(Environments::Remove { name }) => list(EnvironmentCommand::Remove(name))?,
        Top::Ask(command) => return commands::run(&connection, command),
    }
    Ok(Ended::Well)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

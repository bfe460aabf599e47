//! The `piseduce` program: parses its command line, sets up the log, runs one subcommand, maps the exit
//! code as [`EPILOGUE`] says.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use piseduce_coordinator::app;
use piseduce_coordinator::client::commands::{self, Command, EnvironmentCommand};
use piseduce_coordinator::client::error::{EXIT_ENDED_BADLY, EXIT_FAILED};
use piseduce_coordinator::client::{ClientError, ConnectionOptions, Ended};
use piseduce_coordinator::operate::backup::{self, restore};
use piseduce_coordinator::operate::boot_root::{self, BootRootCommand};
use piseduce_coordinator::operate::netboot::{self, NetbootCommand};
use piseduce_coordinator::operate::site_key::SiteKeyCommand;
use piseduce_coordinator::operate::user::UserCommand;
use piseduce_coordinator::operate::{ConfigOption, doctor, environment, site_key, user};
use piseduce_coordinator::print::{self, Output};
use piseduce_coordinator::private;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Exit code of clap for a wrong command line.
const EXIT_USAGE: i32 = 2;

/// Below every help text.
const EPILOGUE: &str = "\
Exit codes:
  0    done
  1    failed here: a file, the settings, the token
  2    a wrong command line
  3    a deployment that was waited for did not end well
  4    the coordinator does not answer
  5    the coordinator said no
  130  interrupted; what was asked for goes on

With --json results are JSON, one object a line on standard output, each with `schema`; an error is one such
object on standard error with `code`, `message` and `hint`. Fields are only ever added.";

/// Deploys operating systems to racks of Raspberry Pis.
#[derive(Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, after_help = EPILOGUE)]
struct Arguments {
    #[command(flatten)]
    connection: ConnectionOptions,
    /// Print results and errors as JSON, for programs
    #[arg(long, global = true)]
    json: bool,
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
    /// The key that the nodes' credentials follow from
    #[command(subcommand)]
    SiteKey(SiteKeyCommand),
    /// The users of the coordinator on this head node
    #[command(subcommand)]
    User(UserCommand),
    /// What nodes boot in order to be worked on
    #[command(subcommand)]
    BootRoot(BootRootCommand),
    /// DHCP and TFTP for the nodes of this head
    #[command(subcommand)]
    Netboot(NetbootCommand),
    /// Images that can be deployed
    #[command(subcommand)]
    Environment(Environments),
    #[command(flatten)]
    Ask(Command),
    /// Print what a shell completes, such as `piseduce completions bash >/etc/bash_completion.d/piseduce`
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

impl Top {
    /// Whether what it writes is nobody else's business. Boot roots, and what dnsmasq reads, are read by others.
    fn writes_for_its_owner(&self) -> bool {
        match self {
            Top::Serve(_)
            | Top::Doctor(_)
            | Top::Backup(_)
            | Top::Restore(_)
            | Top::SiteKey(_)
            | Top::User(_)
            | Top::Environment(_) => true,
            Top::BootRoot(_) | Top::Netboot(_) | Top::Ask(_) | Top::Completions { .. } => false,
        }
    }
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
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misunderstood(&error),
    };
    let wanted = std::env::var("PISEDUCE_LOG").ok();
    let filter = EnvFilter::try_new(directives(wanted.as_deref()))
        .unwrap_or_else(|_| EnvFilter::new(directives(None)));
    let colours = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match std::env::var_os("JOURNAL_STREAM") {
        // journald writes its own time before every line.
        Some(_) => log.without_time().init(),
        None => log.init(),
    }
    let output = if arguments.json { Output::Json } else { Output::Text };
    let ended = run(arguments, output);
    if let (Ok(_), Some(error)) = (&ended, print::failure()) {
        output.fail("output", &format!("failed to write the result: {error}"), "");
        return ExitCode::from(EXIT_FAILED);
    }
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Badly) => ExitCode::from(EXIT_ENDED_BADLY),
        Err(error) => failed(&error, output),
    }
}

/// What the log shows. rumqttd reports the ordinary ends of connections as errors, and the gate says what matters of
/// them, so its lines are for those who name it.
fn directives(wanted: Option<&str>) -> String {
    match wanted.map(str::trim).filter(|wanted| !wanted.is_empty()) {
        Some(wanted) if wanted.contains("rumqttd") => wanted.to_owned(),
        wanted => format!("{},rumqttd=off", wanted.unwrap_or("info")),
    }
}

/// Prints help where it was asked for, and what is wrong with a command line for whom it was written.
fn misunderstood(error: &clap::Error) -> ExitCode {
    // A command line that cannot be parsed may still say for whom the answer is.
    let json = std::env::args_os().any(|argument| argument == "--json");
    if error.exit_code() == EXIT_USAGE && json {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        Output::Json.fail("usage", message, "see `piseduce --help`");
    } else if error.kind() == ErrorKind::MissingSubcommand && std::env::args_os().len() == 1 {
        // Settings in the environment make clap believe that something was asked for.
        print::aside(Arguments::command().render_help());
    } else {
        // A terminal that went away is no error.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_FAILED))
}

fn failed(error: &anyhow::Error, output: Output) -> ExitCode {
    let message = format!("{error:#}");
    match error.downcast_ref::<ClientError>() {
        Some(known) => {
            output.fail(known.code(), &message, &known.hint());
            ExitCode::from(known.exit_code())
        }
        None => {
            output.fail("failed", &message, "");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(arguments: Arguments, output: Output) -> anyhow::Result<Ended> {
    private::leave_no_core_dumps();
    if arguments.subcommand.writes_for_its_owner() {
        private::write_for_owner_only();
    }
    let connection = arguments.connection;
    let ask = |command| commands::environment(&connection, output, command);
    match arguments.subcommand {
        Top::Serve(config) => runtime()?.block_on(app::serve(config.read()?))?,
        Top::Doctor(arguments) => doctor::doctor(&arguments, output)?,
        Top::Backup(arguments) => runtime()?.block_on(backup::backup(arguments))?,
        Top::Restore(arguments) => runtime()?.block_on(restore::restore(arguments))?,
        Top::SiteKey(command) => site_key::run(&command)?,
        Top::User(command) => runtime()?.block_on(user::run(command, output))?,
        Top::BootRoot(command) => runtime()?.block_on(boot_root::run(command, output))?,
        Top::Netboot(command) => runtime()?.block_on(netboot::run(&command, output))?,
        Top::Environment(Environments::Add(add)) => runtime()?.block_on(environment::add(add, output))?,
        Top::Environment(Environments::List) => ask(EnvironmentCommand::List)?,
        Top::Environment(Environments::Show { name }) => ask(EnvironmentCommand::Show(name))?,
        Top::Environment(Environments::Remove { name }) => ask(EnvironmentCommand::Remove(name))?,
        Top::Ask(command) => return Ok(commands::run(&connection, output, command)?),
        Top::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "piseduce", &mut script);
            print::line(String::from_utf8_lossy(&script).trim_end());
        }
    }
    Ok(Ended::Well)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_brokers_router_are_for_those_who_ask_for_them() {
        for (wanted, expected) in [
            (None, "info,rumqttd=off"),
            (Some(""), "info,rumqttd=off"),
            (Some("debug"), "debug,rumqttd=off"),
            (Some("info,rumqttd=warn"), "info,rumqttd=warn"),
        ] {
            assert_eq!(directives(wanted), expected);
            assert!(EnvFilter::try_new(directives(wanted)).is_ok());
        }
    }
}

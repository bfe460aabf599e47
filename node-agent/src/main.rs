//! The program `piseduce-agent`: parses, sets up the log, runs, maps the exit code.
//!
//! Exit codes: 0 it was terminated; 1 it cannot work; 2 the kernel command line is for another node;
//! 64 the arguments are wrong. After a reboot order it does not come back. See `runner.rs`.

use anyhow::Context as _;
use clap::Parser;
use piseduce_agent::enrolment;
use piseduce_agent::identity::{Identity, IdentityError};
use piseduce_agent::image::fetch::PATIENCE_SECONDS;
use piseduce_agent::log::Log;
use piseduce_agent::runner::{self, End, Options};
use piseduce_agent::step::reboot;
use piseduce_agent::tool::{E2FSCK, RESIZE2FS};
use rustix::mm::{MlockAllFlags, mlockall};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Exit code for a kernel command line that was made for another node.
const EXIT_MISMATCH: u8 = 2;
/// Between two tries to be heard.
const TELL_AGAIN: Duration = Duration::from_secs(2);
/// Exit code for wrong arguments, as in sysexits.h.
const EXIT_USAGE: u8 = 64;

/// Writes, checks and configures the card of the Raspberry Pi it runs on, as the coordinator asks.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where the node's identity is read: <ROOT>/proc/device-tree, <ROOT>/sys/class/net, <ROOT>/proc/cmdline
    #[arg(long, default_value = "/")]
    root: PathBuf,
    /// The card
    #[arg(long, default_value = "/dev/mmcblk0")]
    card: PathBuf,
    /// Set the system's clock from the coordinator's first command
    #[arg(long)]
    set_clock: bool,
    /// Keep the agent in memory, for boot roots that lie on a network
    #[arg(long)]
    lock_memory: bool,
    /// Seconds between two heartbeats
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..), hide = true)]
    beat_seconds: u64,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where it is printed depends on whether it was asked for; a closed output is no matter.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,rumqttc=off"));
    let log = Log::default();
    let is_colourful = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let to_console = fmt::layer().with_target(false).with_ansi(is_colourful);
    // Whoever reads what is kept has the time of each line beside it, and a Pi's calendar may be wrong.
    let to_keep = fmt::layer().with_target(false).with_ansi(false).without_time().with_writer(log.clone());
    let layers = to_console.with_writer(std::io::stderr).and_then(to_keep);
    tracing_subscriber::registry().with(filter).with(layers).init();
    match run(&arguments, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            match error.downcast_ref() {
                Some(IdentityError::Mismatch { .. }) => ExitCode::from(EXIT_MISMATCH),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &Arguments, log: Log) -> anyhow::Result<()> {
    if arguments.lock_memory {
        // What is mapped now is needed all the time; later memory when it is first used.
        mlockall(MlockAllFlags::CURRENT).context("failed to lock memory")?;
        mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).context("failed to lock memory")?;
    }
    for tool in [E2FSCK, RESIZE2FS] {
        tool.locate()?;
    }
    let identity = Identity::read(&arguments.root)?;
    let parameters = identity.parameters()?;
    tracing::info!(node = %identity.serial, model = identity.model, version = env!("CARGO_PKG_VERSION"), "agent");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let terminated = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let Some(parameters) = parameters else {
            tokio::select! {
                () = idle(&identity, arguments) => {}
                () = terminated => {}
            }
            return Ok(End::Terminated);
        };
        let options = Options {
            identity,
            root: arguments.root.clone(),
            parameters,
            card: arguments.card.clone(),
            set_clock: arguments.set_clock,
            beat: Duration::from_secs(arguments.beat_seconds),
            patience: Duration::from_secs(PATIENCE_SECONDS),
            log,
        };
        anyhow::Ok(runner::run(options, terminated).await?)
    })?;
    match end {
        End::Terminated => Ok(()),
        End::Reboot => {
            tracing::info!("rebooting");
            reboot::restart().context("failed to reboot")
        }
    }
}

/// A boot without a token: whoever is invited tells what the board is; then there is nothing to do.
async fn idle(identity: &Identity, arguments: &Arguments) {
    match identity.invitation() {
        Ok(Some(invitation)) => {
            let inventory = enrolment::inventory(identity, &arguments.root, &arguments.card);
            loop {
                let (invitation, inventory) = (invitation.clone(), inventory.clone());
                let told =
                    tokio::task::spawn_blocking(move || enrolment::tell(&invitation, &inventory)).await;
                match told {
                    Ok(Ok(())) => break tracing::info!("the head knows now what this board is"),
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "the head does not hear what this board is: telling it again")
                    }
                    Err(error) => tracing::warn!(%error, "telling what this board is failed"),
                }
                tokio::time::sleep(TELL_AGAIN).await;
            }
        }
        Ok(None) => {
            tracing::info!("the kernel command line has no token: there is nothing to do in this boot")
        }
        Err(error) => tracing::warn!("{:#}", anyhow::Error::new(error)),
    }
    std::future::pending().await
}

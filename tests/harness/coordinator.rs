//! The real coordinator as a process of its own, and its command line.

use crate::mosquitto::Mosquitto;
use crate::process::{mortal_command, program};
use crate::rack_network::HEAD;
use crate::relay::Relay;
use crate::wait::wait_for;
use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Agents that a test runs on one machine have one address together.
const AGENTS_AT_ONE_ADDRESS: u32 = 10_000;

/// The name of the data directory in the coordinator's.
const DATA: &str = "data";

/// A coordinator with a directory of its own.
pub struct Coordinator {
    directory: PathBuf,
    child: Option<Child>,
    /// The file that says how far the coordinator's calendar is off, if it lives by one.
    clock: Option<PathBuf>,
    /// Where people reach it.
    pub people: SocketAddr,
    /// Where nodes reach it.
    pub nodes: SocketAddr,
    /// Where its broker is.
    pub broker: SocketAddr,
}

/// Ports below those that the kernel gives to connections (from 32768 on): nobody takes one while its owner restarts.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

/// An address on loopback that is free at this moment; the same after a restart.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    free(|address| TcpListener::bind(address).is_ok()).context("no TCP port is free on loopback")
}

/// The same for datagrams.
///
/// # Errors
/// When there is none.
pub fn free_udp_address() -> anyhow::Result<SocketAddr> {
    free(|address| UdpSocket::bind(address).is_ok()).context("no UDP port is free on loopback")
}

fn free(is_free: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Programs that run beside each other look in different places.
    let start = std::process::id().wrapping_mul(613);
    (0..PORTS.end - PORTS.start).find_map(|_| {
        let step = start.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + step % (PORTS.end - PORTS.start)).ok()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        is_free(address).then_some(address)
    })
}

/// The library that shows a program another calendar.
fn libfaketime() -> anyhow::Result<PathBuf> {
    let directories = fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    let libraries = directories.map(|directory| directory.join("faketime/libfaketimeMT.so.1"));
    libraries.into_iter().find(|library| library.exists()).context("Debian's package faketime is missing")
}

/// Where a coordinator listens, and how it and its nodes find each other.
pub struct Place {
    /// Where people reach it.
    pub people: SocketAddr,
    /// Where it listens for nodes.
    pub nodes: SocketAddr,
    /// Where the broker is, its own or another one.
    pub broker: SocketAddr,
    nodes_advertised: SocketAddr,
    broker_advertised: SocketAddr,
    /// Where firmware is answered.
    tftp: Option<SocketAddr>,
    /// The URL of an external broker, and the file with the accounts there.
    external: Option<(SocketAddr, PathBuf)>,
}

impl Place {
    /// Addresses on loopback that are free now, and a broker of the coordinator's own. No node reaches them.
    ///
    /// # Errors
    /// When there is none.
    pub fn free() -> anyhow::Result<Place> {
        let (people, nodes, broker) = (free_address()?, free_address()?, free_address()?);
        let (nodes_advertised, broker_advertised) = (nodes, broker);
        Ok(Place { people, nodes, broker, nodes_advertised, broker_advertised, tftp: None, external: None })
    }

    /// The places that everybody knows, on the head of a [rack's network](crate::rack_network).
    pub fn of_head() -> Place {
        let at = |address: Ipv4Addr, port| SocketAddr::from((address, port));
        let (nodes, broker) = (at(HEAD, 8070), at(HEAD, 1883));
        Place {
            people: at(Ipv4Addr::LOCALHOST, 8080),
            nodes,
            broker,
            nodes_advertised: nodes,
            broker_advertised: broker,
            tftp: Some(at(HEAD, 69)),
            external: None,
        }
    }

    /// The same with `broker` in the place of the coordinator's own; our link goes to `link`, its own address or a relay.
    #[must_use]
    pub fn at(self, broker: &Mosquitto, link: SocketAddr) -> Place {
        let external = Some((link, broker.accounts()));
        Place { broker: broker.address, broker_advertised: broker.address, external, ..self }
    }

    /// The same with another address by which nodes reach the coordinator over HTTP.
    #[must_use]
    pub fn http_through(self, relay: &Relay) -> Place {
        Place { nodes_advertised: relay.address(), ..self }
    }

    /// The same with another address by which agents reach the broker.
    #[must_use]
    pub fn agents_through(self, relay: &Relay) -> Place {
        Place { broker_advertised: relay.address(), ..self }
    }

    fn settings(&self, data: &Path, limits: &str) -> String {
        let Place { people, nodes, broker, nodes_advertised, broker_advertised, .. } = self;
        let broker = match &self.external {
            None => format!("listen = \"{broker}\""),
            Some((link, accounts)) => format!("url = \"mqtt://{link}\"\naccounts = {accounts:?}"),
        };
        let tftp = self.tftp.map_or_else(String::new, |address| format!("[netboot]\ntftp = \"{address}\"\n"));
        format!(
            "data_directory = {data:?}\n[people]\nlisten = \"{people}\"\nconnections_per_address = 1024\n\
             [nodes]\nlisten = \"{nodes}\"\nadvertised_address = \"{nodes_advertised}\"\n\
             connections_per_address = {AGENTS_AT_ONE_ADDRESS}\n\
             [broker]\n{broker}\nadvertised_address = \"{broker_advertised}\"\n\
             {tftp}[clock]\ntrust_unsynchronised = true\n[limits]\nfree_space_mb = 64\n{limits}\n"
        )
    }
}

impl Coordinator {
    /// Starts a coordinator in `directory` with `limits` as its `[limits]` section.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(directory: &Path, limits: &str) -> anyhow::Result<Coordinator> {
        Coordinator::start_at(&Place::free()?, directory, limits)
    }

    /// The same at a certain place.
    ///
    /// # Errors
    /// As [`Coordinator::start`].
    pub fn start_at(place: &Place, directory: &Path, limits: &str) -> anyhow::Result<Coordinator> {
        let mut coordinator = Coordinator::prepare_at(place, directory, limits)?;
        coordinator.resume()?;
        Ok(coordinator)
    }

    /// Writes the settings of a coordinator that [`Coordinator::resume`] starts.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn prepare(directory: &Path, limits: &str) -> anyhow::Result<Coordinator> {
        Coordinator::prepare_at(&Place::free()?, directory, limits)
    }

    /// The same at a certain place.
    ///
    /// # Errors
    /// As [`Coordinator::prepare`].
    pub fn prepare_at(place: &Place, directory: &Path, limits: &str) -> anyhow::Result<Coordinator> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("head.toml"), place.settings(&directory.join(DATA), limits))?;
        let Place { people, nodes, broker, .. } = *place;
        Ok(Coordinator { directory: directory.into(), child: None, clock: None, people, nodes, broker })
    }

    /// The settings file.
    pub fn settings(&self) -> PathBuf {
        self.directory.join("head.toml")
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join(DATA)
    }

    /// The log of all its starts.
    pub fn log(&self) -> PathBuf {
        self.directory.join("coordinator.log")
    }

    /// What it has logged so far.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn logged(&self) -> String {
        fs::read_to_string(self.log()).expect("every start makes a log")
    }

    /// Starts the process; waits until people can reach it.
    ///
    /// # Errors
    /// When it ends at once.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.resume_with(&[])
    }

    /// The same with more in the environment of the process.
    ///
    /// # Errors
    /// When it ends at once.
    pub fn resume_with(&mut self, environment: &[(&str, &str)]) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut serve = mortal_command(program("piseduce"));
        serve.arg("serve").arg("--config").arg(self.settings()).envs(environment.iter().copied());
        serve.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(clock) = &self.clock {
            serve.env("LD_PRELOAD", libfaketime()?).env("FAKETIME_TIMESTAMP_FILE", clock);
            serve.envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]);
        }
        let mut child =
            serve.spawn().context("setpriv cannot be started; Debian's package util-linux has it")?;
        let up = || match child.try_wait() {
            Ok(Some(status)) => Err(status),
            _ => Ok(self.answers()),
        };
        let came = wait_for("the coordinator to come up", 30.0, up, |up| *up != Ok(false));
        if let Err(status) = came {
            bail!(
                "the coordinator ended with {status}: {}",
                fs::read_to_string(self.log()).unwrap_or_default()
            );
        }
        self.child = Some(child);
        Ok(())
    }

    /// Whether it serves. That somebody listens is not enough: a program that the one before had just started has its socket
    /// for a moment.
    fn answers(&self) -> bool {
        asking(2).get(format!("http://{}/api/v1/health", self.people)).call().is_ok()
    }

    /// From its next start on the coordinator's calendar is off by `offset`, such as `+5h`; told again while it
    /// runs, its calendar makes a step.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn set_clock(&mut self, offset: &str) -> anyhow::Result<()> {
        let file = self.directory.join("clock");
        fs::write(self.directory.join("clock.new"), offset)?;
        fs::rename(self.directory.join("clock.new"), &file)?;
        self.clock = Some(file);
        Ok(())
    }

    /// Ends the process without a warning.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the coordinator runs");
        child.kill().expect("it is ours to kill");
        child.wait().expect("it is ours to wait for");
    }

    /// Asks the process to end, and waits.
    ///
    /// # Panics
    /// When it does not run, or does not end within 10 s.
    pub fn terminate(&mut self) -> ExitStatus {
        use rustix::process::{Pid, Signal, kill_process};
        let child = self.child.take().expect("the coordinator runs");
        let pid =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a running process has a number");
        kill_process(pid, Signal::TERM).expect("it is ours to end");
        self.child = Some(child);
        self.end(10.0)
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// When it does not run, or does not end within `limit` seconds.
    pub fn end(&mut self, limit: f64) -> ExitStatus {
        let child = self.child.as_mut().expect("the coordinator runs");
        let ended = || child.try_wait().expect("it is ours to wait for");
        let status = wait_for("the coordinator to end", limit, ended, Option::is_some);
        self.child = None;
        status.expect("just accepted")
    }

    /// The number of its process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("the coordinator runs").id()
    }

    /// The number of its thread of this name.
    ///
    /// # Panics
    /// When it does not run, or has none.
    pub fn thread(&self, name: &str) -> String {
        let process = self.process();
        let threads = fs::read_dir(format!("/proc/{process}/task")).expect("a process has threads");
        let mut threads = threads.filter_map(Result::ok);
        let is_it = |path: PathBuf| fs::read_to_string(path).is_ok_and(|comm| comm.trim() == name);
        let found = threads.find(|thread| is_it(thread.path().join("comm")));
        found.expect("a thread of this name").file_name().to_string_lossy().into_owned()
    }

    /// Adds a user and keeps its token in a file.
    ///
    /// # Errors
    /// When it cannot be added.
    pub fn add_user(&self, name: &str, role: &str) -> anyhow::Result<()> {
        let token = self.token_file(name);
        let (token, settings) = (token.to_string_lossy(), self.settings());
        let settings = settings.to_string_lossy();
        self.cli(
            name,
            &["user", "add", name, "--role", role, "--config", &settings, "--token-file", &token],
        )?;
        Ok(())
    }

    /// The file with a user's token.
    pub fn token_file(&self, user: &str) -> PathBuf {
        self.directory.join(format!("{user}.token"))
    }

    /// The `piseduce` program in a user's name.
    pub fn cli_command(&self, user: &str, arguments: &[&str]) -> Command {
        let mut cli = mortal_command(program("piseduce"));
        cli.args(arguments).env("PISEDUCE_URL", format!("http://{}", self.people));
        cli.env("PISEDUCE_TOKEN_FILE", self.token_file(user)).stdin(Stdio::null());
        cli
    }

    /// Runs the `piseduce` program in a user's name, however it ends.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn cli_output(&self, user: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.cli_command(user, arguments).output()?)
    }

    /// Runs the `piseduce` program in a user's name, which must end well.
    ///
    /// # Errors
    /// With what it said, when it does not.
    pub fn cli(&self, user: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.cli_output(user, arguments)?;
        if !output.status.success() {
            bail!(
                "piseduce {} failed: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Reads a resource of the API in a user's name.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub fn get<T: DeserializeOwned>(&self, user: &str, path: &str) -> anyhow::Result<T> {
        let token = fs::read_to_string(self.token_file(user))?;
        let request = asking(10).get(format!("http://{}/api/v1/{path}", self.people));
        let mut answer = request.header("Authorization", format!("Bearer {}", token.trim())).call()?;
        Ok(answer.body_mut().read_json()?)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// A client that waits for an answer for so many seconds.
fn asking(seconds: u64) -> ureq::Agent {
    let limit = Some(Duration::from_secs(seconds));
    ureq::Agent::from(ureq::Agent::config_builder().timeout_global(limit).proxy(None).build())
}

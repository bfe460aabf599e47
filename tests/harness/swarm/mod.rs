//! A swarm: a real coordinator and any number of virtual nodes that speak the real protocol over a network of their own, with
//! switches that switch at once and cards that are written in no time. What is left is what the software itself costs.
//!
//! [`run`] deploys and frees all of them, round after round, and measures; see [`report`] for what comes of it.

mod agent;
mod board;
mod firmware;
mod http;
mod measure;
mod network;
mod power;
pub mod report;
mod round;
mod session;
mod work;

pub use network::BOARDS_MAX;

use crate::coordinator::{Coordinator, Place};
use crate::images;
use board::{Board, Shared};
use network::Network;
use piseduce_coordinator::netboot::boot_root::{BootRoots, Content, Description, Kind, Whom};
use power::Ports;
use report::Report;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Who deploys.
const USER: &str = "swarm";
/// What is deployed.
const ENVIRONMENT: &str = "story";
/// The name of the boot root.
const BOOT_ROOT: &str = "swarm-ram";
/// The descriptors that the installed service may have, and more than a swarm of a thousand needs.
const DESCRIPTORS: u64 = 16_384;

/// What a swarm does.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many nodes there are.
    pub nodes: usize,
    /// How often all of them are deployed and freed.
    pub rounds: usize,
    /// How long the work of each of the agent's states takes.
    pub work: Duration,
    /// How many nodes one `deploy` names; commands are given at once.
    pub batch: usize,
}

/// Runs a swarm; `tell` gets a line for each round.
///
/// # Errors
/// When it cannot be set up, the coordinator ends, or a node gets stuck. Lost and failed nodes are in the report.
pub fn run(options: Options, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Report> {
    crate::process::need_root()?;
    anyhow::ensure!((1..=BOARDS_MAX).contains(&options.nodes), "a swarm has 1 to {BOARDS_MAX} nodes");
    raise_descriptors()?;
    let directory = tempfile::Builder::new().prefix("piseduce-swarm-").tempdir()?;
    let network = Network::new(options.nodes)?;
    let shared = Arc::new(Shared::new(options.work));
    let ports = Ports::new(options.nodes);
    let boards: Vec<Arc<Board>> =
        (0..options.nodes).map(|index| Arc::new(Board::new(index, shared.clone()))).collect();
    // The runtime's threads are where the thread is that starts them.
    let runtime = network
        .boards
        .within(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build())?;
    for (index, board) in boards.iter().enumerate() {
        runtime.spawn(board.clone().live(ports.of(index)));
    }
    // Programs end with the thread that started them.
    let report = network.head.within(|| {
        let switches = serve(&runtime, ports)?;
        let coordinator = coordinator(directory.path(), &boards, switches)?;
        round::all(&coordinator, directory.path(), &boards, &shared, options, tell)
    });
    runtime.shutdown_background();
    report
}

/// Starts the server of all switches; where it is.
fn serve(runtime: &Runtime, ports: Ports) -> anyhow::Result<SocketAddr> {
    // This socket is on the head's side; the runtime only serves it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let _inside = runtime.enter();
    runtime.spawn(ports.serve(tokio::net::TcpListener::from_std(listener)?));
    Ok(address)
}

/// A coordinator that knows all boards and has something to deploy.
fn coordinator(directory: &Path, boards: &[Arc<Board>], switches: SocketAddr) -> anyhow::Result<Coordinator> {
    let limits = "boot_spacing_ms = 0\nboots_in_flight = 1000\n";
    let mut coordinator = Coordinator::prepare_at(&Place::of_head(), &directory.join("head"), limits)?;
    boot_root(&coordinator.data())?;
    coordinator.resume()?;
    coordinator.add_user(USER, "admin")?;
    let (image, settings) = (images::story()?, coordinator.settings());
    let [image, settings] = [&image, &settings].map(|path| path.to_string_lossy());
    let arguments = ["environment", "add", ENVIRONMENT, &image, "--any-architecture", "--config", &settings];
    coordinator.cli(USER, &arguments)?;
    let nodes: String = boards.iter().map(|board| board.inventory()).collect();
    let inventory = directory.join("rack.toml");
    fs::write(&inventory, power::inventory(switches, boards.len()) + &nodes)?;
    coordinator.cli(USER, &["node", "import", &inventory.to_string_lossy()])?;
    fs::write(directory.join("key.pub"), format!("{}\n", crate::lab::SSH_KEY))?;
    Ok(coordinator)
}

/// A boot root of files that are nearly empty: what TFTP costs by the byte is measured elsewhere.
fn boot_root(data: &Path) -> anyhow::Result<()> {
    let roots = BootRoots::at(data.join("boot-roots"), None);
    let directory = roots.directory().join(BOOT_ROOT);
    fs::create_dir_all(directory.join("files"))?;
    let mut files = BTreeMap::new();
    for name in firmware::FILES {
        let content = format!("{name} of a virtual board");
        fs::write(directory.join("files").join(name), &content)?;
        files.insert(name.to_owned(), Content::of(content.as_bytes()));
    }
    let description = Description {
        schema: 1,
        version: BOOT_ROOT.into(),
        kind: Kind::Ram,
        command_line: "console=serial0,115200 panic=10".into(),
        packages: BTreeMap::new(),
        agent: Content::of(b"").blake3,
        files,
        exported: BTreeMap::new(),
    };
    fs::write(directory.join("boot-root.json"), serde_json::to_vec(&description)?)?;
    Ok(roots.choose(BOOT_ROOT, &Whom::All)?)
}

/// Lets this process and the coordinator have as many descriptors as the installed service may.
fn raise_descriptors() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let most = maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum })?)
}

//! A coordinator with a rack of bench nodes and an environment, ready for a story, on a network of their own. Where that is
//! begun the thread moves to the head of that network: use a lab from there only.

use crate::bench_boot_root;
use crate::board::BootSource;
use crate::cards::Card;
use crate::coordinator::{Coordinator, Place};
use crate::images;
use crate::monitor::MONITOR;
use crate::rack::{Rack, macs};
use crate::rack_network::RackNetwork;
use crate::wait::{seconds, wait_for};
use piseduce_coordinator::api::{DeploymentHistory, NodeView};
use piseduce_protocol::id::{DeploymentId, Run};
use piseduce_protocol::state::State;
use piseduce_protocol::status::DeploymentStatus;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// The user of most stories.
pub const USER: &str = "ann";
/// The administrator of every lab.
pub const ADMIN: &str = "root";

/// A key that may log in. Nobody has its private half.
pub const SSH_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEn6GyZLFSeqMgyE4N6sqRN4vXnpWL9l2gCEFYgDeUxD ann@lab";

/// Limits under which stories run: nobody waits for a board's charge or a neighbour's boot.
const LIMITS: &str = "boot_spacing_ms = 0\n";

/// A lab.
pub struct Lab {
    /// Its rack.
    pub rack: Rack,
    /// Its coordinator.
    pub coordinator: Coordinator,
    /// What its nodes and its head are connected to.
    pub network: Arc<RackNetwork>,
    /// Where its files are.
    pub directory: tempfile::TempDir,
}

/// A network for so many bench nodes; this thread moves to its head for good.
///
/// # Panics
/// When it cannot be had; the reason is told.
pub fn network(count: usize) -> Arc<RackNetwork> {
    Arc::new(RackNetwork::enter(&macs(count)).unwrap_or_else(|error| panic!("no network: {error:#}")))
}

/// The prefix of every lab's directory, by which leftovers of killed runs are known.
pub const PREFIX: &str = "piseduce-lab-";

impl Lab {
    /// A lab with `count` bench nodes, the small image as environment `story`, and the usual users.
    ///
    /// # Panics
    /// When anything of it cannot be had; the reason is told.
    pub fn new(count: usize) -> Lab {
        Lab::with_limits(count, "")
    }

    /// The same with more lines for the coordinator's `[limits]` section, and sections of their own behind them.
    ///
    /// # Panics
    /// As [`Lab::new`].
    pub fn with_limits(count: usize, limits: &str) -> Lab {
        Lab::on(&network(count), limits)
    }

    /// The same on a network that is there, with a node for each of its boards; this thread must be at its head.
    ///
    /// # Panics
    /// As [`Lab::new`].
    pub fn on(network: &Arc<RackNetwork>, limits: &str) -> Lab {
        Lab::at(&Place::of_head(), network, limits)
    }

    /// The same with a coordinator at a certain place.
    ///
    /// # Panics
    /// As [`Lab::new`].
    pub fn at(place: &Place, network: &Arc<RackNetwork>, limits: &str) -> Lab {
        let lab = || -> anyhow::Result<Lab> {
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
            let rack = Rack::new(&directory.path().join("rack"), network, 1 << 30)?;
            let limits = format!("{LIMITS}{limits}");
            let mut coordinator = Coordinator::prepare_at(place, &directory.path().join("head"), &limits)?;
            bench_boot_root::add_bench(&coordinator.data())?;
            coordinator.resume()?;
            rack.connect(&BootSource::Head);
            coordinator.add_user(ADMIN, "admin")?;
            coordinator.add_user(USER, "user")?;
            coordinator.add_user(MONITOR, "monitor")?;
            fs::write(directory.path().join("key.pub"), format!("{SSH_KEY}\n"))?;
            let lab = Lab { rack, coordinator, network: network.clone(), directory };
            lab.add_environment("story", &images::story()?)?;
            let inventory = lab.file("rack.toml", &lab.rack.inventory());
            lab.coordinator.cli(ADMIN, &["node", "import", &inventory])?;
            Ok(lab)
        };
        lab().unwrap_or_else(|error| panic!("no lab: {error:#}"))
    }

    /// Imports an image.
    ///
    /// # Errors
    /// When it is no image.
    pub fn add_environment(&self, name: &str, image: &std::path::Path) -> anyhow::Result<()> {
        let (image, settings) = (image.to_string_lossy(), self.coordinator.settings());
        let settings = settings.to_string_lossy();
        // Bench nodes run what this machine runs.
        let arguments = ["environment", "add", name, &image, "--any-architecture", "--config", &settings];
        self.coordinator.cli(ADMIN, &arguments).map(drop)
    }

    /// Writes a file into the lab's directory and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        fs::write(&path, text).expect("the lab's directory can be written");
        path.to_string_lossy().into_owned()
    }

    /// The names of all nodes.
    pub fn names(&self) -> Vec<&str> {
        self.rack.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    /// Holds all nodes for the usual user and sends the form.
    ///
    /// # Panics
    /// When the coordinator refuses.
    pub fn deploy(&self, extra: &[&str]) {
        self.deploy_as(USER, extra);
    }

    /// Holds all nodes for a user and sends the form.
    ///
    /// # Panics
    /// When the coordinator refuses.
    pub fn deploy_as(&self, user: &str, extra: &[&str]) {
        let names = self.names();
        let reserve: Vec<&str> =
            ["reserve"].into_iter().chain(names.clone()).chain(["--for", "4h"]).collect();
        self.coordinator.cli(user, &reserve).expect("the nodes are free");
        let key = self.directory.path().join("key.pub");
        let key = key.to_string_lossy();
        let form = ["--environment", "story", "--ssh-key", &key];
        let deploy: Vec<&str> =
            ["deploy"].into_iter().chain(names).chain(form).chain(extra.iter().copied()).collect();
        self.coordinator.cli(user, &deploy).expect("the form is accepted");
    }

    /// A node as the API shows it.
    ///
    /// # Panics
    /// When the coordinator does not answer.
    pub fn node(&self, index: usize) -> NodeView {
        let path = format!("nodes/{}", self.rack.nodes[index].name);
        self.coordinator.get(USER, &path).expect("the coordinator answers")
    }

    /// How a node's deployment stands; none when the node is free, or the coordinator does not answer.
    pub fn status(&self, index: usize) -> Option<DeploymentStatus> {
        let path = format!("nodes/{}", self.rack.nodes[index].name);
        self.coordinator.get::<NodeView>(USER, &path).ok()?.deployment
    }

    /// Which run of which deployment a node is in.
    ///
    /// # Panics
    /// When the node is free.
    pub fn run_of(&self, index: usize) -> (DeploymentId, Run) {
        let status = self.status(index).expect("the node is held");
        (status.id, status.run)
    }

    /// Waits until the deployment of a node is in `state`.
    ///
    /// # Panics
    /// When that takes longer than `limit` seconds, or the node comes to rest in another state.
    pub fn wait_for(&self, index: usize, state: State, limit: f64) -> DeploymentStatus {
        let what = format!("{} on {}", state, self.rack.nodes[index].name);
        let stopped = |now: State| matches!(now, State::Lost | State::Failed | State::Quarantined);
        let accept = |status: &Option<DeploymentStatus>| {
            status.as_ref().is_some_and(|status| status.state == state || stopped(status.state))
        };
        let status = wait_for(&what, limit, || self.status(index), accept).expect("just accepted");
        assert!(status.state == state, "waited for {what}, but {status:?}\n{}", self.story_of(index));
        status
    }

    /// Starts the deployment of a node again from the beginning, on a card without content.
    ///
    /// # Panics
    /// When the coordinator refuses.
    pub fn deploy_again_on_blank_card(&self, index: usize) {
        let name = &self.rack.nodes[index].name;
        self.rack.crash(index);
        self.rack.with_card(index, Card::erase).expect("a card can be erased");
        self.coordinator.cli(USER, &["deploy-again", name]).expect("a deployment can start again");
    }

    /// Waits until a node is free.
    ///
    /// # Panics
    /// When that takes longer than `limit` seconds.
    pub fn wait_until_free(&self, index: usize, limit: f64) {
        wait_for("the node to be free", limit, || self.status(index), Option::is_none);
    }

    /// Everything that happened to a deployment.
    ///
    /// # Panics
    /// When the coordinator does not answer.
    pub fn history(&self, id: DeploymentId) -> DeploymentHistory {
        self.coordinator.get(USER, &format!("deployments/{id}")).expect("the coordinator answers")
    }

    /// The logs of a board, for who looks at a failed story.
    pub fn story_of(&self, index: usize) -> String {
        let place = self.rack.place(index);
        let mut story = String::new();
        for log in ["trace.log", "kernel.log", "system.log", "firmware.log"] {
            let text = fs::read_to_string(place.join(log)).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(40).collect();
            story += &format!("--- {log}\n{}\n", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        let log = fs::read_to_string(self.coordinator.log()).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(40).collect();
        story
            + "--- coordinator\n"
            + &last.into_iter().rev().collect::<Vec<_>>().join("\n")
            + &format!("\nat {:.3}", seconds())
    }
}

//! A coordinator with a virtual rack, a boot root and an environment, ready for a rehearsal or a story. All of it lives in the
//! rack's network: use it from there only.

use crate::boot_root::{self, BootRoots};
use crate::coordinator::{Coordinator, Place};
use crate::images::arm64;
use crate::nfs_server::{self, NfsServer};
use crate::process::{command, run};
use crate::rack_network::{BRIDGE, HEAD};
use crate::virtual_rack::{Board, VirtualRack, address_of};
use crate::wait::wait_for;
use anyhow::{Context as _, bail};
use piseduce_coordinator::api::{DeploymentHistory, DeploymentView, NodeView};
use piseduce_protocol::state::State;
use piseduce_protocol::status::DeploymentStatus;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Who uses it.
pub const USER: &str = "you";
/// The environment that is there.
pub const ENVIRONMENT: &str = "debian";

/// What a lab is made of, kept from one to the next.
pub struct Made {
    /// The boot roots.
    pub boot_roots: BootRoots,
    /// The image.
    pub image: PathBuf,
}

impl Made {
    /// Makes boot root and image, unless they are there; `tell` gets a line for what takes long.
    ///
    /// # Errors
    /// When a program is missing, which is named with its package, or packages cannot be fetched.
    pub fn ready(tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Made> {
        // One compiles on all cores, the other emulates on one.
        let (boot_roots, tree) = std::thread::scope(|scope| {
            let tree = scope.spawn(|| arm64::tree(tell));
            let boot_roots = boot_root::boot_roots(tell);
            (boot_roots, tree.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let boot_roots = boot_roots?;
        let image = arm64::debian(&tree?, &current_files(&boot_roots), tell)?;
        Ok(Made { boot_roots, image })
    }

    /// The files that nodes fetch.
    pub fn boot_files(&self) -> PathBuf {
        current_files(&self.boot_roots)
    }
}

fn current_files(boot_roots: &BootRoots) -> PathBuf {
    boot_roots.directory.join("current/files")
}

/// A lab.
pub struct VirtualLab<'a> {
    /// Its rack.
    pub rack: &'a VirtualRack,
    /// Its coordinator.
    pub coordinator: Coordinator,
    /// Its boot roots.
    pub boot_roots: BootRoots,
    directory: PathBuf,
}

impl<'a> VirtualLab<'a> {
    /// A coordinator for `rack` with its boot root; nothing is registered yet.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn new(directory: &Path, rack: &'a VirtualRack, made: &Made, limits: &str) -> anyhow::Result<Self> {
        let exports = directory.join("exports");
        let settings = format!(
            "{limits}[[netboot.network]]\ninterface = \"{BRIDGE}\"\nhead = \"{HEAD}/24\"\n\
             [netboot.nfs]\ndirectory = {exports:?}\nserver = \"nfs-ganesha\"\n"
        );
        let mut coordinator = Coordinator::prepare_at(&Place::of_head(), &directory.join("head"), &settings)?;
        fs::create_dir_all(coordinator.data())?;
        boot_root::install(&made.boot_roots, &coordinator.data(), &exports)?;
        coordinator.resume()?;
        coordinator.add_user(USER, "admin")?;
        let key = directory.join("key");
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", USER, "-f", &key.to_string_lossy()])?;
        Ok(VirtualLab { rack, coordinator, boot_roots: made.boot_roots.clone(), directory: directory.into() })
    }

    /// The file with the inventory of the rack.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn inventory(&self) -> anyhow::Result<String> {
        let path = self.directory.join("rack.toml");
        fs::write(&path, self.rack.inventory(&self.directory)?)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// The file with the user's public key.
    pub fn public_key(&self) -> String {
        self.directory.join("key.pub").to_string_lossy().into_owned()
    }

    /// Registers all nodes and the image.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub fn register(&self, made: &Made) -> anyhow::Result<()> {
        let settings = self.coordinator.settings();
        self.coordinator.cli(USER, &["node", "import", &self.inventory()?])?;
        let add =
            ["environment", "add", ENVIRONMENT, &made.image.to_string_lossy(), "--config"].map(str::to_owned);
        let add: Vec<&str> = add.iter().map(String::as_str).collect();
        self.coordinator.cli(USER, &[&add[..], &[&*settings.to_string_lossy()]].concat())?;
        Ok(())
    }

    /// Starts an NFS server with the export that this head's settings ask for.
    ///
    /// # Errors
    /// When it cannot be rendered, or the server does not come up.
    pub fn serve_nfs(&self) -> anyhow::Result<NfsServer> {
        let directory = self.directory.join("nfs");
        fs::create_dir_all(&directory)?;
        let (path, settings) = (directory.to_string_lossy(), self.coordinator.settings());
        let places = ["--output", &path, "--exports", &path, "--config", &*settings.to_string_lossy()];
        self.coordinator.cli(USER, &[&["netboot", "render"], &places[..]].concat())?;
        // The list of dnsmasq's settings is not read here: the rack has its own.
        NfsServer::start(&directory, HEAD, &nfs_server::export_in(&directory))
    }

    /// Chooses a boot root for some nodes.
    ///
    /// # Errors
    /// When the coordinator's program refuses.
    pub fn use_boot_root(&self, version: &str, whom: &[&str]) -> anyhow::Result<()> {
        let settings = self.coordinator.settings();
        let config = ["--config", &*settings.to_string_lossy()];
        self.coordinator.cli(USER, &[&["boot-root", "use", version], whom, &config].concat()).map(drop)
    }

    /// Holds all nodes and sends the form.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub fn deploy(&self) -> anyhow::Result<()> {
        let names = self.names();
        self.coordinator.cli(USER, &[&["reserve"], &names[..], &["--for", "4h"]].concat())?;
        let form = ["--environment", ENVIRONMENT, "--ssh-key"];
        self.coordinator.cli(USER, &[&["deploy"], &names[..], &form, &[&*self.public_key()]].concat())?;
        Ok(())
    }

    /// The names of all nodes.
    pub fn names(&self) -> Vec<&str> {
        self.rack.boards.iter().map(|board| board.identity.name.as_str()).collect()
    }

    /// How a node's deployment stands; none when the node is free, or the coordinator does not answer.
    pub fn status(&self, name: &str) -> Option<DeploymentStatus> {
        self.coordinator.get::<NodeView>(USER, &format!("nodes/{name}")).ok()?.deployment
    }

    /// Waits until the deployment of a node shows what `accept` wants.
    ///
    /// # Panics
    /// When that takes longer than `limit` seconds, or the node comes to rest badly.
    pub fn wait_for(
        &self,
        board: &Board,
        what: &str,
        limit: f64,
        accept: impl Fn(&DeploymentStatus) -> bool,
    ) {
        let name = &board.identity.name;
        let stopped = |now: State| matches!(now, State::Lost | State::Failed | State::Quarantined);
        let accepted = |status: &Option<DeploymentStatus>| {
            status.as_ref().is_some_and(|now| accept(now) || stopped(now.state))
        };
        let status = wait_for(what, limit, || self.status(name), accepted).expect("just accepted");
        assert!(accept(&status), "{what}: {status:?}\n{}", tail(&board.said(), 30));
    }

    /// Everything about a node's deployment.
    ///
    /// # Errors
    /// When there is none.
    pub fn history(&self, name: &str) -> anyhow::Result<DeploymentHistory> {
        let status = self.status(name).with_context(|| format!("{name} has no deployment"))?;
        self.coordinator.get(USER, &format!("deployments/{}", status.id))
    }

    /// Logs in to a deployed node over SSH with the user's key, against the host key that the coordinator announced, and returns
    /// what `question` prints there.
    ///
    /// # Errors
    /// When the node is not who it should be, or nobody lets us in.
    pub fn log_in(&self, board: &Board, question: &str) -> anyhow::Result<String> {
        let name = &board.identity.name;
        let view: DeploymentView = self.history(name)?.deployment;
        let known = self.directory.join(format!("{name}.known_hosts"));
        fs::write(&known, view.known_hosts.context("no host key was announced")? + "\n")?;
        let address = address_of(board.identity.number)?;
        let mut ssh = command("ssh");
        ssh.arg("-i").arg(self.directory.join("key"));
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
        ssh.arg("-o").arg(format!("HostKeyAlias={name}"));
        for option in
            ["StrictHostKeyChecking=yes", "BatchMode=yes", "ConnectTimeout=20", "IdentitiesOnly=yes"]
        {
            ssh.args(["-o", option]);
        }
        ssh.args(["-F", "none"]).arg(format!("pi@{address}")).arg(question).stdin(Stdio::null());
        let output = ssh.output().context("ssh cannot be started; Debian's package openssh-client has it")?;
        if !output.status.success() {
            bail!("{name} lets nobody in: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// The last lines of a console.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

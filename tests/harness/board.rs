//! The board of a bench node: what a Raspberry Pi's firmware, kernel and system do, played by namespaces.
//!
//! `firmware` is process 1 of the board. It asks over TFTP what to boot, from the board's own address, and either runs the real
//! agent (`kernel`) on the board's card, or boots the card (`system`): mounts what is written there and runs its enabled
//! first-boot units. Each boot has namespaces of its own, so that the agent's `reboot(2)` ends that boot and nothing else, and
//! the firmware asks again. All of it is in the network namespace that is the board's place on the rack's network.

mod boot_source;

pub use boot_source::{Boot, BootSource};

use crate::firmware::INTERFACE;
use crate::namespace::ip;
use crate::process::{command, run};
use crate::wait::{pause, seconds};
use anyhow::{Context as _, bail};
use clap::Args;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// One board.
#[derive(Clone, Debug, Args)]
pub struct Board {
    /// Its serial number
    #[arg(long)]
    pub serial: String,
    /// Its network address
    #[arg(long)]
    pub mac: String,
    /// Its model
    #[arg(long)]
    pub model: String,
    /// Its card
    #[arg(long)]
    pub card: PathBuf,
    /// Its address, once it is on
    #[arg(long)]
    pub address: Ipv4Addr,
    /// Whom it asks what to boot: `nobody`, `head`, or the path of a room's socket
    #[arg(long)]
    pub asks: BootSource,
    /// The agent program
    #[arg(long)]
    pub agent: PathBuf,
    /// Where the board keeps its identity tree, logs and trace
    #[arg(long)]
    pub directory: PathBuf,
}

/// The namespaces of one boot: nothing in it can see, signal or mount anything outside.
pub fn in_namespaces(program: &Path) -> Command {
    let mut unshare = command("unshare");
    unshare.args(["--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc", "--"]);
    unshare.arg(program);
    unshare
}

/// The file below a board's directory with the settings of its EEPROM.
pub const EEPROM: &str = "eeprom.conf";

/// The file below a board's directory with the identification of its card.
pub const CID: &str = "cid";

impl Board {
    /// The board as arguments for its own program.
    pub fn arguments(&self) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        [
            ("--serial", self.serial.clone()),
            ("--mac", self.mac.clone()),
            ("--model", self.model.clone()),
            ("--card", text(&self.card)),
            ("--address", self.address.to_string()),
            ("--asks", self.asks.to_string()),
            ("--agent", text(&self.agent)),
            ("--directory", text(&self.directory)),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }

    /// What happened, one line each, for who looks at a failed run.
    fn trace(&self, text: &str) {
        let file = fs::OpenOptions::new().create(true).append(true).open(self.directory.join("trace.log"));
        if let Ok(mut file) = file {
            // A trace that cannot be written is missed by nobody but a person reading it.
            let _ = writeln!(file, "{:9.3} {text}", seconds());
        }
    }

    /// The board from power-on to the power cut that kills it.
    ///
    /// # Errors
    /// When a boot cannot even be tried.
    pub fn firmware(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.directory)?;
        self.trace("power on");
        if self.asks == BootSource::Head {
            self.plug_in()?;
        }
        loop {
            let Some(boot) = self.asks.ask(&self.serial) else {
                pause();
                continue;
            };
            self.trace(&format!("boots the {boot}"));
            let mut boot = match boot {
                Boot::Root(command_line) => self.boot_root(&command_line)?,
                Boot::Card if self.card_boots() => self.boot_card()?,
                Boot::Card => {
                    pause();
                    continue;
                }
            };
            let status = boot.wait()?;
            self.trace(&format!("boot ended: {status}"));
            if status.signal() == Some(2) || status.code() == Some(128 + 2) {
                self.trace("powered off by its system");
                loop {
                    pause();
                }
            }
        }
    }

    /// What a DHCP server would tell it is known: an address that is always the same.
    fn plug_in(&self) -> anyhow::Result<()> {
        let Board { mac, address, .. } = self;
        ip(&[
            &format!("link set {INTERFACE} address {mac}"),
            &format!("address replace {address}/24 dev {INTERFACE}"),
            &format!("link set {INTERFACE} up"),
        ])
    }

    /// Runs the real agent under a fresh identity.
    fn boot_root(&self, command_line: &str) -> anyhow::Result<Child> {
        let tree = self.directory.join("tree");
        let put = |path: &str, content: String| {
            let file = tree.join(path);
            fs::create_dir_all(file.parent().expect("paths here have a directory"))?;
            fs::write(file, content)
        };
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        put("proc/device-tree/serial-number", format!("{}\0", self.serial))?;
        put("proc/device-tree/model", format!("{}\0", self.model))?;
        put("proc/sys/kernel/random/boot_id", boot_id)?;
        put("proc/cmdline", format!("console=ttyAMA0 {command_line}\n"))?;
        put("sys/class/net/eth0/address", format!("{}\n", self.mac))?;
        // A loop device says nothing of the kind; the number says which card it is.
        let card = self.card.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Ok(cid) = fs::read_to_string(self.directory.join(CID)) {
            put(&format!("sys/class/block/{card}/device/cid"), cid)?;
        }
        // The settings of its EEPROM, which its bootloader leaves in memory for the kernel.
        if let Ok(settings) = fs::read_to_string(self.directory.join(EEPROM)) {
            put("proc/device-tree/aliases/blconfig", "/reserved-memory/nvram@0\0".into())?;
            put("sys/bus/nvmem/devices/rmem0/nvmem", settings)?;
            put("proc/device-tree/reserved-memory/nvram@0/name", String::new())?;
            let node = tree.join("sys/bus/nvmem/devices/rmem0/of_node");
            if !node.exists() {
                symlink(fs::canonicalize(&tree)?.join("proc/device-tree/reserved-memory/nvram@0"), node)?;
            }
        }
        self.boot("kernel")
    }

    fn boot_card(&self) -> anyhow::Result<Child> {
        self.boot("system")
    }

    fn boot(&self, what: &str) -> anyhow::Result<Child> {
        let own = std::env::current_exe()?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join(format!("{what}.log")))?;
        let mut boot = in_namespaces(&own);
        boot.arg(what).args(self.arguments());
        boot.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        boot.spawn().context("unshare cannot be started; Debian's package util-linux has it")
    }

    /// As a Pi's firmware sees it: a partition table, and a FAT partition with what it boots.
    fn card_boots(&self) -> bool {
        let found = crate::images::boot_files(&self.card);
        self.trace(&format!("card: {found:?}"));
        found.is_ok_and(|files| files.command_line.is_some())
    }

    /// Process 1 of a boot of the boot root: runs the agent, and again when it dies.
    ///
    /// # Errors
    /// When the agent cannot be started.
    pub fn kernel(&self) -> anyhow::Result<()> {
        rustix::system::sethostname(b"boot-root")?;
        // A boot root starts with nothing in `/run`, and leaves nothing there.
        run("mount", &["-t", "tmpfs", "run", "/run"])?;
        loop {
            let mut agent = command(&self.agent);
            agent.arg("--root").arg(self.directory.join("tree")).arg("--card").arg(&self.card);
            let mut child = agent.stdin(Stdio::null()).spawn().context("the agent cannot be started")?;
            self.trace("agent started");
            fs::write(self.directory.join("agent.pid"), child.id().to_string())?;
            let status = wait_as_init(&mut child)?;
            self.trace(&format!("agent ended: {status:?}"));
            if status == Some(2) {
                bail!("the agent refuses this identity");
            }
            pause();
        }
    }

    /// Process 1 of a boot of the card: mounts its root and runs its enabled first-boot units.
    ///
    /// # Errors
    /// When the card cannot be mounted: a kernel would panic.
    pub fn system(&self) -> anyhow::Result<()> {
        let files = crate::images::boot_files(&self.card)?;
        let number = files.root_partition.context("cmdline.txt names no root partition of this card")?;
        let card = self.card.to_string_lossy();
        crate::cards::show_partitions(&self.card)?;
        let root = self.directory.join("root");
        fs::create_dir_all(&root)?;
        let at = root.to_string_lossy().into_owned();
        run("mount", &["-t", "ext4", &format!("{card}p{number}"), &at])?;
        for (kind, place) in [("proc", "proc"), ("tmpfs", "run"), ("tmpfs", "tmp"), ("devtmpfs", "dev")] {
            let place = root.join(place);
            fs::create_dir_all(&place)?;
            run("mount", &["-t", kind, kind, &place.to_string_lossy()])?;
        }
        let host_name = fs::read_to_string(root.join("etc/hostname"))?;
        rustix::system::sethostname(host_name.trim().as_bytes())?;
        self.trace(&format!("card booted as {}", host_name.trim()));
        for unit in first_boot_units(&root)? {
            self.run_unit(&root, &unit)?;
        }
        self.trace("units ended; the system idles");
        loop {
            pause();
        }
    }

    fn run_unit(&self, root: &Path, unit: &Unit) -> anyhow::Result<()> {
        let missing = unit.conditions.iter().find(|path| !root.join(path.trim_start_matches('/')).exists());
        if let Some(missing) = missing {
            self.trace(&format!("{} skipped: no {missing}", unit.name));
            return Ok(());
        }
        self.trace(&format!("{} started", unit.name));
        let mut chroot = command("chroot");
        chroot.arg(root).args(unit.command.split_ascii_whitespace());
        chroot.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut child = chroot.stdin(Stdio::null()).spawn().context("chroot cannot be started")?;
        if unit.awaited {
            let status = wait_as_init(&mut child)?;
            self.trace(&format!("{} ended: {status:?}", unit.name));
        }
        Ok(())
    }
}

/// Waits for `child` as process 1 must: orphans of the namespace are reaped too. The exit code, if any.
fn wait_as_init(child: &mut Child) -> anyhow::Result<Option<i32>> {
    use rustix::process::{WaitOptions, wait};
    let own = i32::try_from(child.id()).expect("process numbers fit");
    while let Some((pid, status)) = wait(WaitOptions::empty())? {
        if pid.as_raw_nonzero().get() == own {
            return Ok(status.exit_status());
        }
    }
    bail!("there is no child to wait for")
}

/// An enabled unit of the card's own.
#[derive(Debug)]
struct Unit {
    name: String,
    command: String,
    conditions: Vec<String>,
    after: Vec<String>,
    /// Whether units after it wait for its end.
    awaited: bool,
}

/// The units of ours that are enabled on the card, in the order that their `After=` lines ask for.
fn first_boot_units(root: &Path) -> anyhow::Result<Vec<Unit>> {
    let mut units = Vec::new();
    let etc = root.join("etc/systemd/system");
    for entry in fs::read_dir(&etc)? {
        let directory = entry?.path();
        if !directory.to_string_lossy().ends_with(".target.wants") {
            continue;
        }
        for link in fs::read_dir(&directory)? {
            let name = link?.file_name().to_string_lossy().into_owned();
            let target = fs::read_link(directory.join(&name));
            if let (true, Ok(target)) = (name.starts_with("piseduce-"), target) {
                let file = root.join(target.strip_prefix("/").unwrap_or(&target));
                let file = if target.is_absolute() { file } else { directory.join(&target) };
                let text = fs::read_to_string(&file)
                    .with_context(|| format!("unit {name} is enabled but missing"))?;
                units.push(parse_unit(name, &text)?);
            }
        }
    }
    let mut ordered: Vec<Unit> = Vec::new();
    while !units.is_empty() {
        let waits = |unit: &Unit| units.iter().any(|other| unit.after.contains(&other.name));
        let next = units.iter().position(|unit| !waits(unit)).context("the units wait for each other")?;
        ordered.push(units.remove(next));
    }
    Ok(ordered)
}

fn parse_unit(name: String, text: &str) -> anyhow::Result<Unit> {
    let values = |key: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        lines.flat_map(|value| value.split_ascii_whitespace().map(ToOwned::to_owned)).collect()
    };
    let command = text.lines().find_map(|line| line.strip_prefix("ExecStart="));
    let command = command.with_context(|| format!("unit {name} has no ExecStart"))?.to_owned();
    Ok(Unit {
        command,
        conditions: values("ConditionPathExists"),
        after: values("After"),
        awaited: values("Type") == ["oneshot"],
        name,
    })
}

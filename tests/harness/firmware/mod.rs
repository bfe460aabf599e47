//! The firmware of a virtual Raspberry Pi: asks over DHCP and TFTP what a real one asks, in its order and with its
//! fall-backs, or reads its card, and ends with a kernel to start, or dark.
//!
//! What each model does is in [`model`], with its sources; no board was asked. It speaks from a network namespace of the
//! board's own, through ordinary sockets, to whatever DHCP and TFTP servers are there.

mod card;
mod config;
mod dhcp;
pub mod model;
pub mod room;
pub(crate) mod tftp;

pub use card::BootPartition;
pub use model::{Model, Settings};

use crate::namespace::Namespace;
use crate::wait::seconds;
use card::RamDisk;
use config::Config;
use dhcp::Lease;
use std::path::PathBuf;
use tftp::{Client, Fetched, TftpError};

/// The interface of a board in its namespace.
pub const INTERFACE: &str = "eth0";

/// A board's firmware.
pub struct Firmware<'a> {
    /// Which board it is.
    pub model: Model,
    /// Its hardware address, lower case with colons.
    pub mac: String,
    /// Its serial number, 16 hex digits.
    pub serial: String,
    /// What stands in its EEPROM, or what its boot ROM does.
    pub settings: Settings,
    /// Where it speaks; its interface there is [`INTERFACE`] and has its hardware address.
    pub namespace: &'a Namespace,
    /// Its card.
    pub card: PathBuf,
}

/// Where a kernel came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// TFTP.
    Network,
    /// The boot partition of the card.
    Card,
}

/// A kernel to start.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Where it came from.
    pub from: From,
    /// The kernel's image, as it was: maybe packed with gzip.
    pub kernel: Vec<u8>,
    /// The initramfs, if the configuration names one.
    pub initramfs: Option<Vec<u8>>,
    /// The words for the kernel, with the name of the serial line put in.
    pub command_line: String,
}

/// The board stays dark until its power is cut; why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Hang(pub String);

/// How one way to boot ended without a kernel.
#[derive(Debug)]
enum Miss {
    /// Nothing to boot there; the next way is tried.
    Nothing(String),
    /// The board does nothing more.
    Dark(String),
}

/// What a boot is told and asked: whether to go on, and lines for the console.
pub struct Watch<'a> {
    /// Whether the power is still on.
    pub powered: &'a (dyn Fn() -> bool + Sync),
    /// Gets a line for each thing that happens.
    pub tell: &'a (dyn Fn(&str) + Sync),
}

impl Watch<'_> {
    fn is_off(&self) -> bool {
        !(self.powered)()
    }
}

/// A way to read boot files.
trait Source {
    /// The content of a file; none: there is no such file.
    fn file(&mut self, name: &str) -> Result<Option<Vec<u8>>, Miss>;
    /// Whether they were all fetched in one image.
    fn is_ram_disk(&self) -> bool {
        false
    }
}

impl Source for RamDisk {
    fn file(&mut self, name: &str) -> Result<Option<Vec<u8>>, Miss> {
        self.read(name).map_err(|error| Miss::Nothing(format!("boot.img cannot be read: {error:#}")))
    }
    fn is_ram_disk(&self) -> bool {
        true
    }
}

impl Source for BootPartition {
    fn file(&mut self, name: &str) -> Result<Option<Vec<u8>>, Miss> {
        self.read(name).map_err(|error| Miss::Nothing(format!("the card cannot be read: {error:#}")))
    }
}

/// Files below a prefix on the TFTP server.
struct Remote<'a> {
    client: &'a mut Client,
    prefix: String,
    watch: &'a Watch<'a>,
    hangs: bool,
}

impl Source for Remote<'_> {
    fn file(&mut self, name: &str) -> Result<Option<Vec<u8>>, Miss> {
        fetch(self.client, &format!("{}{name}", self.prefix), self.watch, self.hangs)
    }
}

fn probe(client: &mut Client, path: &str, watch: &Watch, hangs: bool) -> Result<bool, Miss> {
    let found = client.probe(path, &|| watch.is_off());
    Ok(told(path, watch, hangs, found)?.is_some())
}

fn fetch(client: &mut Client, path: &str, watch: &Watch, hangs: bool) -> Result<Option<Vec<u8>>, Miss> {
    let found = client.fetch(path, &|| watch.is_off());
    told(path, watch, hangs, found)
}

fn told(
    path: &str,
    watch: &Watch,
    hangs: bool,
    found: Result<Fetched, TftpError>,
) -> Result<Option<Vec<u8>>, Miss> {
    match found {
        Ok(Fetched::File(bytes)) => {
            (watch.tell)(&format!("tftp {path}: {} bytes", bytes.len()));
            Ok(Some(bytes))
        }
        Ok(Fetched::NotFound) => {
            (watch.tell)(&format!("tftp {path}: not found"));
            Ok(None)
        }
        Err(error) => {
            let words = format!("tftp {path}: {error}");
            (watch.tell)(&words);
            Err(if hangs { Miss::Dark(words) } else { Miss::Nothing(words) })
        }
    }
}

impl Firmware<'_> {
    /// Boots: returns what to start, or why the board is dark. Ends soon with a [`Hang`] when the power goes.
    ///
    /// # Errors
    /// [`Hang`], as the model has it.
    pub fn boot(&self, watch: &Watch) -> Result<Loaded, Hang> {
        loop {
            let began = seconds();
            let mut said = String::new();
            for way in self.settings.order(self.model) {
                if watch.is_off() {
                    return Err(Hang("the power went".into()));
                }
                let tried = match way {
                    model::Way::Card => self.boot_card(watch),
                    model::Way::Network => self.namespace.within(|| self.boot_network(watch)),
                    model::Way::Stop => Err(Miss::Dark(format!("its boot order stops here: {said}"))),
                    model::Way::Restart => break,
                };
                match tried {
                    Ok(loaded) => return Ok(loaded),
                    Err(Miss::Nothing(why)) => {
                        (watch.tell)(&why);
                        said = why;
                    }
                    Err(Miss::Dark(why)) => {
                        self.dark(&why, began, watch)?;
                        break;
                    }
                }
            }
            if !self.settings.restarts(self.model) {
                return Err(Hang(said));
            }
            // A board that finds nothing at once does not ask at once again.
            self.pause(watch);
        }
    }

    /// A board that does nothing more starts again when its watchdog says so, if it has one.
    fn dark(&self, why: &str, began: f64, watch: &Watch) -> Result<(), Hang> {
        let Some(watchdog) = self.settings.watchdog_ms else { return Err(Hang(why.into())) };
        (watch.tell)(&format!("{why}; waiting for the boot watchdog"));
        while seconds() < began + watchdog as f64 / 1000.0 {
            if watch.is_off() {
                return Err(Hang("the power went".into()));
            }
            crate::wait::pause();
        }
        Ok(())
    }

    fn pause(&self, watch: &Watch) {
        let until = seconds() + self.settings.restart_pause_ms as f64 / 1000.0;
        while seconds() < until && !watch.is_off() {
            crate::wait::pause();
        }
    }

    fn boot_card(&self, watch: &Watch) -> Result<Loaded, Miss> {
        let opened = BootPartition::open(&self.card);
        let mut partition =
            opened.map_err(|error| Miss::Nothing(format!("no boot partition on the card: {error:#}")))?;
        for name in self.model.needs_on_card() {
            if partition.file(name)?.is_none() {
                return Err(Miss::Nothing(format!("the card has no {name}")));
            }
        }
        let loaded = self.load(&mut partition, From::Card)?;
        (watch.tell)("kernel from the card");
        Ok(loaded)
    }

    fn boot_network(&self, watch: &Watch) -> Result<Loaded, Miss> {
        let lease = self.lease(watch)?;
        self.take_address(&lease)
            .map_err(|error| Miss::Nothing(format!("the address cannot be used: {error:#}")))?;
        let mut client = Client::new(lease.server, &self.settings);
        let hangs = self.model.hangs_after_tftp_timeout();
        let own = format!("{}/", &self.serial[8..]);
        for name in self.model.asked_before_prefix() {
            let found = fetch(&mut client, name, watch, hangs)?;
            if found.is_none() && *name == model::SECOND_STAGE {
                return Err(Miss::Dark("the boot ROM found no bootcode.bin".into()));
            }
        }
        // The first file that is there decides whether names begin with the serial number.
        let mut prefix = None;
        for (start, name) in self.model.start_files().iter().map(|name| (format!("{own}{name}"), *name)) {
            let found = match self.model.probes_start_files() {
                true => probe(&mut client, &start, watch, hangs)?,
                false => fetch(&mut client, &start, watch, hangs)?.is_some(),
            };
            if found {
                prefix = Some((own.clone(), name));
                break;
            }
        }
        if prefix.is_none() {
            for name in self.model.asked_without_prefix() {
                let found = fetch(&mut client, name, watch, hangs)?.is_some();
                if found && self.model.start_files().contains(name) {
                    prefix = Some((String::new(), name));
                    break;
                }
            }
        }
        let Some((prefix, start)) = prefix else {
            let why = "the TFTP server has nothing that boots".to_owned();
            return Err(if self.model.is_boot_rom() { Miss::Dark(why) } else { Miss::Nothing(why) });
        };
        let mut remote = Remote { client: &mut client, prefix, watch, hangs };
        for name in self.model.asked_before_kernel(start) {
            remote.file(name)?;
        }
        self.load(&mut remote, From::Network)
    }

    /// Address by DHCP; a boot ROM takes an offer for granted, a bootloader in an EEPROM asks for it.
    fn lease(&self, watch: &Watch) -> Result<Lease, Miss> {
        match dhcp::lease(self, watch) {
            Ok(lease) => {
                (watch.tell)(&format!("dhcp: {} from {}", lease.address, lease.server));
                Ok(lease)
            }
            Err(why) if self.model.is_boot_rom() => {
                Err(Miss::Dark(format!("{why}; the boot ROM sleeps until its power is cut")))
            }
            Err(why) => Err(Miss::Nothing(why)),
        }
    }

    fn take_address(&self, lease: &Lease) -> anyhow::Result<()> {
        self.namespace.ip(&format!("address flush dev {INTERFACE}"))?;
        let Lease { address, prefix_length, .. } = lease;
        self.namespace.ip(&format!("address add {address}/{prefix_length} dev {INTERFACE}"))
    }

    /// What `config.txt` says, from wherever the start files are.
    fn load(&self, source: &mut dyn Source, from: From) -> Result<Loaded, Miss> {
        let text = source.file("config.txt")?.unwrap_or_default();
        let config = Config::parse(&String::from_utf8_lossy(&text), self.model);
        if config.boot_ramdisk && !source.is_ram_disk() {
            let image =
                source.file("boot.img")?.ok_or_else(|| Miss::Nothing("there is no boot.img".into()))?;
            let mut disk =
                RamDisk::open(image).map_err(|error| Miss::Nothing(format!("boot.img: {error:#}")))?;
            return self.load(&mut disk, from);
        }
        source.file(self.model.device_tree(config.upstream_kernel))?;
        source.file("overlays/overlay_map.dtb")?;
        for name in &config.overlays {
            source.file(&format!("overlays/{name}.dtbo"))?;
        }
        let words = source.file("cmdline.txt")?.unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let command_line = command_line(words.lines().next().unwrap_or_default());
        let mut kernel = None;
        for name in &config.kernels {
            kernel = source.file(name)?.map(|bytes| (name.clone(), bytes));
            if kernel.is_some() {
                break;
            }
        }
        let Some((name, kernel)) = kernel else {
            return Err(Miss::Nothing(format!("there is no kernel {}", config.kernels.join(" or "))));
        };
        let initramfs = match config.initramfs_for(&name) {
            Some(name) => source.file(&name)?,
            None => None,
        };
        Ok(Loaded { from, kernel, initramfs, command_line })
    }
}

/// The firmware knows the serial line as `serial0`; a virtual board's kernel knows it as `ttyAMA0`.
fn command_line(words: &str) -> String {
    words.replace("console=serial0", "console=ttyAMA0")
}

//! The machine below a virtual board: QEMU's arm64 board with a card reader, a network interface and a device tree that says
//! which Raspberry Pi it is. Killing it is cutting its power.

use crate::firmware::{Loaded, Model};
use crate::process::{mortal_command, run};
use anyhow::Context as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

const QEMU: &str = "qemu-system-aarch64";
/// One core and memory as a small Pi has it; emulated, so that it runs on every machine.
const HARDWARE: [&str; 8] = ["-M", "virt", "-cpu", "cortex-a72", "-smp", "1", "-m", "1024"];

/// Where in memory a bootloader leaves the settings of its EEPROM, and how much.
const SETTINGS_AT: u32 = 0x7fff_0000;
const SETTINGS_BYTES: usize = 4096;
/// The file with them.
const EEPROM: &str = "eeprom";
/// What is set on a board that is ready for a rack.
const SETTINGS: &str = "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf12\nENABLE_SELF_UPDATE=0\n";

/// A machine that can be started again and again.
pub(crate) struct Machine {
    directory: PathBuf,
    device_tree: PathBuf,
    mac: String,
    tap: String,
    /// The settings of its EEPROM, if it has one.
    settings: Option<PathBuf>,
}

impl Machine {
    /// Makes the device tree of a board in `directory`.
    ///
    /// # Errors
    /// When QEMU or the tools for device trees are missing.
    pub(crate) fn new(
        directory: &Path,
        model: Model,
        serial: &str,
        mac: &str,
        tap: String,
    ) -> anyhow::Result<Machine> {
        fs::create_dir_all(directory)?;
        let device_tree = directory.join("board.dtb");
        let path = device_tree.to_string_lossy();
        let dump = format!("virt,dumpdtb={path}");
        let cpu = &HARDWARE[2..];
        let rest = ["-device", "sdhci-pci", "-nic", "none", "-display", "none"];
        run(QEMU, &[&["-M", &dump], cpu, &rest].concat())?;
        for (property, value) in [("serial-number", serial), ("model", model.name())] {
            run("fdtput", &["-t", "s", &path, "/", property, value])?;
        }
        let settings = (!model.is_boot_rom()).then(|| directory.join(EEPROM));
        if settings.is_some() {
            set_eeprom(directory, SETTINGS)?;
            reserve_settings(&path)?;
        }
        Ok(Machine {
            directory: directory.into(),
            device_tree: device_tree.clone(),
            mac: mac.into(),
            tap,
            settings,
        })
    }

    /// Starts `loaded` with `card` in the reader; the console goes to the end of the file `console`.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub(crate) fn start(&self, loaded: &Loaded, card: &Path, console: &Path) -> anyhow::Result<Child> {
        let kernel = self.directory.join("kernel");
        fs::write(&kernel, &loaded.kernel)?;
        let mut qemu = mortal_command(QEMU);
        qemu.args(HARDWARE).args([
            "-accel",
            "tcg,thread=multi",
            "-display",
            "none",
            "-no-reboot",
            "-monitor",
            "none",
        ]);
        qemu.arg("-kernel").arg(&kernel).arg("-dtb").arg(&self.device_tree);
        qemu.args(["-append", &loaded.command_line]);
        if let Some(initramfs) = &loaded.initramfs {
            let path = self.directory.join("initramfs");
            fs::write(&path, initramfs)?;
            qemu.arg("-initrd").arg(path);
        }
        let Machine { mac, tap, .. } = self;
        qemu.args(["-netdev", &format!("tap,id=net,ifname={tap},script=no,downscript=no")]);
        qemu.args(["-device", &format!("virtio-net-pci,netdev=net,mac={mac},romfile=")]);
        // What the machine has written when it is killed is on the card, as with a card that has no cache of its own.
        qemu.args(["-drive", &format!("id=card,if=none,format=raw,cache=unsafe,file={}", card.display())]);
        qemu.args(["-device", "sdhci-pci", "-device", "sd-card,drive=card", "-device", "virtio-rng-pci"]);
        qemu.args(["-chardev", &format!("file,id=console,append=on,path={}", console.display())]);
        qemu.args(["-serial", "chardev:console"]);
        if let Some(settings) = &self.settings {
            let loader = format!("loader,file={},addr={SETTINGS_AT:#x},force-raw=on", settings.display());
            qemu.args(["-device", &loader]);
        }
        let log = File::create(self.directory.join("qemu.log"))?;
        qemu.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        qemu.spawn().context("setpriv cannot be started; Debian's package util-linux has it")
    }

    /// What QEMU itself said in its last run.
    pub(crate) fn complaint(&self) -> String {
        fs::read_to_string(self.directory.join("qemu.log")).unwrap_or_default()
    }
}

/// Sets the EEPROM of the board in `directory`; its bootloader leaves that in memory from the next boot on.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn set_eeprom(directory: &Path, settings: &str) -> anyhow::Result<()> {
    let mut memory = settings.as_bytes().to_vec();
    memory.resize(SETTINGS_BYTES, 0);
    Ok(fs::write(directory.join(EEPROM), memory)?)
}

/// Says in a device tree where the settings of the bootloader are, as the tree of a Pi 4 does.
fn reserve_settings(device_tree: &str) -> anyhow::Result<()> {
    let (place, node) = ("/reserved-memory", "/reserved-memory/nvram@0");
    let (at, bytes) = (format!("{SETTINGS_AT:#x}"), format!("{SETTINGS_BYTES:#x}"));
    run("fdtput", &["-c", device_tree, place, node, "/aliases"])?;
    for (kind, node, values) in [
        ("x", place, &["#address-cells", "2"][..]),
        ("x", place, &["#size-cells", "2"]),
        ("x", place, &["ranges"]),
        ("s", node, &["compatible", "raspberrypi,bootloader-config", "nvmem-rmem"]),
        ("x", node, &["reg", "0", &at, "0", &bytes]),
        ("x", node, &["no-map"]),
        ("s", "/aliases", &["blconfig", node]),
    ] {
        run("fdtput", &[&["-t", kind, device_tree, node], values].concat())?;
    }
    Ok(())
}

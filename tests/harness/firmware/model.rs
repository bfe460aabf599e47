//! What tells one model's firmware from another's: what it asks for, in which order, and when it gives up.
//!
//! Sources: the boot flow pages of the Raspberry Pi documentation (bootflow-legacy, boot-net, bootflow-eeprom,
//! eeprom-bootloader), firmware issue 1012 (a Pi 3's requests), rpi-eeprom issues 74 and 87 (a Pi 4's). No trace of a Pi 5
//! was found: its order rests on the documentation alone.

/// Which board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// 3B: a boot ROM that boots from the network once its OTP bit is set.
    Pi3,
    /// 3B+.
    Pi3Plus,
    /// 4B, 400, CM4: a bootloader in an EEPROM.
    Pi4,
    /// 5, CM5.
    Pi5,
}

/// What the boot ROM of a Pi 3 asks for first, and needs.
pub const SECOND_STAGE: &str = "bootcode.bin";

/// The port that boot ROM and second stage of a Pi 3 ask from (firmware issue 1700).
const ROM_PORT: u16 = 49153;

/// A way to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The boot partition of the card.
    Card,
    /// DHCP and TFTP.
    Network,
    /// Nothing more is tried.
    Stop,
    /// From the beginning.
    Restart,
}

/// What stands in a board's EEPROM, and the times of its firmware, in milliseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `BOOT_ORDER` of a Pi 4 or 5, read from its lowest digit: 1 card, 2 network, e stop, f restart.
    pub boot_order: u32,
    /// How long DHCP is tried: `DHCP_TIMEOUT`, or five tries of a boot ROM.
    pub dhcp_ms: u64,
    /// From one DHCP request to the next: `DHCP_REQ_TIMEOUT`.
    pub dhcp_again_ms: u64,
    /// How long one file may take: `TFTP_FILE_TIMEOUT`.
    pub tftp_file_ms: u64,
    /// `BOOT_WATCHDOG_TIMEOUT`; none: a board that hangs stays so.
    pub watchdog_ms: Option<u64>,
    /// From a boot order that found nothing to its next pass.
    pub restart_pause_ms: u64,
    /// The block size that is asked for.
    pub block_bytes: u16,
    /// The port that files are asked for from, one for every stage; 0: another one each time.
    pub tftp_port: u16,
}

impl Settings {
    /// What a board of this model does when it is set up for a rack.
    pub fn of(model: Model) -> Settings {
        let rom = model.is_boot_rom();
        Settings {
            boot_order: 0xf12,
            dhcp_ms: if rom { 25_000 } else { 45_000 },
            dhcp_again_ms: if rom { 5000 } else { 4000 },
            tftp_file_ms: 30_000,
            watchdog_ms: None,
            restart_pause_ms: 1000,
            block_bytes: if rom { 512 } else { 1468 },
            tftp_port: if rom { ROM_PORT } else { 0 },
        }
    }

    /// The ways of one pass, in their order.
    pub(super) fn order(&self, model: Model) -> Vec<Way> {
        if model.is_boot_rom() {
            return vec![Way::Card, Way::Network];
        }
        let digits = (0..8).map(|at| (self.boot_order >> (4 * at)) & 0xf).take_while(|digit| *digit != 0);
        let ways = digits.filter_map(|digit| match digit {
            1 => Some(Way::Card),
            2 => Some(Way::Network),
            0xe => Some(Way::Stop),
            0xf => Some(Way::Restart),
            // USB, NVMe and the like: nothing is there.
            _ => None,
        });
        ways.collect()
    }

    /// Whether it begins anew when a pass found nothing.
    pub(super) fn restarts(&self, model: Model) -> bool {
        !model.is_boot_rom() && (self.watchdog_ms.is_some() || self.order(model).contains(&Way::Restart))
    }
}

impl Model {
    /// What its device tree calls it.
    pub fn name(self) -> &'static str {
        match self {
            Model::Pi3 => "Raspberry Pi 3 Model B Rev 1.2",
            Model::Pi3Plus => "Raspberry Pi 3 Model B Plus Rev 1.3",
            Model::Pi4 => "Raspberry Pi 4 Model B Rev 1.4",
            Model::Pi5 => "Raspberry Pi 5 Model B Rev 1.0",
        }
    }

    /// How its hardware addresses begin.
    pub fn vendor(self) -> &'static str {
        match self {
            Model::Pi3 | Model::Pi3Plus => "b8:27:eb",
            Model::Pi4 => "dc:a6:32",
            Model::Pi5 => "2c:cf:67",
        }
    }

    /// Whether it has no bootloader in an EEPROM, and so no settings.
    pub fn is_boot_rom(self) -> bool {
        matches!(self, Model::Pi3 | Model::Pi3Plus)
    }

    /// rpi-eeprom issue 687: black for ever after a TFTP timeout.
    pub(super) fn hangs_after_tftp_timeout(self) -> bool {
        matches!(self, Model::Pi3 | Model::Pi3Plus | Model::Pi5)
    }

    /// How DHCP's option 97 begins: the old form of a boot ROM has zeros.
    pub(super) fn four_cc(self) -> [u8; 4] {
        match self {
            Model::Pi3 | Model::Pi3Plus => [0; 4],
            Model::Pi4 => *b"RPi4",
            Model::Pi5 => *b"RPi5",
        }
    }

    /// What must be on a card for it to be booted.
    pub(super) fn needs_on_card(self) -> &'static [&'static str] {
        match self {
            Model::Pi3 | Model::Pi3Plus => &[SECOND_STAGE, "start.elf"],
            Model::Pi4 => &["start4.elf"],
            Model::Pi5 => &["config.txt"],
        }
    }

    pub(super) fn asked_before_prefix(self) -> &'static [&'static str] {
        match self {
            Model::Pi3 | Model::Pi3Plus => &[SECOND_STAGE, "bootsig.bin"],
            Model::Pi4 | Model::Pi5 => &[],
        }
    }

    /// What shows that a directory is bootable.
    pub(super) fn start_files(self) -> &'static [&'static str] {
        match self {
            Model::Pi3 | Model::Pi3Plus => &["start.elf"],
            Model::Pi4 => &["start4.elf", "start.elf"],
            Model::Pi5 => &["config.txt"],
        }
    }

    /// Whether a start file is only looked for before it is fetched.
    pub(super) fn probes_start_files(self) -> bool {
        match self {
            Model::Pi3 | Model::Pi3Plus | Model::Pi4 => true,
            Model::Pi5 => false,
        }
    }

    /// What is asked for without the prefix when nothing is below it.
    pub(super) fn asked_without_prefix(self) -> &'static [&'static str] {
        match self {
            Model::Pi3 | Model::Pi3Plus => &["start.elf"],
            Model::Pi4 => &["config.txt", "recover4.elf", "recovery.elf", "start4.elf", "start.elf"],
            Model::Pi5 => &["config.txt"],
        }
    }

    /// What is fetched between the first start file and the configuration of the kernel.
    pub(super) fn asked_before_kernel(self, start: &'static str) -> Vec<&'static str> {
        match self {
            Model::Pi3 | Model::Pi3Plus => {
                vec![
                    "autoboot.txt",
                    "config.txt",
                    "recovery.elf",
                    start,
                    "fixup.dat",
                    "config.txt",
                    "config.txt",
                    "dt-blob.bin",
                    "bootcfg.txt",
                ]
            }
            Model::Pi4 => {
                vec![
                    "config.txt",
                    "pieeprom.sig",
                    "vl805.sig",
                    "recover4.elf",
                    "config.txt",
                    start,
                    "fixup4.dat",
                ]
            }
            Model::Pi5 => vec!["pieeprom.sig", "config.txt"],
        }
    }

    pub(super) fn device_tree(self, upstream: bool) -> &'static str {
        match (self, upstream) {
            (Model::Pi3, true) => "bcm2837-rpi-3-b.dtb",
            (Model::Pi3, false) => "bcm2710-rpi-3-b.dtb",
            (Model::Pi3Plus, true) => "bcm2837-rpi-3-b-plus.dtb",
            (Model::Pi3Plus, false) => "bcm2710-rpi-3-b-plus.dtb",
            (Model::Pi4, _) => "bcm2711-rpi-4-b.dtb",
            (Model::Pi5, _) => "bcm2712-rpi-5-b.dtb",
        }
    }

    /// The section of `config.txt` that is for it.
    pub(super) fn section(self) -> &'static [&'static str] {
        match self {
            Model::Pi3 => &["all", "pi3"],
            Model::Pi3Plus => &["all", "pi3", "pi3+"],
            Model::Pi4 => &["all", "pi4"],
            Model::Pi5 => &["all", "pi5"],
        }
    }

    /// The kernels that are looked for when none is named, for 64 bits.
    pub(super) fn kernels(self) -> &'static [&'static str] {
        match self {
            Model::Pi5 => &["kernel_2712.img", "kernel8.img"],
            _ => &["kernel8.img"],
        }
    }
}

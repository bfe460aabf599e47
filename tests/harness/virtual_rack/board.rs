//! A virtual board: as long as there is power its firmware boots, then its machine runs, and when that ends by itself the
//! firmware boots again. Each board is a thread, which ends with the rack.

use super::machine::Machine;
use crate::firmware::{Firmware, Loaded, Model, Settings, Watch};
use crate::rack_network::{RackNetwork, tap};
use crate::wait::{pause, seconds};
use anyhow::Context as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Which board it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// From 1; also the number of its port.
    pub number: usize,
    /// The node's name.
    pub name: String,
    /// Which board it is.
    pub model: Model,
    /// Its serial number, 16 hex digits.
    pub serial: String,
    /// Its hardware address.
    pub mac: String,
}

impl Identity {
    /// The board of this number and model.
    pub fn new(number: usize, model: Model) -> Identity {
        // The upper half of a Pi 3's serial number is zero.
        let upper = if matches!(model, Model::Pi3 | Model::Pi3Plus) { "00000000" } else { "10000000" };
        Identity {
            number,
            name: format!("pi-{number}"),
            model,
            serial: format!("{upper}00c0de{number:02x}"),
            mac: format!("{}:00:00:{number:02x}", model.vendor()),
        }
    }
}

/// What happened to a board, and when, in seconds of the harness's clock.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// Power came.
    On,
    /// Its firmware handed a kernel over.
    Kernel(crate::firmware::From),
    /// Its firmware gave up.
    Dark(String),
    /// Its system restarted.
    Restarted,
    /// Power went.
    Off,
}

/// What the thread of a board and its rack share.
struct Shared {
    on: AtomicBool,
    /// Counts switchings, so that a short one is not missed.
    switched: AtomicU64,
    ended: AtomicBool,
    /// How its firmware is set up.
    settings: Mutex<Settings>,
    happened: Mutex<Vec<(f64, Happened)>>,
}

/// A running board.
pub struct Board {
    /// Which board it is.
    pub identity: Identity,
    /// Its card, a file.
    pub card: PathBuf,
    /// What it says on its serial line, and its firmware on its screen.
    pub console: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// A board without power and with a blank card of `card_bytes`, a power of two.
    ///
    /// # Errors
    /// When QEMU or its tools are missing.
    pub(super) fn new(
        directory: &Path,
        identity: Identity,
        card_bytes: u64,
        network: &Arc<RackNetwork>,
    ) -> anyhow::Result<Board> {
        let Identity { number, model, serial, mac, .. } = &identity;
        let machine = Machine::new(directory, *model, serial, mac, tap(*number))?;
        let (card, console) = (directory.join("card.img"), directory.join("console.log"));
        File::create(&card)?.set_len(card_bytes)?;
        File::create(&console)?;
        let shared = Arc::new(Shared {
            on: AtomicBool::new(false),
            switched: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            settings: Mutex::new(Settings::of(*model)),
            happened: Mutex::new(Vec::new()),
        });
        let life = Life {
            identity: identity.clone(),
            machine,
            card: card.clone(),
            console: console.clone(),
            network: network.clone(),
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new().name(identity.name.clone()).spawn(move || life.live())?;
        Ok(Board { identity, card, console, shared, thread: Some(thread) })
    }

    /// Gives it power, or takes it away.
    pub(super) fn power(&self, on: bool) {
        self.shared.on.store(on, Ordering::SeqCst);
        self.shared.switched.fetch_add(1, Ordering::SeqCst);
    }

    /// Sets its firmware up anew, from the next boot on.
    pub fn set_up(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.shared.settings));
    }

    /// Writes its EEPROM, as root on it can: what its bootloader leaves in memory for the next system. What its firmware does is
    /// [`Board::set_up`]'s.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_eeprom(&self, settings: &str) -> anyhow::Result<()> {
        let directory = self.card.parent().expect("a card is in its board's directory");
        super::machine::set_eeprom(directory, settings)
    }

    /// All that happened to it.
    pub fn happened(&self) -> Vec<(f64, Happened)> {
        lock(&self.shared.happened).clone()
    }

    /// What it said.
    pub fn said(&self) -> String {
        let bytes = std::fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.power(false);
        if let Some(thread) = self.thread.take() {
            // A board that panicked has told so.
            let _ = thread.join();
        }
    }
}

/// The life of a board, in its thread.
struct Life {
    identity: Identity,
    machine: Machine,
    card: PathBuf,
    console: PathBuf,
    network: Arc<RackNetwork>,
    shared: Arc<Shared>,
}

impl Life {
    fn live(&self) {
        // Programs that are started there live in the rack's network, and no longer than this thread.
        self.network.head.within(|| {
            while !self.shared.ended.load(Ordering::SeqCst) {
                let switched = self.shared.switched.load(Ordering::SeqCst);
                if self.shared.on.load(Ordering::SeqCst) {
                    self.happens(Happened::On);
                    while self.is_powered(switched) {
                        if let Err(error) = self.boot(switched) {
                            self.tell(&format!("the virtual board failed: {error:#}"));
                            self.wait_for_cut(switched);
                        }
                    }
                    self.happens(Happened::Off);
                }
                pause();
            }
        });
    }

    fn is_powered(&self, switched: u64) -> bool {
        self.shared.switched.load(Ordering::SeqCst) == switched
    }

    fn wait_for_cut(&self, switched: u64) {
        while self.is_powered(switched) {
            pause();
        }
    }

    /// One boot: from the firmware to the end of the system or of the power.
    fn boot(&self, switched: u64) -> anyhow::Result<()> {
        let Identity { number, model, serial, mac, .. } = &self.identity;
        self.network.firmware_speaks(*number)?;
        let firmware = Firmware {
            model: *model,
            mac: mac.clone(),
            serial: serial.clone(),
            settings: lock(&self.shared.settings).clone(),
            namespace: &self.network.boards[number - 1],
            card: self.card.clone(),
        };
        let watch = Watch { powered: &|| self.is_powered(switched), tell: &|line| self.tell(line) };
        let booted = firmware.boot(&watch);
        self.network.firmware_is_silent(*number)?;
        match booted {
            Ok(loaded) => self.run(&loaded, switched),
            Err(hang) => {
                if self.is_powered(switched) {
                    self.tell(&format!("dark: {hang}"));
                    self.happens(Happened::Dark(hang.0));
                }
                self.wait_for_cut(switched);
                Ok(())
            }
        }
    }

    fn run(&self, loaded: &Loaded, switched: u64) -> anyhow::Result<()> {
        self.happens(Happened::Kernel(loaded.from));
        let began = seconds();
        let mut machine = self.machine.start(loaded, &self.card, &self.console)?;
        while self.is_powered(switched) {
            if let Some(status) = machine.try_wait()? {
                if !status.success() {
                    anyhow::bail!("QEMU ended with {status}: {}", self.machine.complaint());
                }
                // A machine that ends again and again at once is a mistake of the rack, not a restart.
                anyhow::ensure!(seconds() > began + 0.5, "QEMU ended at once: {}", self.machine.complaint());
                self.happens(Happened::Restarted);
                return Ok(());
            }
            pause();
        }
        cut(&mut machine)
    }

    fn happens(&self, what: Happened) {
        lock(&self.shared.happened).push((seconds(), what));
    }

    fn tell(&self, line: &str) {
        let console = OpenOptions::new().append(true).open(&self.console);
        // A console that cannot be written to is seen by whoever reads it.
        let _ = console.and_then(|mut console| writeln!(console, "firmware: {line}\r"));
    }
}

fn cut(machine: &mut Child) -> anyhow::Result<()> {
    // One that ended in this moment is off all the same.
    let _ = machine.kill();
    machine.wait().context("a machine that was killed cannot be waited for")?;
    Ok(())
}

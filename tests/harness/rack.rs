//! A rack of bench nodes: boards with cards on the ports of a switch that is asked over a socket. The
//! process that has the rack is the mains: when it ends, however it ends, every board is dark.

mod asking;

pub use asking::ask;

use crate::board::{Board, BootSource};
use crate::cards::Card;
use crate::namespace::Namespace;
use crate::process::{mortal_command, program};
use crate::process_tree::{freeze, process_one, signal};
use crate::rack_network::{RackNetwork, address, go_dark};
use crate::switch::SimulatedSwitch;
use anyhow::{Context as _, bail};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;

/// A node of the rack.
#[derive(Clone, Debug)]
pub struct BenchNode {
    /// Its name.
    pub name: String,
    /// Its serial number.
    pub serial: String,
    /// Its network address.
    pub mac: String,
    /// The port that powers it.
    pub port: String,
}

/// The memory that an agent may have, in KiB: checked when a rack is taken down.
const AGENT_KIB_MAX: u32 = 64 * 1024;

/// The model that all boards of a rack have.
pub const MODEL: &str = "Raspberry Pi 4 Model B Rev 1.4";

/// The hardware addresses of so many boards.
pub fn macs(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("dc:a6:32:00:00:{number:02x}")).collect()
}

/// A running rack.
pub struct Rack {
    /// Its nodes.
    pub nodes: Vec<BenchNode>,
    directory: PathBuf,
    slots: Arc<Vec<Mutex<Slot>>>,
    orders: mpsc::Sender<Order>,
    mains: Option<JoinHandle<()>>,
}

/// A place in the rack.
struct Slot {
    board: Board,
    /// Its place on the rack's network.
    cable: Namespace,
    card: Card,
    port: String,
    on: bool,
    running: Option<Child>,
}

/// What a power cut leaves of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// Everything that was written, whether it was flushed or not.
    Nothing,
    /// Only what had reached the card in that moment.
    Unwritten,
}

/// To the thread that is every board's parent: they die with it.
enum Order {
    Ask(UnixStream),
    Power(String, bool),
    Crash(usize, Loss, mpsc::Sender<()>),
    End,
}

impl Rack {
    /// A rack with a board at each place of `network`, which was made for [`macs`], with blank cards of `card_bytes` each, all
    /// off. Whom they ask what to boot is told later.
    ///
    /// # Errors
    /// When this is not root, or no loop device is free.
    pub fn new(directory: &Path, network: &RackNetwork, card_bytes: u64) -> anyhow::Result<Rack> {
        crate::process::need_root()?;
        fs::create_dir_all(directory)?;
        let mut nodes = Vec::new();
        let mut slots = Vec::new();
        for ((cable, mac), number) in network.boards.iter().zip(macs(network.boards.len())).zip(1u8..) {
            let node = BenchNode {
                name: format!("pi-{number}"),
                serial: format!("10000000{number:08x}"),
                mac,
                port: number.to_string(),
            };
            let place = directory.join(&node.name);
            fs::create_dir_all(&place)?;
            let card = Card::blank(&place.join("card.img"), card_bytes)?;
            let board = Board {
                serial: node.serial.clone(),
                mac: node.mac.clone(),
                model: MODEL.into(),
                card: card.device().into(),
                address: address(number),
                asks: BootSource::Nobody,
                agent: program("piseduce-agent"),
                directory: place,
            };
            let (port, cable) = (node.port.clone(), cable.clone());
            slots.push(Mutex::new(Slot { board, cable, card, port, on: false, running: None }));
            nodes.push(node);
        }
        let slots = Arc::new(slots);
        let (orders, mains) = start(&directory.join("switch.sock"), slots.clone())?;
        Ok(Rack { nodes, directory: directory.into(), slots, orders, mains: Some(mains) })
    }

    /// Whom boards ask what to boot, from the next power-on.
    pub fn connect(&self, source: &BootSource) {
        self.slots.iter().for_each(|slot| lock(slot).board.asks = source.clone());
    }

    /// Plugs another agent into the boot root of one board from its next boot on.
    pub fn set_agent(&self, index: usize, agent: &Path) {
        lock(&self.slots[index]).board.agent = agent.into();
    }

    /// Puts another board with the same card into a place.
    pub fn exchange(&self, index: usize, serial: &str, mac: &str) {
        let board = &mut lock(&self.slots[index]).board;
        (board.serial, board.mac) = (serial.into(), mac.into());
    }

    /// Makes a board one of another model from its next boot on.
    pub fn set_model(&self, index: usize, model: &str) {
        lock(&self.slots[index]).board.model = model.into();
    }

    /// The inventory of this rack behind a program that switches its ports, as `piseduce node import` takes it.
    pub fn inventory(&self) -> String {
        let program = program("piseduce-bench-node");
        let socket = self.directory.join("switch.sock");
        let argv = [&*program.to_string_lossy(), "power", &*socket.to_string_lossy(), "{action}", "{port}"];
        self.inventory_behind(&format!(
            "[[switch]]\nname = \"bench\"\ndriver.command.argv = {argv:?}\noff_time_ms = 100\n"
        ))
    }

    /// The inventory of this rack behind the switch `bench` of this entry.
    pub fn inventory_behind(&self, switch: &str) -> String {
        let mut text = switch.to_owned();
        for node in &self.nodes {
            text += &format!(
                "\n[[node]]\nname = \"{}\"\nserial = \"{}\"\nmac = \"{}\"\nmodel = \"{MODEL}\"\nswitch = \"bench\"\nport = \"{}\"\n",
                node.name, node.serial, node.mac, node.port
            );
        }
        text
    }

    /// A PoE switch that speaks SNMP, with the boards on its ports; it has some ports more.
    ///
    /// # Errors
    /// When its agent cannot be started.
    pub fn poe_switch(&self) -> anyhow::Result<SimulatedSwitch> {
        self.wired_switch(|port| port)
    }

    /// The same, but each port powers the board that belongs to another one.
    ///
    /// # Errors
    /// As [`Rack::poe_switch`].
    pub fn wired_switch(
        &self,
        wiring: impl Fn(u32) -> u32 + Send + Sync + 'static,
    ) -> anyhow::Result<SimulatedSwitch> {
        let orders = self.orders.clone();
        let wire = move |port: u32, on: bool| {
            // Mains that are gone have left every board dark.
            let _ = orders.send(Order::Power(wiring(port).to_string(), on));
        };
        let ports = u32::try_from(self.nodes.len()).context("a rack of a sensible size")? + 4;
        let switch = SimulatedSwitch::start(ports, Box::new(wire))?;
        for node in &self.nodes {
            switch.plug(node.port.parse().context("ports are numbers here")?, &node.mac);
        }
        Ok(switch)
    }

    /// Shows the card of a node to `look`; the node should be off.
    pub fn with_card<T>(&self, index: usize, look: impl FnOnce(&Card) -> T) -> T {
        look(&lock(&self.slots[index]).card)
    }

    /// Where a board keeps its logs.
    pub fn place(&self, index: usize) -> PathBuf {
        lock(&self.slots[index]).board.directory.clone()
    }

    /// Kills a board; its port stays switched on, and nobody is told. This machine's kernel writes to the
    /// card what the board's had in memory.
    ///
    /// # Panics
    /// When the rack's mains are gone.
    pub fn crash(&self, index: usize) {
        self.end(index, Loss::Nothing);
    }

    /// The same, but what had not reached the card in that moment is lost, as in a power cut.
    ///
    /// # Panics
    /// When the rack's mains are gone, or the card cannot be put back.
    pub fn cut_power(&self, index: usize) {
        self.end(index, Loss::Unwritten);
    }

    fn end(&self, index: usize, loss: Loss) {
        let (done, wait) = mpsc::channel();
        self.orders.send(Order::Crash(index, loss, done)).expect("the mains run as long as the rack");
        wait.recv().expect("the mains run as long as the rack");
    }

    /// The most memory that any agent of the rack had when it ended a piece of work, in KiB.
    pub fn agents_peak_kib(&self) -> Option<u32> {
        let logs = self.slots.iter().map(|slot| lock(slot).board.directory.join("kernel.log"));
        let logs = logs.filter_map(|log| fs::read_to_string(log).ok());
        let peaks = |log: String| {
            let words = log.split_ascii_whitespace().filter_map(|word| word.strip_prefix("peak_kib="));
            words.filter_map(|word| word.parse::<u32>().ok()).max()
        };
        logs.filter_map(peaks).max()
    }

    /// Looks whether a board has power: the number of its process, which is another one after each power-on.
    pub fn power_of(&self, index: usize) -> impl Fn() -> Option<u32> + Send + Sync + 'static {
        let slots = self.slots.clone();
        move || lock(&slots[index]).running.as_ref().map(Child::id)
    }

    /// Whether the port of a node is on.
    pub fn is_on(&self, index: usize) -> bool {
        lock(&self.slots[index]).on
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        // Mains that are gone already have left every board dark.
        let _ = self.orders.send(Order::End);
        if let Some(mains) = self.mains.take() {
            let _ = mains.join();
        }
        let peak = self.agents_peak_kib();
        let is_small = peak.is_none_or(|peak| peak <= AGENT_KIB_MAX);
        assert!(is_small || std::thread::panicking(), "an agent had {peak:?} KiB of memory");
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Starts the thread that is the mains, and the one that hears the switch's socket for it.
fn start(
    socket: &Path,
    slots: Arc<Vec<Mutex<Slot>>>,
) -> anyhow::Result<(mpsc::Sender<Order>, JoinHandle<()>)> {
    // The socket of a rack that was killed is in the way of this one.
    let _ = fs::remove_file(socket);
    let listener =
        UnixListener::bind(socket).with_context(|| format!("no socket at {}", socket.display()))?;
    let (orders, inbox) = mpsc::channel();
    let sender = orders.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if sender.send(Order::Ask(stream)).is_err() {
                return;
            }
        }
    });
    let mains = std::thread::spawn(move || {
        for order in inbox {
            match order {
                // Boards start here, in this thread; their ends are waited for elsewhere.
                Order::Ask(stream) => serve(&slots, stream),
                Order::Power(port, on) => {
                    let action = if on { "on" } else { "off" };
                    if let Err(error) = switch(&slots, action, &port) {
                        // Nobody is there to be told: the switch has done its part.
                        panic!("board at port {port}: {error:#}");
                    }
                }
                Order::Crash(index, loss, done) => {
                    let mut slot = lock(&slots[index]);
                    match loss {
                        Loss::Nothing => cut(&mut slot),
                        Loss::Unwritten => cut_and_lose(&mut slot),
                    }
                    // Who asked may have given up waiting.
                    let _ = done.send(());
                }
                Order::End => break,
            }
        }
        slots.iter().for_each(|slot| cut(&mut lock(slot)));
    });
    Ok((orders, mains))
}

/// One request at the switch: a line `action port`, answered with a line.
fn serve(slots: &[Mutex<Slot>], mut stream: UnixStream) {
    let mut line = String::new();
    let read = BufReader::new(&stream).read_line(&mut line);
    let answer = match (read, line.trim().split_once(' ')) {
        (Ok(_), Some((action, port))) => {
            switch(slots, action, port).unwrap_or_else(|error| format!("refused: {error:#}"))
        }
        _ => "refused: no request".into(),
    };
    // Who asked may be gone; the port is switched all the same.
    let _ = writeln!(stream, "{answer}");
}

fn switch(slots: &[Mutex<Slot>], action: &str, port: &str) -> anyhow::Result<String> {
    let slot = slots.iter().find(|slot| lock(slot).port == port);
    let mut slot = lock(slot.with_context(|| format!("there is no port {port}"))?);
    match action {
        "on" if !slot.on => {
            slot.running = Some(power_on(&slot)?);
            slot.on = true;
            Ok("done".into())
        }
        "off" => {
            cut(&mut slot);
            slot.on = false;
            Ok("done".into())
        }
        "on" => Ok("done".into()),
        "status" if slot.on => Ok("on delivering".into()),
        "status" => Ok("off idle".into()),
        other => bail!("`{other}` is none of on, off, status"),
    }
}

fn power_on(slot: &Slot) -> anyhow::Result<Child> {
    let Slot { board, cable, .. } = slot;
    let log = fs::OpenOptions::new().create(true).append(true).open(board.directory.join("firmware.log"))?;
    let namespaces = crate::board::in_namespaces(&program("piseduce-bench-node"));
    let mut firmware = mortal_command(namespaces.get_program());
    firmware.args(namespaces.get_args());
    firmware.arg("firmware").args(board.arguments());
    firmware.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // It ends with this thread, so this thread must start it.
    cable.during(|| firmware.spawn()).context("setpriv cannot be started; Debian's package util-linux has it")
}

/// A power cut: everything in the board's namespaces is gone at once, then the card must be idle.
fn cut(slot: &mut Slot) {
    let Some(mut board) = slot.running.take() else { return };
    // Killing process 1 of the namespace kills all in it before it is reaped, and `unshare` ends with it.
    // Killing `unshare` first would leave the rest to die a moment later.
    match process_one(board.id()) {
        Some(one) => signal(one, Signal::KILL),
        None => drop(board.kill()),
    }
    board.wait().expect("the board's process is ours to wait for");
    slot.card.wait_until_idle();
    go_dark(&slot.cable).expect("the cable lasts as long as the rack");
}

/// A power cut as a card sees it: what it has in the moment when everything stands still is what it has when
/// power comes back, whatever this machine's kernel writes to it after its writers are dead.
fn cut_and_lose(slot: &mut Slot) {
    let Some(board) = &slot.running else { return };
    // Not `unshare` itself: it must see the end of what it started.
    process_one(board.id()).into_iter().for_each(freeze);
    let remembered = slot.card.remember().expect("a card's content can be copied");
    cut(slot);
    slot.card.put_back(&remembered).expect("a card's content can be put back");
}

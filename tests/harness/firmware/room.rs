//! A room of boards that boot over their network: each bench board asks here what to boot, and is answered when its virtual
//! firmware has found something. So a rack of real agents begins each boot with real DHCP and TFTP.

use super::{Firmware, From, Hang, INTERFACE, Loaded, Model, Settings, Watch};
use crate::board::{Boot, BootSource};
use crate::rack::Rack;
use crate::rack_network::{RackNetwork, address};
use crate::wait::{pause, seconds};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A board asks again after 5 s: who is not answered by then is answered the next time.
const ANSWER_WITHIN_S: f64 = 4.0;

/// A room. It ends with the process.
pub struct Room {
    /// Where boards ask, for [`Rack::connect`].
    pub socket: BootSource,
    boards: Arc<Vec<Board>>,
    _directory: tempfile::TempDir,
}

/// One board.
struct Board {
    serial: String,
    power: Box<dyn Fn() -> Option<u32> + Send + Sync>,
    boot: Mutex<Option<Attempt>>,
    /// Held while firmware uses the cable: one that lost its power lets go of it before the next begins.
    cable: Mutex<()>,
    said: Mutex<Vec<String>>,
}

/// A boot of a board's firmware.
struct Attempt {
    /// The board's process: another one is another power-on.
    process: u32,
    end: Option<Result<Loaded, Hang>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    /// Gives every board of `rack` firmware of `model` on `network`, which has as many.
    ///
    /// # Errors
    /// When there is no place for its socket.
    pub fn start(
        network: &Arc<RackNetwork>,
        rack: &Rack,
        model: Model,
        settings: &Settings,
    ) -> anyhow::Result<Room> {
        let directory = tempfile::tempdir()?;
        let socket = directory.path().join("room");
        let listener = UnixListener::bind(&socket)?;
        let board = |(index, node): (usize, &crate::rack::BenchNode)| Board {
            serial: node.serial.clone(),
            power: Box::new(rack.power_of(index)),
            boot: Mutex::default(),
            cable: Mutex::default(),
            said: Mutex::default(),
        };
        let boards: Arc<Vec<Board>> = Arc::new(rack.nodes.iter().enumerate().map(board).collect());
        let numbers: HashMap<String, usize> =
            rack.nodes.iter().map(|node| node.serial.clone()).zip(1..).collect();
        let (macs, cards): (Vec<_>, Vec<_>) = (0..rack.nodes.len())
            .map(|index| (rack.nodes[index].mac.clone(), rack.with_card(index, |card| card.device().into())))
            .unzip();
        let shared = Arc::new((boards.clone(), network.clone(), settings.clone(), macs, cards));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (numbers, shared) = (numbers.clone(), shared.clone());
                std::thread::spawn(move || {
                    let Some(number) = asked_by(&stream).and_then(|serial| numbers.get(&serial).copied())
                    else {
                        return;
                    };
                    let (boards, network, settings, macs, cards) = &*shared;
                    let board = &boards[number - 1];
                    let firmware = || Firmware {
                        model,
                        mac: macs[number - 1].clone(),
                        serial: board.serial.clone(),
                        settings: settings.clone(),
                        namespace: &network.boards[number - 1],
                        card: std::path::PathBuf::clone(&cards[number - 1]),
                    };
                    board.serve(stream, network, number, firmware);
                });
            }
        });
        Ok(Room { socket: BootSource::Room(socket), boards, _directory: directory })
    }

    /// What the firmware of a board told since the story began, newest last.
    pub fn said(&self, index: usize) -> Vec<String> {
        lock(&self.boards[index].said).clone()
    }
}

/// The serial number that is the question.
fn asked_by(stream: &UnixStream) -> Option<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line.trim().to_owned())
}

impl Board {
    /// Begins to boot if this is a new question, and answers when there is something to boot.
    fn serve<'a>(
        &self,
        mut stream: UnixStream,
        network: &RackNetwork,
        number: usize,
        firmware: impl Fn() -> Firmware<'a>,
    ) {
        let asked_at = seconds();
        let Some(process) = (self.power)() else { return };
        let begins = {
            let mut boot = lock(&self.boot);
            let goes_on = boot.as_ref().is_some_and(|boot| boot.process == process);
            if !goes_on {
                *boot = Some(Attempt { process, end: None });
            }
            !goes_on
        };
        if begins {
            let end = self.boot(process, network, number, &firmware());
            let mut boot = lock(&self.boot);
            if let Some(boot) = boot.as_mut().filter(|boot| boot.process == process) {
                boot.end = Some(end);
            }
        }
        while seconds() < asked_at + ANSWER_WITHIN_S {
            let mut boot = lock(&self.boot);
            // One that is dark until its power is cut is not answered, and asks here as long as it has power.
            if let Some(Ok(loaded)) = boot.as_ref().and_then(|boot| boot.end.as_ref()) {
                let sent = writeln!(stream, "{}", answer(loaded));
                // Who got its answer asks anew when it boots again.
                if sent.is_ok() {
                    *boot = None;
                }
                return;
            }
            drop(boot);
            pause();
        }
    }

    fn boot(
        &self,
        process: u32,
        network: &RackNetwork,
        number: usize,
        firmware: &Firmware<'_>,
    ) -> Result<Loaded, Hang> {
        let _cable = lock(&self.cable);
        let powered = || (self.power)() == Some(process);
        let tell = |line: &str| lock(&self.said).push(line.to_owned());
        let speaks = network.firmware_speaks(number).map_err(|error| Hang(error.to_string()));
        let end = speaks.and_then(|()| firmware.boot(&Watch { powered: &powered, tell: &tell }));
        match &end {
            // Its system has the address that its firmware got, or asks for the same.
            Ok(loaded) if loaded.from == From::Network => {}
            Ok(_) => {
                let number = u8::try_from(number).expect("a rack has fewer boards");
                let lines = ["address flush", "address add"].map(|what| format!("{what} dev {INTERFACE}"));
                let [flush, add] = lines;
                let add = format!("{add} {}/24", address(number));
                // A cable that is not plugged in is of no use with an address, either.
                let _ = network.boards[usize::from(number) - 1].ip_all(&[flush, add]);
            }
            Err(hang) => {
                tell(&hang.0);
                // The next boot brings its end of the cable up again.
                let _ = network.firmware_is_silent(number);
            }
        }
        end
    }
}

/// What was loaded, as a board takes it.
fn answer(loaded: &Loaded) -> String {
    let boot = match loaded.from {
        From::Card => Boot::Card,
        From::Network => Boot::with(&loaded.command_line),
    };
    serde_json::to_string(&boot).expect("words are JSON")
}

//! A room of boards that boot over their network: each bench board asks here what to boot, and is answered when its virtual
//! firmware has found something. So a rack of real agents begins each boot with real DHCP and TFTP.

use super::{Firmware, From, Hang, Loaded, Model, Settings, Watch};
use crate::rack::Rack;
use crate::rack_network::RackNetwork;
use crate::wait::{pause, seconds};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A board asks again after 5 s: who is not answered by then is answered the next time.
const ANSWER_WITHIN_S: f64 = 4.0;

/// A room. It ends with the process.
pub struct Room {
    /// Where boards ask, for [`Rack::connect`].
    pub address: SocketAddr,
    boards: Arc<Vec<Board>>,
}

/// One board.
struct Board {
    serial: String,
    power: Box<dyn Fn() -> Option<u32> + Send + Sync>,
    boot: Mutex<Option<Boot>>,
    /// Held while firmware uses the cable: one that lost its power lets go of it before the next begins.
    cable: Mutex<()>,
    said: Mutex<Vec<String>>,
}

/// A boot of a board's firmware.
struct Boot {
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
    /// When there is no free port.
    pub fn start(
        network: &Arc<RackNetwork>,
        rack: &Rack,
        model: Model,
        settings: &Settings,
    ) -> anyhow::Result<Room> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
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
        Ok(Room { address, boards })
    }

    /// What the firmware of a board told since the story began, newest last.
    pub fn said(&self, index: usize) -> Vec<String> {
        lock(&self.boards[index].said).clone()
    }
}

/// The serial number in the question's path.
fn asked_by(stream: &TcpStream) -> Option<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line.split(' ').nth(1)?.rsplit('/').next()?.to_owned())
}

impl Board {
    /// Begins to boot if this is a new question, and answers when there is something to boot.
    fn serve<'a>(
        &self,
        mut stream: TcpStream,
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
                *boot = Some(Boot { process, end: None });
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
                let (answer, head) =
                    (view(loaded), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close");
                let sent = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
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
        if let Err(hang) = &end {
            tell(&hang.0);
        }
        // The next boot brings its end of the cable up again.
        let _ = network.firmware_is_silent(number);
        end
    }
}

/// What was loaded, in the words of the coordinator's own answer over HTTP.
fn view(loaded: &Loaded) -> String {
    let has_work = loaded.command_line.contains("piseduce.token=");
    let view = match (loaded.from, has_work) {
        (From::Card, _) => "card",
        (From::Network, true) => "boot_root",
        (From::Network, false) => "hold",
    };
    serde_json::json!({ "view": view, "command_line": loaded.command_line }).to_string()
}

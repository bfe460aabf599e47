//! The `serial` driver: relay boards on a serial line.
//!
//! `lcus`: LCUS boards and their copies, four bytes a relay: `A0`, relay, 1 or 0, sum of the three. They answer
//! nothing, so a `set` is believed once it was sent; so it is with `raw` bytes. `numato`: words, echoed, and a prompt;
//! `relay read` shows what a relay does. Relays have no detection: whether power is delivered, none of them can tell.
//!
//! Not seen on a device: tried on pty pairs, against boards that the tests play after their vendors' pages.

use super::{Answer, Port, Power, PowerError, PowerSwitch, Reading};
use crate::domain::driver::SerialSettings;
use crate::domain::driver::serial::Board;
use crate::serial_port::{SerialError, SerialPort};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// A Numato board answers within milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Pieces of what a board says that nobody has looked at; a board that chatters loses the rest.
const PIECES_WAITING: usize = 64;
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4096;
/// The largest Numato boards have 32 relays, called 0 to 9 and A to V.
const NUMATO_RELAYS: u32 = 32;

/// A relay board on a serial line.
pub(super) struct SerialSwitch {
    board: Board,
    device: String,
    port: SerialPort,
    /// What the board says; held for the time of one request.
    heard: Mutex<mpsc::Receiver<Vec<u8>>>,
}

impl SerialSwitch {
    /// The board of these settings, opened when it is there.
    pub(super) fn new(settings: &SerialSettings) -> Self {
        let (say, heard) = mpsc::channel(PIECES_WAITING);
        let port = SerialPort::open(&settings.device, settings.speed(), move |bytes| {
            drop(say.try_send(bytes.to_vec()));
        });
        SerialSwitch {
            board: settings.board.clone(),
            device: settings.device.clone(),
            port,
            heard: heard.into(),
        }
    }

    async fn send(&self, bytes: Vec<u8>) -> Result<(), PowerError> {
        self.port.write(bytes).await.map_err(|error: SerialError| PowerError::Unreachable(error.to_string()))
    }

    /// Says something to a Numato board and returns the lines of its answer.
    async fn ask(&self, words: &str) -> Result<Vec<String>, PowerError> {
        let mut heard = self.heard.lock().await;
        while heard.try_recv().is_ok() {}
        // Whatever half a command an earlier program left there ends here.
        self.send(b"\r".to_vec()).await?;
        let silent = || {
            let device = &self.device;
            PowerError::Unreachable(format!(
                "{device} shows no prompt `>`: is it a Numato board, and has it power?"
            ))
        };
        if !listen(&mut heard, |text| text.contains('>')).await.contains('>') {
            return Err(silent());
        }
        self.send(format!("{words}\r").into_bytes()).await?;
        let answered = |text: &str| text.split_once(words).is_some_and(|(_, answer)| answer.contains('>'));
        let text = listen(&mut heard, answered).await;
        let answer = text.split_once(words).map_or(text.as_str(), |(_, answer)| answer);
        let Some((answer, _)) = answer.split_once('>') else { return Err(silent()) };
        let lines = answer.split(['\r', '\n']).map(str::trim);
        Ok(lines.filter(|line| !line.is_empty()).map(String::from).collect())
    }

    fn refused(&self, words: &str, answer: &[String]) -> PowerError {
        let device = &self.device;
        match answer {
            [] => PowerError::Refused(format!("{device} answers nothing to `{words}`")),
            answer => PowerError::Refused(format!("{device} answers `{words}` with `{}`", answer.join(" "))),
        }
    }
}

/// What a board says until `is_enough`, or until it is silent for too long.
async fn listen(heard: &mut mpsc::Receiver<Vec<u8>>, is_enough: impl Fn(&str) -> bool) -> String {
    let mut bytes = Vec::new();
    let listening = async {
        while bytes.len() < ANSWER_BYTES_MAX && !is_enough(&String::from_utf8_lossy(&bytes)) {
            let Some(piece) = heard.recv().await else { return };
            bytes.extend(piece);
        }
    };
    // What was said until then may be enough for who asked.
    let _ = tokio::time::timeout(ANSWER_MAX, listening).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lcus(port: &str, power: Power) -> Result<Vec<u8>, PowerError> {
    let number = port.parse().ok().filter(|number: &u8| *number > 0);
    let relay = number.ok_or_else(|| {
        PowerError::Refused(format!("port {port} is no relay of an LCUS board: they are numbered from 1"))
    })?;
    let operation = u8::from(power == Power::On);
    Ok(vec![0xa0, relay, operation, 0xa0_u8.wrapping_add(relay).wrapping_add(operation)])
}

/// A relay as Numato boards call it.
fn numato(port: &str) -> Result<char, PowerError> {
    let number = port.parse().ok().filter(|number: &u32| *number < NUMATO_RELAYS);
    let digit = number.and_then(|number| char::from_digit(number, NUMATO_RELAYS));
    let wrong = || {
        PowerError::Refused(format!("port {port} is no relay of a Numato board: they are numbered 0 to 31"))
    };
    digit.map(|digit| digit.to_ascii_uppercase()).ok_or_else(wrong)
}

impl PowerSwitch for SerialSwitch {
    fn set<'a>(&'a self, port: &'a Port, power: Power) -> Answer<'a, ()> {
        Box::pin(async move {
            match &self.board {
                Board::Lcus => self.send(lcus(&port.port, power)?).await,
                Board::Raw(raw) => {
                    let bytes = if power == Power::On { &raw.on } else { &raw.off };
                    let bytes = bytes.of_port(&port.port);
                    self.send(bytes.map_err(|error| PowerError::Refused(error.to_string()))?).await
                }
                Board::Numato => {
                    let word = if power == Power::On { "on" } else { "off" };
                    let words = format!("relay {word} {}", numato(&port.port)?);
                    match self.ask(&words).await?.as_slice() {
                        [] => Ok(()),
                        answer => Err(self.refused(&words, answer)),
                    }
                }
            }
        })
    }

    fn read<'a>(&'a self, port: &'a Port) -> Answer<'a, Reading> {
        Box::pin(async move {
            if !self.reads_back() {
                let device = &self.device;
                return Err(PowerError::Refused(format!("{device} is a board that cannot be asked")));
            }
            let words = format!("relay read {}", numato(&port.port)?);
            let answer = self.ask(&words).await?;
            match answer.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["on"] => Ok(Reading { on: true, delivering: None }),
                ["off"] => Ok(Reading { on: false, delivering: None }),
                _ => Err(self.refused(&words, &answer)),
            }
        })
    }

    fn reads_back(&self) -> bool {
        matches!(self.board, Board::Numato)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Job, Limits, Line, PowerQueue};
    use super::*;
    use crate::domain::driver::serial::{Bytes, Raw};
    use crate::machine::event::Powered;
    use crate::serial_port::pty::Pty;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn switch(device: &str, board: Board) -> SerialSwitch {
        SerialSwitch::new(&SerialSettings { device: device.into(), speed: None, board })
    }

    fn at(pty: &Pty, board: Board) -> SerialSwitch {
        switch(pty.path.to_str().unwrap(), board)
    }

    fn port(number: &str) -> Port {
        Port { port: number.into(), node: "pi".into() }
    }

    /// The end of a job in a queue of its own.
    fn start(switch: SerialSwitch, number: &str, power: Power) -> (PowerQueue, mpsc::Receiver<Powered>) {
        let (send, ended) = mpsc::channel(1);
        let limits = Limits { read_every: Duration::from_millis(1), ..Limits::default() };
        let mut queue = PowerQueue::new(Line::new(Arc::new(switch)), Duration::ZERO, vec![], limits);
        queue.start(Job { port: port(number), power, gap: Duration::ZERO }, move |powered| {
            send.try_send(powered).unwrap()
        });
        (queue, ended)
    }

    #[tokio::test]
    async fn an_lcus_board_gets_four_bytes_and_is_believed_on_sending() {
        let pty = Pty::new();
        let (_queue, mut ended) = start(at(&pty, Board::Lcus), "1", Power::On);
        assert_eq!(pty.hear_bytes(4).await, [0xa0, 1, 1, 0xa2]);
        assert_eq!(ended.recv().await, Some(Powered::On));
        let (_queue, mut ended) = start(at(&Pty::new(), Board::Lcus), "0", Power::On);
        let refused = ended.recv().await.unwrap();
        assert!(matches!(&refused, Powered::Failed(cause) if cause.seen.contains("from 1")), "{refused:?}");
    }

    #[test]
    fn the_sum_of_lcus_is_the_low_byte_of_the_three_before() {
        assert_eq!(lcus("1", Power::Off), Ok(vec![0xa0, 1, 0, 0xa1]));
        assert_eq!(lcus("255", Power::On), Ok(vec![0xa0, 255, 1, 0xa0]));
        assert_eq!([numato("9"), numato("10"), numato("31")], [Ok('9'), Ok('A'), Ok('V')]);
        assert!(numato("32").is_err() && lcus("256", Power::On).is_err());
    }

    #[tokio::test]
    async fn raw_bytes_go_as_they_are_written_down() {
        let pty = Pty::new();
        let bytes = |text: &str| Bytes::AllPorts(text.into());
        let switch = at(&pty, Board::Raw(Raw { on: bytes("AA {port}"), off: bytes("BB {port} 0D") }));
        switch.set(&port("7"), Power::On).await.unwrap();
        switch.set(&port("7"), Power::Off).await.unwrap();
        assert_eq!(pty.hear_bytes(5).await, [0xaa, 7, 0xbb, 7, 0x0d]);
        assert!(!switch.reads_back());
    }

    /// A Numato board as its vendor describes it; answers with `says` instead of states if that is given.
    async fn play(pty: Pty, states: Arc<AtomicU32>, says: Option<&str>) {
        let mut line = String::new();
        loop {
            for byte in pty.hear().await {
                pty.say(&[byte]);
                if byte != b'\r' {
                    line.push(char::from(byte));
                    continue;
                }
                let command = std::mem::take(&mut line);
                let words: Vec<&str> = command.split(' ').collect();
                let relay = words.get(2).and_then(|word| u32::from_str_radix(word, 32).ok()).unwrap_or(0);
                let answer = match (words.as_slice(), says) {
                    (["relay", ..], Some(says)) => says,
                    (["relay", "on", _], None) => {
                        states.fetch_or(1 << relay, Ordering::SeqCst);
                        ""
                    }
                    (["relay", "off", _], None) => {
                        states.fetch_and(!(1 << relay), Ordering::SeqCst);
                        ""
                    }
                    (["relay", "read", _], None) if states.load(Ordering::SeqCst) >> relay & 1 == 1 => {
                        "on\n\r"
                    }
                    (["relay", "read", _], None) => "off\n\r",
                    _ => "",
                };
                pty.say(format!("\n\r{answer}>").as_bytes());
            }
        }
    }

    #[tokio::test]
    async fn a_numato_board_is_set_and_read_back() {
        let pty = Pty::new();
        let switch = at(&pty, Board::Numato);
        // What somebody else left in the line, and a prompt that nobody asked for.
        pty.say(b"hello\n\r>");
        let states = Arc::new(AtomicU32::new(0));
        let playing = tokio::spawn(play(pty, states.clone(), None));
        switch.set(&port("11"), Power::On).await.unwrap();
        assert_eq!(states.load(Ordering::SeqCst), 1 << 11);
        assert_eq!(switch.read(&port("11")).await, Ok(Reading { on: true, delivering: None }));
        assert_eq!(switch.read(&port("0")).await, Ok(Reading { on: false, delivering: None }));
        let (_queue, mut ended) = start(switch, "11", Power::Off);
        assert_eq!(ended.recv().await, Some(Powered::Off));
        assert_eq!(states.load(Ordering::SeqCst), 0);
        playing.abort();
    }

    #[tokio::test]
    async fn a_wrong_answer_is_a_refusal_and_tells_what_was_said() {
        let pty = Pty::new();
        let switch = at(&pty, Board::Numato);
        let playing = tokio::spawn(play(pty, Arc::default(), Some("unknown command\n\r")));
        for answer in [switch.set(&port("1"), Power::On).await, switch.read(&port("1")).await.map(drop)] {
            let text = answer.unwrap_err().to_string();
            assert!(text.contains("refused") && text.contains("unknown command"), "{text}");
        }
        playing.abort();
    }

    #[tokio::test]
    async fn an_unplugged_board_is_waited_for_and_the_job_succeeds_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("usb-relays");
        let device = link.to_str().unwrap();
        let pty = Pty::at(&link);
        let board = switch(device, Board::Lcus);
        board.set(&port("1"), Power::On).await.unwrap();
        drop(pty);
        std::fs::remove_file(&link).unwrap();
        let away = async {
            loop {
                match board.set(&port("1"), Power::Off).await {
                    Err(PowerError::Unreachable(why)) => return why,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        let why = tokio::time::timeout(Duration::from_secs(20), away).await.unwrap();
        assert!(why.contains(device) && (why.contains("plug it in") || why.contains("cable")), "{why}");
        let (_queue, mut ended) = start(board, "2", Power::Off);
        let again = Pty::at(&link);
        assert_eq!(again.hear_bytes(4).await, [0xa0, 2, 0, 0xa2]);
        assert_eq!(ended.recv().await, Some(Powered::Off));
    }
}

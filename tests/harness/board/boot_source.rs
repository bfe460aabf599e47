//! Where a bench board's firmware learns what to boot: from the head over TFTP, in fewer questions than a real one's, or from a
//! [room](crate::firmware::room) whose virtual firmware asks everything.

use crate::firmware::tftp::{Client, Fetched};
use crate::firmware::{Model, Settings};
use crate::rack_network::HEAD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// A question that gets no answer is asked again after so long: a head that was away is not waited for.
const FILE_MS: u64 = 300;
/// A room answers sooner, or not at all.
const ROOM_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Whom a board asks what to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootSource {
    /// Nobody: its cable is not plugged in.
    Nobody,
    /// The head, over TFTP.
    Head,
    /// A room, at this socket.
    Room(PathBuf),
}

impl fmt::Display for BootSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootSource::Nobody => f.write_str("nobody"),
            BootSource::Head => f.write_str("head"),
            BootSource::Room(socket) => write!(f, "{}", socket.display()),
        }
    }
}

impl FromStr for BootSource {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "nobody" => BootSource::Nobody,
            "head" => BootSource::Head,
            socket => BootSource::Room(socket.into()),
        })
    }
}

/// What a board boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Boot {
    /// The boot root, with this kernel command line.
    Root(String),
    /// Its card.
    Card,
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Boot::Root(words) if words.contains("piseduce.token=") => "boot root with credentials",
            Boot::Root(_) => "boot root without credentials",
            Boot::Card => "card",
        })
    }
}

impl Boot {
    /// What a kernel boots that was fetched over the network: the card, when it is told the card's root.
    pub fn with(command_line: &str) -> Boot {
        let is_cards = command_line.split(' ').any(|word| word.starts_with("root="));
        if is_cards { Boot::Card } else { Boot::Root(command_line.into()) }
    }
}

impl BootSource {
    /// What the board of this serial number boots; none: nobody says.
    pub(super) fn ask(&self, serial: &str) -> Option<Boot> {
        match self {
            BootSource::Nobody => None,
            BootSource::Head => ask_head(serial),
            BootSource::Room(socket) => ask_room(socket, serial),
        }
    }
}

/// Two files tell it: a Pi whose files are not found goes on to its card, and so does one that is told its card's root. The
/// command line comes before the kernel, as with all firmware.
fn ask_head(serial: &str) -> Option<Boot> {
    let settings = Settings { tftp_file_ms: FILE_MS, ..Settings::of(Model::Pi4) };
    let mut client = Client::new(HEAD, &settings);
    let mut fetch = |file: &str| client.fetch(&format!("{}/{file}", &serial[8..]), &|| false).ok();
    let Fetched::File(words) = fetch("cmdline.txt")? else { return Some(Boot::Card) };
    let Fetched::File(_) = fetch("kernel8.img")? else { return Some(Boot::Card) };
    let words = String::from_utf8_lossy(&words);
    Some(Boot::with(words.lines().next().unwrap_or_default()))
}

fn ask_room(socket: &Path, serial: &str) -> Option<Boot> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(ROOM_ANSWERS_WITHIN)).ok()?;
    writeln!(stream, "{serial}").ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    serde_json::from_str(&answer).ok()
}

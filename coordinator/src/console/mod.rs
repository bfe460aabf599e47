//! Consoles: what nodes say on their UARTs, the last 64 KiB of each, and whoever follows one live.
//!
//! Nothing enters a ring or reaches a follower but through [`redact`]. A console is forgotten, and its followers are
//! sent away, when its node passes to somebody else. When that is, and who may look, is not known here.

mod redact;

use crate::domain::console::ConsoleSettings;
use crate::serial_port::{SerialError, SerialPort};
use bytes::Bytes;
use redact::Redactor;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use tokio::sync::broadcast;

/// What is kept of a console, in bytes.
pub const RING_BYTES_MAX: usize = 64 << 10;

/// The most that is written at once, in bytes: a UART of 9600 baud takes four seconds for it.
pub const WRITE_BYTES_MAX: usize = 4 << 10;

/// Pieces that a follower may be behind; who is slower misses some, and is told so.
const PIECES_BEHIND: usize = 256;

/// What a follower gets in place of what it missed.
const MISSED: &[u8] = b"\r\n[piseduce: you were too slow, some output is missing here]\r\n";

/// Why something was not typed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleError {
    /// Nobody may type there.
    #[error("the console is for reading only")]
    ReadOnly,
    /// More than is written at once.
    #[error("{0} bytes are more than the {WRITE_BYTES_MAX} that are typed at once")]
    TooMuch(usize),
    /// The device is away.
    #[error("{0}")]
    Serial(#[from] SerialError),
}

/// What was said, and who listens.
struct Heard {
    redactor: Redactor,
    ring: VecDeque<u8>,
    followers: broadcast::Sender<Bytes>,
}

impl Heard {
    fn new() -> Self {
        Heard {
            redactor: Redactor::default(),
            ring: VecDeque::new(),
            followers: broadcast::channel(PIECES_BEHIND).0,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let clean = self.redactor.clean(bytes);
        self.ring.extend(&clean);
        let surplus = self.ring.len().saturating_sub(RING_BYTES_MAX);
        self.ring.drain(..surplus);
        // Mostly nobody listens.
        let _ = self.followers.send(clean.into());
    }
}

/// The console of one node; clones are the same console.
#[derive(Clone)]
pub struct Console {
    settings: ConsoleSettings,
    port: Arc<SerialPort>,
    heard: Arc<Mutex<Heard>>,
}

impl Console {
    /// A console on the device of these settings; must be called in a runtime.
    fn open(settings: ConsoleSettings) -> Self {
        let heard = Arc::new(Mutex::new(Heard::new()));
        let hearing = heard.clone();
        let port =
            SerialPort::open(&settings.device, settings.speed, move |bytes| lock(&hearing).take(bytes));
        Console { settings, port: port.into(), heard }
    }

    /// Its settings.
    pub fn settings(&self) -> &ConsoleSettings {
        &self.settings
    }

    /// What is wrong with its device now.
    pub fn trouble(&self) -> Option<SerialError> {
        self.port.trouble()
    }

    /// What is kept of it.
    pub fn kept(&self) -> Vec<u8> {
        lock(&self.heard).ring.iter().copied().collect()
    }

    /// What is kept of it, and whoever goes on from there.
    pub fn follow(&self) -> (Vec<u8>, Follower) {
        let heard = lock(&self.heard);
        (heard.ring.iter().copied().collect(), Follower { pieces: heard.followers.subscribe() })
    }

    /// Types `bytes`.
    ///
    /// # Errors
    /// Every [`ConsoleError`].
    pub async fn write(&self, bytes: Vec<u8>) -> Result<(), ConsoleError> {
        if !self.settings.write {
            return Err(ConsoleError::ReadOnly);
        }
        if bytes.len() > WRITE_BYTES_MAX {
            return Err(ConsoleError::TooMuch(bytes.len()));
        }
        Ok(self.port.write(bytes).await?)
    }

    /// Forgets what was said and sends followers away: what comes next is somebody else's.
    pub fn forget(&self) {
        let mut heard = lock(&self.heard);
        heard.ring.clear();
        // Only these: a secret that is under way stays one.
        heard.followers = broadcast::channel(PIECES_BEHIND).0;
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().expect("nobody panics while holding a console")
}

/// Hears a console from some moment on.
pub struct Follower {
    pieces: broadcast::Receiver<Bytes>,
}

impl Follower {
    /// What comes next; none when the console is forgotten or closed.
    pub async fn next(&mut self) -> Option<Bytes> {
        match self.pieces.recv().await {
            Ok(piece) => Some(piece),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Bytes::from_static(MISSED)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// All consoles, by the names of their nodes; clones are the same.
#[derive(Clone, Default)]
pub struct Consoles {
    all: Arc<RwLock<BTreeMap<String, Console>>>,
}

impl Consoles {
    /// These nodes have consoles from now on. One that did not change goes on, all others are closed.
    pub fn set(&self, settings: impl IntoIterator<Item = (String, ConsoleSettings)>) {
        let mut all = self.all.write().expect("nobody panics while holding the consoles");
        let mut before = std::mem::take(&mut *all);
        let mut changed = Vec::new();
        for (node, settings) in settings {
            match before.remove(&node) {
                Some(same) if same.settings == settings => drop(all.insert(node, same)),
                _ => changed.push((node, settings)),
            }
        }
        // Closed first: a device that only moves to another node is free then.
        drop(before);
        all.extend(changed.into_iter().map(|(node, settings)| (node, Console::open(settings))));
    }

    /// The console of a node.
    pub fn get(&self, node: &str) -> Option<Console> {
        self.all.read().expect("nobody panics while holding the consoles").get(node).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial_port::pty::Pty;

    fn console(pty: &Pty, write: bool) -> Console {
        let device = pty.path.to_str().unwrap().into();
        Console::open(ConsoleSettings { device, speed: 115_200, write })
    }

    async fn hear(follower: &mut Follower, count: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < count {
            heard.extend(follower.next().await.unwrap());
        }
        heard
    }

    #[tokio::test]
    async fn two_followers_get_the_same_bytes_whenever_they_come() {
        let pty = Pty::new();
        let console = console(&pty, false);
        let (ring, mut first) = console.follow();
        assert_eq!(ring, b"");
        pty.say(b"U-Boot\r\n");
        assert_eq!(hear(&mut first, 8).await, b"U-Boot\r\n");
        let (ring, mut second) = console.follow();
        assert_eq!(ring, b"U-Boot\r\n");
        pty.say(b"login: ");
        assert_eq!(hear(&mut first, 7).await, b"login: ");
        assert_eq!(hear(&mut second, 7).await, b"login: ");
        console.forget();
        assert!(console.kept().is_empty());
        assert!(first.next().await.is_none() && second.next().await.is_none(), "they are sent away");
    }

    #[test]
    fn the_ring_keeps_the_last_of_much() {
        let mut heard = Heard::new();
        for number in 0..20_000 {
            heard.take(format!("line {number}\n").as_bytes());
        }
        let ring: Vec<u8> = heard.ring.iter().copied().collect();
        assert_eq!(ring.len(), RING_BYTES_MAX);
        assert!(ring.ends_with(b"line 19999\n"));
    }

    #[tokio::test]
    async fn a_follower_that_is_too_slow_is_told_so() {
        let mut heard = Heard::new();
        let mut follower = Follower { pieces: heard.followers.subscribe() };
        for _ in 0..=PIECES_BEHIND {
            heard.take(b"x");
        }
        assert_eq!(follower.next().await.as_deref(), Some(MISSED));
        assert_eq!(follower.next().await.as_deref(), Some(&b"x"[..]));
    }

    #[tokio::test]
    async fn nobody_types_unless_it_is_allowed() {
        let pty = Pty::new();
        let closed = console(&pty, false);
        assert_eq!(closed.write(b"x".to_vec()).await, Err(ConsoleError::ReadOnly));
        drop(closed);
        let pty = Pty::new();
        let open = console(&pty, true);
        open.write(b"root\r".to_vec()).await.unwrap();
        assert_eq!(pty.hear_bytes(5).await, b"root\r");
        assert!(matches!(open.write(vec![0; 5000]).await, Err(ConsoleError::TooMuch(5000))));
    }

    #[tokio::test]
    async fn a_console_that_did_not_change_goes_on() {
        let pty = Pty::new();
        let settings = console(&pty, false).settings;
        let consoles = Consoles::default();
        consoles.set([("pi-1".into(), settings.clone())]);
        let (_, mut follower) = consoles.get("pi-1").unwrap().follow();
        consoles.set([("pi-1".into(), settings)]);
        pty.say(b"still here");
        assert_eq!(hear(&mut follower, 10).await, b"still here");
        consoles.set([]);
        assert!(consoles.get("pi-1").is_none() && follower.next().await.is_none());
    }
}

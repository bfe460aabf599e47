//! A TFTP client as firmware has one: one file at a time, in blocks of a size that it asks for (RFC 1350, 2347, 2348,
//! 2349). Block numbers go round. It has the habits of real ones: a boot ROM asks from one port for ever, and a file that is only
//! looked for is ended with an ERROR once its size is told (firmware issue 1700).

use super::model::Settings;
use crate::wait::seconds;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// A datagram that got lost is sent again after so long.
const AGAIN_SECONDS: f64 = 1.0;
const LISTEN: Duration = Duration::from_millis(50);

const READ_REQUEST: u16 = 1;
const DATA: u16 = 3;
const ACKNOWLEDGE: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS_ACKNOWLEDGED: u16 = 6;
const NOT_FOUND: u16 = 1;
/// How a firmware ends what it does not want.
const EARLY_TERMINATE: &[u8] = b"\0\x05\0\0Early terminate\0";

/// What a file is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Whole,
    Probe,
}

/// Asks one server.
pub(crate) struct Client {
    server: SocketAddr,
    block_bytes: u16,
    limit_seconds: f64,
    /// The port that it asks from; 0: another one each time.
    port: u16,
}

/// An answer.
pub(crate) enum Fetched {
    File(Vec<u8>),
    NotFound,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TftpError {
    #[error("no answer for {0} s")]
    Timeout(f64),
    #[error("not whole after {0} s")]
    Slow(f64),
    #[error("the power went")]
    Off,
    #[error("the server refuses: {0}")]
    Refused(String),
    #[error("the network cannot be used: {0}")]
    Network(#[from] std::io::Error),
}

impl Client {
    pub(crate) fn new(server: Ipv4Addr, settings: &Settings) -> Client {
        let limit_seconds = settings.tftp_file_ms as f64 / 1000.0;
        Client {
            server: (server, 69).into(),
            block_bytes: settings.block_bytes,
            limit_seconds,
            port: settings.tftp_port,
        }
    }

    /// Fetches a file, within the time that a firmware gives it.
    pub(crate) fn fetch(&mut self, name: &str, is_off: &dyn Fn() -> bool) -> Result<Fetched, TftpError> {
        self.ask(name, is_off, Wish::Whole)
    }

    /// Looks whether there is such a file: an answer is ended early, and nothing of it is kept.
    pub(super) fn probe(&mut self, name: &str, is_off: &dyn Fn() -> bool) -> Result<Fetched, TftpError> {
        self.ask(name, is_off, Wish::Probe)
    }

    fn ask(&mut self, name: &str, is_off: &dyn Fn() -> bool, wish: Wish) -> Result<Fetched, TftpError> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, self.port))?;
        socket.set_read_timeout(Some(LISTEN))?;
        let mut datagram = self.request(name);
        let (mut peer, mut known) = (self.server, false);
        let (mut block_bytes, mut expected, mut content) = (512, 1u16, Vec::new());
        let (began, mut sent) = (seconds(), f64::MIN);
        let mut buffer = vec![0; usize::from(self.block_bytes) + 600];
        loop {
            if is_off() {
                return Err(TftpError::Off);
            }
            if seconds() > began + self.limit_seconds {
                let is_begun = !content.is_empty();
                let wrong = if is_begun { TftpError::Slow } else { TftpError::Timeout };
                return Err(wrong(self.limit_seconds));
            }
            if seconds() > sent + AGAIN_SECONDS {
                // A server that is not there yet is no reason to give up.
                let _ = socket.send_to(&datagram, peer);
                sent = seconds();
            }
            let Ok((count, from)) = socket.recv_from(&mut buffer) else { continue };
            if from.ip() != self.server.ip() || (known && from != peer) || count < 4 {
                continue;
            }
            (peer, known) = (from, true);
            let (kind, number) = (word(&buffer), word(&buffer[2..]));
            match kind {
                OPTIONS_ACKNOWLEDGED | DATA if wish == Wish::Probe => {
                    let _ = socket.send_to(EARLY_TERMINATE, peer);
                    return Ok(Fetched::File(Vec::new()));
                }
                OPTIONS_ACKNOWLEDGED if content.is_empty() => {
                    block_bytes = granted(&buffer[2..count]).unwrap_or(block_bytes);
                    datagram = acknowledge(0);
                }
                DATA if number == expected => {
                    content.extend_from_slice(&buffer[4..count]);
                    datagram = acknowledge(number);
                    expected = expected.wrapping_add(1);
                    if count - 4 < block_bytes {
                        let _ = socket.send_to(&datagram, peer);
                        return Ok(Fetched::File(content));
                    }
                }
                ERROR if number == NOT_FOUND => return Ok(Fetched::NotFound),
                ERROR => {
                    let text = buffer[4..count].split(|byte| *byte == 0).next().unwrap_or_default();
                    return Err(TftpError::Refused(String::from_utf8_lossy(text).into_owned()));
                }
                _ => continue,
            }
            let _ = socket.send_to(&datagram, peer);
            sent = seconds();
        }
    }

    fn request(&self, name: &str) -> Vec<u8> {
        let mut request = READ_REQUEST.to_be_bytes().to_vec();
        for text in [name, "octet", "tsize", "0", "blksize", &self.block_bytes.to_string()] {
            request.extend_from_slice(text.as_bytes());
            request.push(0);
        }
        request
    }
}

fn word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn acknowledge(block: u16) -> Vec<u8> {
    [ACKNOWLEDGE.to_be_bytes(), block.to_be_bytes()].concat()
}

/// The block size among options that were granted.
fn granted(options: &[u8]) -> Option<usize> {
    let words: Vec<&[u8]> = options.split(|byte| *byte == 0).collect();
    let at = words.iter().position(|word| word.eq_ignore_ascii_case(b"blksize"))?;
    std::str::from_utf8(words.get(at + 1)?).ok()?.parse().ok()
}

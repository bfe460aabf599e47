//! A board as a client of the server, on a line that loses packets and mixes them up if a test wants it.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// A board's socket.
pub(super) struct Client {
    pub(super) socket: UdpSocket,
    server: SocketAddr,
    /// Of a hundred packets so many get lost, each way, and as many come a packet too late.
    pub(super) loss: u64,
    pub(super) random: u64,
}

/// How a question ended.
pub(super) type Fetched = Result<Vec<u8>, u8>;

impl Client {
    pub(super) fn new(number: u8, server: SocketAddr) -> Client {
        Client::at((Ipv4Addr::new(127, 0, 0, number), 0).into(), server)
    }

    pub(super) fn at(address: SocketAddr, server: SocketAddr) -> Client {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        Client { socket, server, loss: 0, random: u64::from(address.port()) + 1 }
    }

    /// Whether chance has it. Xorshift, so that a seed gives one course.
    fn happens(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100 < self.loss
    }

    pub(super) fn send(&mut self, packet: &[u8], to: SocketAddr) {
        if !self.happens() {
            self.socket.send_to(packet, to).unwrap();
        }
    }

    pub(super) fn ask(&mut self, name: &str, options: &[&str]) {
        let mut bytes = vec![0, 1];
        for word in [name, "octet"].iter().chain(options) {
            bytes.extend(word.as_bytes());
            bytes.push(0);
        }
        self.send(&bytes, self.server);
    }

    /// The next packet that does not get lost; none: nothing comes for a while.
    pub(super) fn receive(
        &mut self,
        late: &mut Option<(Vec<u8>, SocketAddr)>,
    ) -> Option<(Vec<u8>, SocketAddr)> {
        let mut packet = vec![0; 66_000];
        loop {
            let Ok((count, from)) = self.socket.recv_from(&mut packet) else { return late.take() };
            let received = (packet[..count].to_vec(), from);
            if self.happens() {
                continue;
            }
            if self.happens() && late.is_none() {
                *late = Some(received);
                continue;
            }
            // What was held back comes after the one behind it.
            return Some(received);
        }
    }

    /// A whole transfer, or the error's number; acknowledges as RFC 7440 says.
    pub(super) fn fetch(&mut self, name: &str, options: &[&str]) -> Fetched {
        let (mut block_bytes, mut window, mut content) = (512, 1, Vec::new());
        let (mut expected, mut in_window) = (1u64, 0);
        let (mut late, mut peer) = (None, None);
        self.ask(name, options);
        let mut tries = 0;
        loop {
            let Some((packet, from)) = self.receive(&mut late) else {
                tries += 1;
                assert!(tries < 20, "{name}: no answer after block {expected}");
                match peer {
                    None => self.ask(name, options),
                    Some(peer) => self.acknowledge(expected - 1, peer),
                }
                in_window = 0;
                continue;
            };
            if peer.is_some_and(|peer| peer != from) {
                continue;
            }
            match packet[1] {
                5 => return Err(packet[3]),
                6 => {
                    peer = Some(from);
                    (block_bytes, window) =
                        (granted(&packet, "blksize", 512), granted(&packet, "windowsize", 1));
                    self.acknowledge(0, from);
                }
                3 => {
                    peer = Some(from);
                    let number = u16::from_be_bytes([packet[2], packet[3]]);
                    if number != expected as u16 {
                        // A hole, or something twice: once a window it is told how far it came.
                        in_window += 1;
                        if in_window >= window {
                            in_window = 0;
                            self.acknowledge(expected - 1, from);
                        }
                        continue;
                    }
                    content.extend_from_slice(&packet[4..]);
                    (expected, in_window) = (expected + 1, in_window + 1);
                    tries = 0;
                    let is_last = packet.len() - 4 < block_bytes;
                    if in_window >= window || is_last {
                        in_window = 0;
                        self.acknowledge(expected - 1, from);
                    }
                    if is_last {
                        return Ok(content);
                    }
                }
                other => panic!("packet {other}"),
            }
        }
    }

    fn acknowledge(&mut self, number: u64, to: SocketAddr) {
        let [high, low] = (number as u16).to_be_bytes();
        self.send(&[0, 4, high, low], to);
    }
}

fn granted(packet: &[u8], name: &str, usual: usize) -> usize {
    let words: Vec<&str> =
        packet[2..].split(|byte| *byte == 0).map(|word| std::str::from_utf8(word).unwrap()).collect();
    let at = words.iter().position(|word| *word == name);
    at.map_or(usual, |at| words[at + 1].parse().unwrap())
}

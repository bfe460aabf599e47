//! A client of raw bytes: sends what it is told to, in its own words, independent of any codec.

use crate::bench::within;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A CONNECT in the making.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) client_id: String,
    pub(crate) user_name: Option<String>,
    pub(crate) password: String,
    pub(crate) name: &'static str,
    pub(crate) level: u8,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<(String, Vec<u8>, u8)>,
}

impl Connect {
    pub(crate) fn new(client_id: &str, user_name: &str, password: &str) -> Self {
        Connect {
            client_id: client_id.into(),
            user_name: Some(user_name.into()),
            password: password.into(),
            name: "MQTT",
            level: 4,
            clean: true,
            keep_alive: 60,
            will: None,
        }
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    pub(crate) fn will(mut self, topic: &str, payload: &[u8], qos: u8, retain: bool) -> Self {
        self.will = Some((topic.into(), payload.into(), 0x04 | qos << 3 | u8::from(retain) << 5));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        let mut payload = text(self.client_id.as_bytes());
        if let Some((topic, message, will_flags)) = &self.will {
            flags |= will_flags;
            payload.extend(text(topic.as_bytes()));
            payload.extend(text(message));
        }
        if let Some(user_name) = &self.user_name {
            flags |= 0xc0;
            payload.extend(text(user_name.as_bytes()));
            payload.extend(text(self.password.as_bytes()));
        }
        let [high, low] = self.keep_alive.to_be_bytes();
        packet(0x10, &[&text(self.name.as_bytes())[..], &[self.level, flags, high, low], &payload].concat())
    }
}

/// A text with its length, as MQTT writes it.
fn text(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A packet with its fixed header.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut rest = body.len();
    loop {
        let more = if rest >= 128 { 0x80 } else { 0 };
        packet.push((rest % 128) as u8 | more);
        rest /= 128;
        if rest == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// A PUBLISH; its packet id is 1 when it has one.
pub(crate) fn publish(topic: &str, payload: &[u8], qos: u8, retain: bool) -> Vec<u8> {
    let id: &[u8] = if qos > 0 { &[0, 1] } else { &[] };
    packet(0x30 | qos << 1 | u8::from(retain), &[&text(topic.as_bytes()), id, payload].concat())
}

pub(crate) fn subscribe(filters: &[(&str, u8)]) -> Vec<u8> {
    let filters = filters.iter().flat_map(|(filter, qos)| [&text(filter.as_bytes())[..], &[*qos]].concat());
    packet(0x82, &[0, 1].into_iter().chain(filters).collect::<Vec<u8>>())
}

pub(crate) fn unsubscribe(filters: &[&str]) -> Vec<u8> {
    let filters = filters.iter().flat_map(|filter| text(filter.as_bytes()));
    packet(0xa2, &[0, 2].into_iter().chain(filters).collect::<Vec<u8>>())
}

pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A message that arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) id: u16,
}

/// A TCP connection to a broker.
pub(crate) struct Raw {
    socket: TcpStream,
    /// Messages that came while something else was waited for.
    early: Vec<Message>,
}

impl Raw {
    pub(crate) async fn knock(address: SocketAddr) -> Raw {
        let socket = within("TCP connection", TcpStream::connect(address)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Raw { socket, early: Vec::new() }
    }

    /// A connection that exists already, from either side.
    pub(crate) fn over(socket: std::net::TcpStream) -> Raw {
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        Raw { socket: TcpStream::from_std(socket).unwrap(), early: Vec::new() }
    }

    /// Sends these bytes, if the broker still wants them.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await;
    }

    /// Whether the broker took these bytes.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        within("sending", self.socket.write_all(bytes)).await.is_ok()
    }

    /// Reads this many bytes, or up to the end, whatever they are.
    pub(crate) async fn skim(&mut self, bytes: usize) {
        let mut source = (&mut self.socket).take(bytes as u64);
        let _ = within("skimming", tokio::io::copy(&mut source, &mut tokio::io::sink())).await;
    }

    /// Says that nothing more will come, and reads to the end.
    pub(crate) async fn finish(&mut self) {
        let _ = self.socket.shutdown().await;
        self.skim(usize::MAX).await;
    }

    /// The next packet as first byte and body; `None` at the end of the connection.
    pub(crate) async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        within("a packet", async {
            let first = self.socket.read_u8().await.ok()?;
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.socket.read_u8().await.ok()?;
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.socket.read_exact(&mut body).await.ok()?;
            Some((first, body))
        })
        .await
    }

    /// The next packet that is not a message; messages are kept for [`Raw::message`].
    pub(crate) async fn answer(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let (first, body) = self.packet().await?;
            if first & 0xf0 != 0x30 {
                return Some((first, body));
            }
            self.early.push(parse(first, &body));
        }
    }

    /// The next message; `None` at the end of the connection. Other packets are passed over.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        if !self.early.is_empty() {
            return Some(self.early.remove(0));
        }
        loop {
            let (first, body) = self.packet().await?;
            if first & 0xf0 == 0x30 {
                return Some(parse(first, &body));
            }
        }
    }

    /// Whether a message came while something else was waited for.
    pub(crate) fn has_message(&self) -> bool {
        !self.early.is_empty()
    }

    /// The codes of the SUBACK for these filters.
    pub(crate) async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.send(&subscribe(filters)).await;
        let (first, body) = self.answer().await.expect("no SUBACK");
        assert_eq!((first, &body[..2]), (0x90, &[0, 1][..]));
        body[2..].to_vec()
    }

    /// Publishes with QoS 1 and waits for the PUBACK.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) {
        self.send(&publish(topic, payload, 1, retain)).await;
        assert_eq!(self.answer().await, Some((0x40, vec![0, 1])), "no PUBACK for {topic}");
    }

    /// Asserts that the broker has nothing more to say, and still answers.
    pub(crate) async fn is_quiet(&mut self) {
        self.send(&PINGREQ).await;
        assert_eq!(self.packet().await, Some((0xd0, vec![])), "nothing but a PINGRESP");
        assert_eq!(self.early, []);
    }

    /// Waits for the end of the connection, and asserts that nothing but messages came before.
    pub(crate) async fn is_closed(&mut self) {
        assert_eq!(self.answer().await, None, "the end of the connection");
    }

    /// Whether the broker still answers; what else it said is passed over.
    pub(crate) async fn is_alive(&mut self) -> bool {
        self.send(&PINGREQ).await;
        loop {
            match self.packet().await {
                None => return false,
                Some((0xd0, _)) => return true,
                Some(_) => {}
            }
        }
    }
}

fn parse(first: u8, body: &[u8]) -> Message {
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let (topic, rest) = body[2..].split_at(length);
    let qos = first >> 1 & 3;
    let (id, payload) = match qos {
        0 => (0, rest),
        _ => (u16::from_be_bytes([rest[0], rest[1]]), &rest[2..]),
    };
    let topic = String::from_utf8(topic.to_vec()).unwrap();
    Message { topic, payload: payload.to_vec(), qos, retain: first & 1 == 1, id }
}

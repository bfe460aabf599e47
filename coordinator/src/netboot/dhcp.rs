//! DHCP messages as far as booting needs them: bytes ↔ fields. Layout: RFC 2131; options: RFC 2132 and 4578.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A DHCP server's UDP port.
pub const SERVER_PORT: u16 = 67;
/// A DHCP client's UDP port.
pub const CLIENT_PORT: u16 = 68;

/// Kinds of messages, the value of [`MESSAGE_TYPE`].
pub const DISCOVER: u8 = 1;
/// A server's offer.
pub const OFFER: u8 = 2;
/// A client takes an offer.
pub const REQUEST: u8 = 3;
/// The client found that somebody else has the address.
pub const DECLINE: u8 = 4;
/// The server agrees.
pub const ACKNOWLEDGE: u8 = 5;
/// The server does not.
pub const REFUSE: u8 = 6;

/// The network's mask.
pub const SUBNET_MASK: u8 = 1;
/// The client's host name.
pub const HOST_NAME: u8 = 12;
/// What a vendor's clients want to hear.
pub const VENDOR: u8 = 43;
/// The address that a client wants.
pub const REQUESTED_ADDRESS: u8 = 50;
/// What kind of message it is.
pub const MESSAGE_TYPE: u8 = 53;
/// Which server speaks or is meant.
pub const SERVER: u8 = 54;
/// Which options a client wants.
pub const WANTED: u8 = 55;
/// What kind of client it is.
pub const CLASS: u8 = 60;
/// Where files are.
pub const TFTP_SERVER: u8 = 66;
/// A client's architecture, network interface and identity.
pub const ARCHITECTURE: u8 = 93;
/// See [`ARCHITECTURE`].
pub const INTERFACE: u8 = 94;
/// See [`ARCHITECTURE`].
pub const MACHINE: u8 = 97;

/// What clients that boot from the network say in [`CLASS`]; Raspberry Pis say exactly this.
pub const PXE_CLASS: &[u8] = b"PXEClient:Arch:00000:UNDI:002001";
/// What a Raspberry Pi must hear in [`VENDOR`] to boot.
pub const PI_BOOT: &[u8] = b"Raspberry Pi Boot";

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const HEADER_BYTES: usize = 236;
const FROM_CLIENT: u8 = 1;
const FROM_SERVER: u8 = 2;
const END: u8 = 255;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whether a server sent it.
    pub is_answer: bool,
    /// What a question and its answers have in common.
    pub transaction: u32,
    /// The client's hardware address.
    pub mac: [u8; 6],
    /// The address that the client gets.
    pub address: Ipv4Addr,
    /// Where the client is to ask next.
    pub next_server: Ipv4Addr,
    /// What else is said.
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Message {
    /// A client's message. Its answer goes to everybody: who asks has no address yet.
    pub fn ask(transaction: u32, mac: [u8; 6], kind: u8) -> Message {
        let options = BTreeMap::from([(MESSAGE_TYPE, vec![kind])]);
        let nobody = Ipv4Addr::UNSPECIFIED;
        Message { is_answer: false, transaction, mac, address: nobody, next_server: nobody, options }
    }

    /// The same with one thing more said.
    #[must_use]
    pub fn with(mut self, option: u8, value: impl Into<Vec<u8>>) -> Message {
        self.options.insert(option, value.into());
        self
    }

    /// The message that these bytes are.
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
        if bytes.get(HEADER_BYTES..HEADER_BYTES + 4)? != COOKIE {
            return None;
        }
        let mut options = BTreeMap::new();
        let mut rest = &bytes[HEADER_BYTES + 4..];
        while let [code, tail @ ..] = rest {
            match *code {
                END => break,
                0 => rest = tail,
                code => {
                    let length = usize::from(*tail.first()?);
                    options.insert(code, tail.get(1..=length)?.to_vec());
                    rest = &tail[1 + length..];
                }
            }
        }
        Some(Message {
            is_answer: bytes[0] == FROM_SERVER,
            transaction: u32::from_be_bytes(bytes[4..8].try_into().ok()?),
            mac: bytes[28..34].try_into().ok()?,
            address: address(16)?,
            next_server: address(20)?,
            options,
        })
    }

    /// Its bytes. Options longer than 255 bytes are cut.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        // Over Ethernet.
        bytes[..4].copy_from_slice(&[if self.is_answer { FROM_SERVER } else { FROM_CLIENT }, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        bytes[10] = 0x80;
        bytes[16..20].copy_from_slice(&self.address.octets());
        bytes[20..24].copy_from_slice(&self.next_server.octets());
        bytes[28..34].copy_from_slice(&self.mac);
        bytes.extend_from_slice(&COOKIE);
        for (code, value) in &self.options {
            let value = &value[..value.len().min(usize::from(u8::MAX))];
            bytes.push(*code);
            bytes.extend(u8::try_from(value.len()));
            bytes.extend_from_slice(value);
        }
        bytes.push(END);
        bytes
    }

    /// What kind of message it is.
    pub fn kind(&self) -> Option<u8> {
        self.options.get(&MESSAGE_TYPE)?.first().copied()
    }

    /// The one address that an option has.
    pub fn address_in(&self, option: u8) -> Option<Ipv4Addr> {
        Some(<[u8; 4]>::try_from(self.options.get(&option)?.as_slice()).ok()?.into())
    }

    /// Whether a Raspberry Pi boots by this answer.
    pub fn boots_pis(&self) -> bool {
        let vendor = self.options.get(&VENDOR);
        vendor.is_some_and(|value| value.windows(PI_BOOT.len()).any(|part| part == PI_BOOT))
    }

    /// Where files are: as option 66 says, else as the header says, else where the answer comes from.
    pub fn tftp_server(&self) -> Option<Ipv4Addr> {
        let text = self.options.get(&TFTP_SERVER).map(|value| String::from_utf8_lossy(value).into_owned());
        let named = text.and_then(|text| text.trim_end_matches('\0').parse().ok());
        let header = (!self.next_server.is_unspecified()).then_some(self.next_server);
        named.or(header).or_else(|| self.address_in(SERVER))
    }
}

/// A hardware address as bytes.
pub fn mac_bytes(mac: &str) -> Option<[u8; 6]> {
    let bytes: Result<Vec<u8>, _> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    bytes.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_its_bytes() {
        let mac = mac_bytes("dc:a6:32:00:00:01").unwrap();
        let message = Message::ask(7, mac, DISCOVER).with(CLASS, PXE_CLASS).with(VENDOR, *b"x");
        let bytes = message.bytes();
        assert_eq!(Message::parse(&bytes), Some(message));
        for length in 0..bytes.len() - 1 {
            // Half a message is none, or says less; it never ends the program.
            let _ = Message::parse(&bytes[..length]);
        }
        assert_eq!(Message::parse(&[0; 300]), None);
        assert_eq!(mac_bytes("dc:a6:32"), None);
    }

    #[test]
    fn an_answer_says_whether_and_from_where_to_boot() {
        let answer = Message::ask(7, [0; 6], OFFER).with(SERVER, [10, 0, 0, 9]);
        assert_eq!((answer.boots_pis(), answer.tftp_server()), (false, Some(Ipv4Addr::new(10, 0, 0, 9))));
        let answer = Message { next_server: Ipv4Addr::new(10, 0, 0, 2), ..answer };
        assert_eq!(answer.tftp_server(), Some(Ipv4Addr::new(10, 0, 0, 2)));
        let answer =
            answer.with(TFTP_SERVER, *b"10.0.0.1\0").with(VENDOR, *b"\x06\x01\x03Raspberry Pi Boot   ");
        assert_eq!((answer.boots_pis(), answer.tftp_server()), (true, Some(Ipv4Addr::new(10, 0, 0, 1))));
    }
}

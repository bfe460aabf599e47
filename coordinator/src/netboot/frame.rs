//! Ethernet frames as far as booting needs them: DHCP messages, and who says that an address is its own. Layouts: RFC 894, 791,
//! 768 and 826.

use super::dhcp::{CLIENT_PORT, Message, SERVER_PORT};
use std::net::Ipv4Addr;

const ETHERNET_BYTES: usize = 14;
const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const UDP: u8 = 17;
const UDP_BYTES: usize = 8;
/// An ARP packet about IPv4 over Ethernet begins so.
const ARP_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The hardware address that sent it.
    pub sender: [u8; 6],
    /// What it says.
    pub content: Content,
}

/// What frames are listened to for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A DHCP message, from this address.
    Dhcp(Ipv4Addr, Message),
    /// Somebody says that it has an address.
    Has(Ipv4Addr),
}

impl Frame {
    /// What these bytes say; none: nothing that booting needs.
    pub fn parse(bytes: &[u8]) -> Option<Frame> {
        let sender = bytes.get(6..12)?.try_into().ok()?;
        let kind = u16::from_be_bytes(bytes.get(12..ETHERNET_BYTES)?.try_into().ok()?);
        let rest = &bytes[ETHERNET_BYTES..];
        let content = match kind {
            TYPE_IPV4 => dhcp(rest)?,
            TYPE_ARP => has(rest)?,
            _ => return None,
        };
        Some(Frame { sender, content })
    }
}

fn dhcp(packet: &[u8]) -> Option<Content> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    if *packet.get(9)? != UDP {
        return None;
    }
    let sender = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?);
    let port =
        |at: usize| Some(u16::from_be_bytes(packet.get(header + at..header + at + 2)?.try_into().ok()?));
    let (from, to) = (port(0)?, port(2)?);
    let is_dhcp = |port| port == SERVER_PORT || port == CLIENT_PORT;
    if !is_dhcp(from) && !is_dhcp(to) {
        return None;
    }
    Some(Content::Dhcp(sender, Message::parse(packet.get(header + UDP_BYTES..)?)?))
}

fn has(packet: &[u8]) -> Option<Content> {
    if !packet.starts_with(&ARP_IPV4) {
        return None;
    }
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(14..18)?).ok()?);
    // Who only asks whether an address is free does not have it yet.
    (!address.is_unspecified()).then_some(Content::Has(address))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::dhcp::DISCOVER;
    use super::*;

    const SENDER: [u8; 6] = [0xdc, 0xa6, 0x32, 0, 0, 1];

    fn ethernet(kind: u16, rest: &[u8]) -> Vec<u8> {
        [&[0xff; 6][..], &SENDER, &kind.to_be_bytes(), rest].concat()
    }

    fn datagram(from: u16, message: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0];
        packet.extend([10, 0, 0, 9, 255, 255, 255, 255]);
        for number in [from, SERVER_PORT, 0, 0] {
            packet.extend(number.to_be_bytes());
        }
        packet.extend(message);
        ethernet(TYPE_IPV4, &packet)
    }

    #[test]
    fn dhcp_and_arp_are_understood_and_nothing_else() {
        let message = Message::ask(7, SENDER, DISCOVER);
        let bytes = datagram(CLIENT_PORT, &message.bytes());
        let content = Content::Dhcp(Ipv4Addr::new(10, 0, 0, 9), message.clone());
        assert_eq!(Frame::parse(&bytes), Some(Frame { sender: SENDER, content }));
        let arp = [&ARP_IPV4[..], &[0, 1], &SENDER, &[10, 0, 0, 11], &[0; 6], &[10, 0, 0, 1]].concat();
        let content = Content::Has(Ipv4Addr::new(10, 0, 0, 11));
        assert_eq!(Frame::parse(&ethernet(TYPE_ARP, &arp)), Some(Frame { sender: SENDER, content }));
        let probe = [&ARP_IPV4[..], &[0, 1], &SENDER, &[0; 4], &[0; 6], &[10, 0, 0, 1]].concat();
        for other in [
            ethernet(TYPE_ARP, &probe),
            ethernet(0x86dd, &arp),
            datagram(53, &message.bytes())[..60].to_vec(),
        ] {
            assert_eq!(Frame::parse(&other), None);
        }
        for length in 0..bytes.len() {
            // Half a frame never ends the program.
            let _ = Frame::parse(&bytes[..length]);
        }
    }
}

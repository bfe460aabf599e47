//! Asks a network as a Raspberry Pi does who would give it an address, and takes none: an offer that nobody takes is forgotten.

use crate::domain::network::Network;
use crate::netboot::dhcp::{
    ARCHITECTURE, CLASS, CLIENT_PORT, DISCOVER, Message, OFFER, PXE_CLASS, SERVER, SERVER_PORT, WANTED,
};
use rustix::net::sockopt::{set_socket_broadcast, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketAddrV4, SocketType, bind, socket};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// A server that has heard has answered by then: dnsmasq waits a second for boards that are slow to listen.
const ANSWERS_MAX: Duration = Duration::from_secs(3);
const LISTEN: Duration = Duration::from_millis(200);

/// What a server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Whether a Raspberry Pi boots by it.
    pub(super) boots_pis: bool,
    /// Where that looks for files.
    pub(super) tftp_server: Option<Ipv4Addr>,
}

/// The offers on `network` to a board with this hardware address, by server.
///
/// # Errors
/// When this is not root, or another program asks from the client's port.
pub(super) fn offers(network: &Network, mac: [u8; 6]) -> io::Result<BTreeMap<Ipv4Addr, Offer>> {
    let socket = client()?;
    let transaction = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]) ^ std::process::id();
    let question = Message::ask(transaction, mac, DISCOVER)
        .with(WANTED, [1, 3, 43, 60, 66, 67])
        .with(CLASS, PXE_CLASS)
        .with(ARCHITECTURE, [0, 0]);
    let mut offers = BTreeMap::new();
    let mut buffer = [0; 1500];
    // The address of everybody on this network leaves by its interface; that of everybody anywhere by the default route.
    socket.send_to(&question.bytes(), (network.broadcast(), SERVER_PORT))?;
    let until = crate::clock::now() + ANSWERS_MAX;
    while crate::clock::now() < until {
        let Ok((count, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some(answer) = Message::parse(&buffer[..count]) else { continue };
        if !answer.is_answer || answer.transaction != transaction || answer.kind() != Some(OFFER) {
            continue;
        }
        let std::net::IpAddr::V4(from) = from.ip() else { continue };
        let server = answer.address_in(SERVER).unwrap_or(from);
        offers.insert(server, Offer { boots_pis: answer.boots_pis(), tftp_server: answer.tftp_server() });
    }
    Ok(offers)
}

/// A client's socket, which hears what is sent to everybody.
fn client() -> io::Result<UdpSocket> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    set_socket_reuseaddr(&socket, true)?;
    set_socket_broadcast(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(LISTEN))?;
    Ok(socket)
}

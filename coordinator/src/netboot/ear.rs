//! Hears DHCP and ARP on an interface, whoever is meant: a packet socket with a filter in the kernel, because the server's
//! port is dnsmasq's. It sends nothing.

use super::frame::Frame;
use super::overhear::{Overhearer, Rack};
use crate::clock;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io::{self, ErrorKind, Read as _};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Linux's number for frames of all protocols, sent ones among them.
const ALL: u16 = 0x0003;
/// How often an interface that went away, or came as another one, is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The longest frame that is looked at. DHCP messages are shorter.
const FRAME_BYTES_MAX: usize = 2048;

/// Listens until the program ends, also on an interface that comes later.
pub async fn listen<R: Rack>(mut overhearer: Overhearer<R>) {
    let interface = overhearer.network().interface.clone();
    let mut told = None;
    loop {
        let ended = match open(&interface) {
            Ok((socket, index)) => {
                tracing::info!(interface, "DHCP is listened to");
                told = None;
                hear(&socket, &interface, index, &mut overhearer).await
            }
            Err(error) => error,
        };
        // An interface that is away is told of once.
        if told != Some(ended.kind()) {
            tracing::warn!(
                interface, error = %ended,
                "DHCP is not listened to: what a node's firmware asks before its files, foreign servers and address \
                 conflicts are not seen; it needs the interface, and the right to open packet sockets (CAP_NET_RAW)"
            );
        }
        told = Some(ended.kind());
        clock::sleep_until(clock::now() + LOOK_EVERY).await;
    }
}

/// Hears until the interface is gone or another one, and says so.
async fn hear<R: Rack>(
    socket: &UdpSocket,
    interface: &str,
    index: u32,
    overhearer: &mut Overhearer<R>,
) -> io::Error {
    let mut buffer = [0; FRAME_BYTES_MAX];
    loop {
        match tokio::time::timeout(LOOK_EVERY, socket.recv(&mut buffer)).await {
            Ok(Ok(count)) => {
                if let Some(frame) = Frame::parse(&buffer[..count]) {
                    overhearer.heard(&frame, clock::unix_ms());
                }
            }
            Ok(Err(error)) => return error,
            Err(_) => match index_of(interface) {
                Ok(now) if now == index => {}
                Ok(_) => return io::Error::new(ErrorKind::NotFound, "the interface was replaced"),
                Err(error) => return error,
            },
        }
    }
}

fn open(interface: &str) -> io::Result<(UdpSocket, u32)> {
    let index = index_of(interface)?;
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ALL.to_be()))))?;
    socket.set_nonblocking(true)?;
    socket.attach_filter(&filter(index))?;
    // What came before the filter may be anything.
    let mut buffer = [0; FRAME_BYTES_MAX];
    while (&socket).read(&mut buffer).is_ok() {}
    // The runtime knows sockets of datagrams by this name only; a frame is received like one.
    Ok((UdpSocket::from_std(socket.into())?, index))
}

fn index_of(interface: &str) -> io::Result<u32> {
    let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(name_to_index(&any, interface)?)
}

/// Lets through what was on this interface and is DHCP, or is ARP that others sent. Instructions and ancillary words: the kernel's
/// Documentation/networking/filter.rst.
fn filter(index: u32) -> [SockFilter; 19] {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF_FROM_X: u16 = 0x48;
    const HEADER_LENGTH_TO_X: u16 = 0xb1;
    const IF_EQUAL: u16 = 0x15;
    const IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const ANCILLARY: u32 = 0xffff_f000;
    const PACKET_TYPE: u32 = ANCILLARY + 4;
    const INTERFACE: u32 = ANCILLARY + 8;
    const OUTGOING: u32 = 4;
    // Operation, how far to go on when it is true, and when it is not, operand.
    [
        SockFilter::new(LOAD_WORD, 0, 0, INTERFACE),
        SockFilter::new(IF_EQUAL, 0, 16, index),
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(IF_EQUAL, 11, 0, 0x0806),
        SockFilter::new(IF_EQUAL, 0, 13, 0x0800),
        SockFilter::new(LOAD_BYTE, 0, 0, 23),
        SockFilter::new(IF_EQUAL, 0, 11, 17),
        SockFilter::new(LOAD_HALF, 0, 0, 20),
        SockFilter::new(IF_ANY_BIT, 9, 0, 0x1fff),
        SockFilter::new(HEADER_LENGTH_TO_X, 0, 0, 14),
        SockFilter::new(LOAD_HALF_FROM_X, 0, 0, 14),
        SockFilter::new(IF_EQUAL, 5, 0, 67),
        SockFilter::new(IF_EQUAL, 4, 0, 68),
        SockFilter::new(LOAD_HALF_FROM_X, 0, 0, 16),
        SockFilter::new(IF_EQUAL, 2, 3, 67),
        SockFilter::new(LOAD_WORD, 0, 0, PACKET_TYPE),
        SockFilter::new(IF_EQUAL, 1, 0, OUTGOING),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

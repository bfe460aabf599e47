//! The sockets of the server: where questions come in, with the address that was asked, and one for each answer, from that
//! address.

use super::packet::REQUEST_BYTES_MAX;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::SockRef;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// What the kernel keeps of questions that were not looked at yet, in bytes, as far as it allows.
const QUEUE_BYTES: usize = 1 << 20;

/// Where questions come in.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UdpSocket,
}

/// A datagram.
#[derive(Debug)]
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a [u8],
    /// Who sent it.
    pub(super) client: SocketAddr,
    /// To which of our addresses.
    pub(super) local: IpAddr,
}

/// Room for one, and for a byte that shows that it was longer than a request may be.
pub(super) type Buffer = [u8; REQUEST_BYTES_MAX + 1];

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Listener> {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        // With less, boards ask again sooner.
        let _ = SockRef::from(&socket).set_recv_buffer_size(QUEUE_BYTES);
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(Listener { socket: UdpSocket::from_std(socket)? })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The same socket, for filters.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(super) fn duplicate(&self) -> io::Result<std::net::UdpSocket> {
        Ok(SockRef::from(&self.socket).try_clone()?.into())
    }

    /// The next datagram; none: one that is nobody's question.
    ///
    /// # Errors
    /// When the socket fails.
    pub(super) async fn receive<'a>(&self, buffer: &'a mut Buffer) -> io::Result<Option<Datagram<'a>>> {
        let read = || receive_from(&self.socket, buffer);
        let (count, client, local) = self.socket.async_io(Interest::READABLE, read).await?;
        let (Some(client), Some(local)) = (client, local) else { return Ok(None) };
        Ok(Some(Datagram { bytes: &buffer[..count], client, local }))
    }
}

type Received = (usize, Option<SocketAddr>, Option<IpAddr>);

fn receive_from(socket: &UdpSocket, buffer: &mut Buffer) -> io::Result<Received> {
    let mut space = nix::cmsg_space!(libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    let local = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let [asked, own] =
                [info.ipi_addr, info.ipi_spec_dst].map(|a| Ipv4Addr::from(u32::from_be(a.s_addr)));
            // Who asks everybody gets no answer (RFC 1123, section 4.2.3.4).
            (asked == own).then_some(IpAddr::V4(own))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let own = IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical();
            (!own.is_multicast()).then_some(own)
        }
        _ => None,
    });
    let client = message.address.as_ref().and_then(address_of);
    Ok((message.bytes, client, local))
}

/// As an address that one could send to; IPv4 as IPv4 even where a socket of IPv6 heard it.
fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let address = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(address), _) => SocketAddr::from((address.ip(), address.port())),
        (_, Some(address)) => match address.ip().to_canonical() {
            IpAddr::V4(ip) => (ip, address.port()).into(),
            IpAddr::V6(ip) => {
                std::net::SocketAddrV6::new(ip, address.port(), address.flowinfo(), address.scope_id()).into()
            }
        },
        _ => return None,
    };
    (address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()).then_some(address)
}

/// A socket that speaks from `local` to `client` alone, from a port of its own (RFC 1350, section 4). Whatever others send
/// there the kernel refuses, and it tells when the client's port is closed.
///
/// # Errors
/// When `client` cannot be spoken to, such as a broadcast address, or no descriptor is left.
pub(super) fn answering(local: IpAddr, client: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let scope = match client {
        SocketAddr::V6(client) => client.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let local = match local {
        IpAddr::V4(local) => SocketAddr::from((local, 0)),
        IpAddr::V6(local) => std::net::SocketAddrV6::new(local, 0, 0, scope).into(),
    };
    let socket = std::net::UdpSocket::bind(local)?;
    socket.set_nonblocking(true)?;
    socket.connect(client)?;
    Ok(socket)
}

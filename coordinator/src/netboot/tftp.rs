//! The TFTP server: read requests with blksize, tsize and timeout, answered by the [`Desk`]. "Not found" is said at once,
//! because a firmware goes on to the next thing only then.
//!
//! What is asked, and for whom, is decided at the desk; transfers are `async-tftp`'s.

use super::desk::{Answer, Desk, House};
use super::neighbour;
use crate::clock;
use async_tftp::packet;
use async_tftp::server::{Handler, TftpServer, TftpServerBuilder};
use blocking::Unblock;
use futures_util::io::{AsyncRead, Cursor, Sink};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// How long an acknowledgement may take before a block is sent again, and how often it is.
const RESEND_AFTER: Duration = Duration::from_secs(1);
const RESENDS_MAX: u32 = 10;
/// What is read from the disk at once, in bytes.
const READ_BYTES: usize = 256 << 10;
/// Where nobody listens: a datagram there makes the kernel ask for the hardware address.
const DISCARD_PORT: u16 = 9;
/// How often, and how long apart, the neighbour table is looked at for the answer.
const LOOKS: usize = 20;
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A server that is bound and answers nobody yet.
pub struct Server<H: House> {
    server: TftpServer<Handing<H>>,
    address: SocketAddr,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen for TFTP at {address} (UDP)")]
pub struct TftpError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl<H: House> Server<H> {
    /// Binds `address` for `desk`.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub async fn bind(address: SocketAddr, desk: Desk<H>) -> Result<Server<H>, TftpError> {
        let wrong = |source| TftpError { address, source };
        let socket = UdpSocket::bind(address).map_err(wrong)?;
        let bound = socket.local_addr().map_err(wrong)?;
        let builder = TftpServerBuilder::with_handler(Handing { desk: Arc::new(Mutex::new(desk)) });
        let server = builder.std_socket(socket).map_err(|error| wrong(io::Error::other(error)))?;
        let server = server.timeout(RESEND_AFTER).max_send_retries(RESENDS_MAX).build().await;
        Ok(Server { server: server.map_err(|error| wrong(io::Error::other(error)))?, address: bound })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the socket fails; why it did.
    pub async fn serve(self) -> TftpError {
        let source = match self.server.serve().await {
            Ok(()) => io::ErrorKind::UnexpectedEof.into(),
            Err(error) => io::Error::other(error),
        };
        TftpError { address: self.address, source }
    }
}

struct Handing<H> {
    desk: Arc<Mutex<Desk<H>>>,
}

fn lock<H>(desk: &Mutex<Desk<H>>) -> MutexGuard<'_, Desk<H>> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H: House> Handler for Handing<H> {
    type Reader = Sending;
    type Writer = Sink;

    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> Result<(Sending, Option<u64>), packet::Error> {
        let mac = mac_of(client.ip()).await;
        let name = path.to_str().unwrap_or_default();
        let answer = lock(&self.desk).answer(client.ip(), mac.as_deref(), name, clock::now());
        tracing::debug!(address = %client.ip(), mac, name, ?answer, "TFTP");
        match answer {
            Answer::File(path, kernel_of) => {
                let told = kernel_of.map(|serial| {
                    let desk = self.desk.clone();
                    Box::new(move || lock(&desk).kernel_sent(serial)) as Told
                });
                file(&path, told)
            }
            Answer::Text(text) => {
                let bytes = text.into_bytes();
                let size = bytes.len() as u64;
                Ok((Sending { body: Body::Text(Cursor::new(bytes)), told: None }, Some(size)))
            }
            Answer::NotFound => Err(packet::Error::FileNotFound),
            Answer::Refused => Err(packet::Error::PermissionDenied),
        }
    }

    async fn write_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
        _: Option<u64>,
    ) -> Result<Sink, packet::Error> {
        tracing::warn!(address = %client.ip(), name = %path.display(), "refused: nobody writes here");
        Err(packet::Error::PermissionDenied)
    }
}

fn file(path: &Path, told: Option<Told>) -> Result<(Sending, Option<u64>), packet::Error> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    match opened {
        Ok((size, file)) => {
            let body = Body::File(Unblock::with_capacity(READ_BYTES, file));
            Ok((Sending { body, told }, Some(size)))
        }
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a file that nodes boot from cannot be read");
            Err(packet::Error::FileNotFound)
        }
    }
}

/// The hardware address of whoever asked. Who learned ours from a DHCP server's answer never asked for it, and is in
/// the kernel's table only after we sent something.
async fn mac_of(address: IpAddr) -> Option<String> {
    if let Some(mac) = neighbour::mac_of(address) {
        return Some(mac);
    }
    let any: SocketAddr = match address {
        IpAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    // The datagram itself is nothing to anybody.
    let _ = socket.send_to(&[], (address, DISCARD_PORT));
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(mac) = neighbour::mac_of(address) {
            return Some(mac);
        }
    }
    None
}

type Told = Box<dyn FnOnce() + Send + Sync>;

/// What is being sent.
struct Sending {
    body: Body,
    /// Called once everything was read to be sent.
    told: Option<Told>,
}

enum Body {
    File(Unblock<File>),
    Text(Cursor<Vec<u8>>),
}

impl AsyncRead for Sending {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = match &mut self.body {
            Body::File(file) => Pin::new(file).poll_read(context, buffer),
            Body::Text(text) => Pin::new(text).poll_read(context, buffer),
        };
        if let Poll::Ready(Ok(0)) = read
            && let Some(told) = self.told.take()
        {
            told();
        }
        read
    }
}

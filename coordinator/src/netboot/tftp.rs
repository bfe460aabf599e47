//! The TFTP server: read requests with blksize, tsize and timeout, answered by the [`Desk`]. "Not found" is said at once,
//! because a firmware goes on to the next thing only then.
//!
//! What is asked, and for whom, is decided at the desk; transfers are `async-tftp`'s.

use super::desk::{Answer, Desk, House, ServedFile};
use super::silence::Silence;
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
use std::sync::Arc;
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
    silence: Silence,
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
    /// Binds `address` for `desk`; `mac_of` knows the hardware addresses of neighbours.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub async fn bind(address: SocketAddr, desk: Desk<H>, mac_of: MacOf) -> Result<Server<H>, TftpError> {
        let wrong = |source| TftpError { address, source };
        let socket = UdpSocket::bind(address).map_err(wrong)?;
        let bound = socket.local_addr().map_err(wrong)?;
        let silence = Silence::of(socket.try_clone().map_err(wrong)?);
        let builder = TftpServerBuilder::with_handler(Handing { desk: Arc::new(desk), mac_of });
        let server = builder.std_socket(socket).map_err(|error| wrong(io::Error::other(error)))?;
        let server = server.timeout(RESEND_AFTER).max_send_retries(RESENDS_MAX).build().await;
        let server = server.map_err(|error| wrong(io::Error::other(error)))?;
        Ok(Server { server, address: bound, silence })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who is not answered.
    pub fn silence(&self) -> Silence {
        self.silence.clone()
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

/// Knows the hardware address of a neighbour.
type MacOf = fn(IpAddr) -> Option<String>;

struct Handing<H> {
    desk: Arc<Desk<H>>,
    mac_of: MacOf,
}

impl<H: House> Handler for Handing<H> {
    type Reader = Sending;
    type Writer = Sink;

    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> Result<(Sending, Option<u64>), packet::Error> {
        let mac = mac_of(self.mac_of, client.ip()).await;
        let name = path.to_str().unwrap_or_default();
        let answer = self.desk.answer(client.ip(), mac.as_deref(), name, clock::now());
        tracing::debug!(address = %client.ip(), mac, name, ?answer, "TFTP");
        match answer {
            Answer::File(ServedFile { path, node, is_kernel }) => {
                let (desk, served) = (self.desk.clone(), ServedFile { path: path.clone(), node, is_kernel });
                file(&path, Some(Box::new(move || desk.sent(&served, clock::now()))))
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
async fn mac_of(table: MacOf, address: IpAddr) -> Option<String> {
    if let Some(mac) = table(address) {
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
        if let Some(mac) = table(address) {
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

#[cfg(test)]
mod tests {
    use super::super::boot_root::Whom;
    use super::*;
    use crate::credentials::Credentials;
    use crate::machine::event::Asked;
    use crate::netboot::desk::Known;
    use crate::netboot::question::Whose;
    use crate::netboot::view::View;
    use crate::netboot::{BootRoots, CardFiles, CommandLines, Strangers};
    use piseduce_protocol::id::{BootNumber, Serial};
    use piseduce_protocol::seal::SiteKey;
    use piseduce_protocol::topic::Site;
    use std::fs;
    use std::sync::Mutex;

    const MAC: &str = "dc:a6:32:00:00:01";

    struct One(Arc<Mutex<Vec<Asked>>>);

    impl House for One {
        fn nodes(&self, whose: &Whose) -> Vec<Known> {
            let known = Known {
                name: "pi-1".into(),
                model: "Raspberry Pi 4 Model B".into(),
                serial: Serial(0xab),
                mac: MAC.into(),
                boot: BootNumber(1),
                view: View::Hold,
                card: None,
            };
            if *whose == Whose::Serial(0xab) { vec![known] } else { vec![] }
        }
        fn asked(&self, _: Serial, asked: Asked) {
            self.0.lock().unwrap().push(asked);
        }
    }

    fn request(name: &str, options: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        for word in [name, "octet"].iter().chain(options) {
            bytes.extend(word.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// A whole transfer; the options that were agreed to come first, then the content; or the error's number.
    fn fetch(server: SocketAddr, name: &str, options: &[&str]) -> Result<(Vec<u8>, Vec<u8>), u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send_to(&request(name, options), server).unwrap();
        let (mut agreed, mut content, mut packet) = (vec![], vec![], [0; 2000]);
        loop {
            let (count, from) = socket.recv_from(&mut packet).unwrap();
            match packet[1] {
                6 => {
                    agreed = packet[2..count].to_vec();
                    socket.send_to(&[0, 4, 0, 0], from).unwrap();
                }
                3 => {
                    content.extend(&packet[4..count]);
                    socket.send_to(&[0, 4, packet[2], packet[3]], from).unwrap();
                    let full = if options.is_empty() { 512 } else { 1024 };
                    if count - 4 < full {
                        return Ok((agreed, content));
                    }
                }
                5 => return Err(packet[3]),
                other => panic!("packet {other}"),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_are_sent_in_the_blocks_that_were_asked_for_and_everything_else_is_refused_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let files = scratch.path().join("one/files");
        fs::create_dir_all(&files).unwrap();
        let kernel: Vec<u8> = (0..100_000u32).map(|number| (number % 251) as u8).collect();
        fs::write(files.join("kernel8.img"), &kernel).unwrap();
        let description = serde_json::json!({
            "schema": 1, "version": "one", "kind": "ram", "command_line": "panic=10", "packages": {}, "agent": "1",
            "files": { "kernel8.img": { "bytes": 1, "blake3": "" } },
        });
        fs::write(scratch.path().join("one/boot-root.json"), description.to_string()).unwrap();
        let roots = BootRoots::at(scratch.path().into(), None);
        roots.choose("one", &Whom::All).unwrap();
        let lines = CommandLines {
            site: Site::new("main").unwrap(),
            broker: String::new(),
            head: String::new(),
            agents: None,
            credentials: Credentials::new(SiteKey([7; 32])),
        };
        let asked = Arc::new(Mutex::new(vec![]));
        let cards = CardFiles::at(scratch.path().join("card-files"));
        let desk = Desk::new(One(asked.clone()), roots, cards, Strangers::default(), Arc::new(lines));
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), desk, |_| Some(MAC.into())).await.unwrap();
        let address = server.address();
        let serving = tokio::spawn(server.serve());
        let fetching = tokio::task::spawn_blocking(move || {
            let (agreed, content) =
                fetch(address, "000000ab/kernel8.img", &["tsize", "0", "blksize", "1024"]).unwrap();
            let agreed = String::from_utf8(agreed).unwrap().replace('\0', " ");
            assert!(agreed.contains("blksize 1024 ") && agreed.contains("tsize 100000 "), "{agreed}");
            assert_eq!(content, kernel);
            assert_eq!(fetch(address, "000000ab/kernel8.img", &[]).unwrap().1, kernel);
            assert_eq!(fetch(address, "000000ab/cmdline.txt", &[]).unwrap().1, b"panic=10\n");
            assert_eq!(fetch(address, "000000ab/start4.elf", &[]), Err(1));
            assert_eq!(fetch(address, "000000ac/kernel8.img", &[]), Err(1));
            assert_eq!(fetch(address, "000000ab/../one/boot-root.json", &[]), Err(2));
        });
        fetching.await.unwrap();
        serving.abort();
        let asked = asked.lock().unwrap();
        assert_eq!(asked.iter().filter(|asked| **asked == Asked::Kernel).count(), 2, "{asked:?}");
    }
}

//! Takes questions, finds out who asks and what that board gets, and begins transfers. Nothing here waits for somebody else's
//! answer: each question is a task of its own, and what may wait for a disk runs beside the runtime.

use super::super::desk::{Answer, Desk, House, ServedFile};
use super::super::log_limit::LogLimit;
use super::super::silence::Silence;
use super::content::{Content, OpenFiles};
use super::neighbours::{Neighbour, Neighbours, Table};
use super::packet::{ReadRequest, Refusal, Request};
use super::seats::{Peer, Question, Seats};
use super::sending::{End, send};
use super::socket::{Buffer, Datagram, Listener, answering};
use super::transfer::Terms;
use crate::clock;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// So many questions are at the desk, and maybe wait for the disk, at once.
const AT_DESK_MAX: usize = 64;
/// For how long, and how often, the desk is asked again for what it answers later.
const LATER_MAX: Duration = Duration::from_secs(1);
const LATER_EVERY: Duration = Duration::from_millis(20);
/// After an error that may pass, such as no memory for a moment.
const PAUSE: Duration = Duration::from_millis(10);

/// A server that is bound and answers nobody yet.
pub struct Server<H: House> {
    listeners: Vec<(SocketAddr, Listener)>,
    silence: Silence,
    service: Arc<Service<H>>,
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
    /// Binds `addresses` for `desk`; `table` knows the hardware addresses of neighbours. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// When one of them cannot be bound.
    pub fn bind(addresses: &[SocketAddr], desk: Desk<H>, table: Table) -> Result<Server<H>, TftpError> {
        let mut listeners = Vec::new();
        let mut sockets = Vec::new();
        for address in addresses {
            let wrong = |source| TftpError { address: *address, source };
            let listener = Listener::bind(*address).map_err(wrong)?;
            sockets.push(listener.duplicate().map_err(wrong)?);
            listeners.push((listener.address().map_err(wrong)?, listener));
        }
        Ok(Server { listeners, silence: Silence::of(sockets), service: Arc::new(Service::new(desk, table)) })
    }

    /// Where it listens.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|(address, _)| *address)
    }

    /// Who is not answered.
    pub fn silence(&self) -> Silence {
        self.silence.clone()
    }

    /// Answers until a socket fails; why it did.
    ///
    /// # Panics
    /// When there is no address to listen at.
    pub async fn serve(self) -> TftpError {
        let mut listening = JoinSet::new();
        for (address, listener) in self.listeners {
            let service = self.service.clone();
            listening.spawn(async move { TftpError { address, source: listen(&listener, &service).await } });
        }
        let first = listening.join_next().await.expect("a server has an address");
        first.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

/// Takes questions until the socket fails.
async fn listen<H: House>(listener: &Listener, service: &Arc<Service<H>>) -> io::Error {
    let mut buffer: Buffer = [0; _];
    loop {
        match listener.receive(&mut buffer).await {
            Ok(Some(datagram)) => service.take(&datagram),
            Ok(None) => {}
            Err(error) if is_passing(&error) => tokio::time::sleep(PAUSE).await,
            Err(error) => return error,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable, OutOfMemory,
    };
    let passing =
        [Interrupted, OutOfMemory, ConnectionRefused, HostUnreachable, NetworkUnreachable, NetworkDown];
    passing.contains(&error.kind())
}

/// What all questions share.
struct Service<H> {
    desk: Desk<H>,
    neighbours: Neighbours,
    files: OpenFiles,
    seats: Seats,
    at_desk: Semaphore,
    log: LogLimits,
}

/// Lines that a stranger can cause.
#[derive(Default)]
struct LogLimits {
    writes: LogLimit,
    too_many: LogLimit,
    no_answer: LogLimit,
}

impl<H: House> Service<H> {
    fn new(desk: Desk<H>, table: Table) -> Service<H> {
        Service {
            desk,
            neighbours: Neighbours::new(table),
            files: OpenFiles::default(),
            seats: Seats::default(),
            at_desk: Semaphore::new(AT_DESK_MAX),
            log: LogLimits::default(),
        }
    }

    /// Takes a datagram in, without waiting for anything.
    fn take(self: &Arc<Self>, datagram: &Datagram<'_>) {
        let peer = Peer { local: datagram.local, client: datagram.client };
        match Request::parse(datagram.bytes) {
            None => {}
            Some(Request::Refused(why)) => self.refuse(peer, why),
            Some(Request::Write) => {
                if let Some(left_out) = self.log.writes.admit(clock::now()) {
                    tracing::warn!(client = %peer.client, left_out, "refused: nobody writes here");
                }
                self.refuse(peer, Refusal::Forbidden);
            }
            Some(Request::Read(read)) => match self.seats.ask(peer) {
                Some(question) => drop(tokio::spawn(self.clone().answer(question, peer, read))),
                None => {
                    if let Some(left_out) = self.log.too_many.admit(clock::now()) {
                        tracing::warn!(client = %peer.client, left_out, "too many questions at once: one gets no answer");
                    }
                }
            },
        }
    }

    fn refuse(&self, peer: Peer, why: Refusal) {
        match answering(peer.local, peer.client) {
            // It may get lost like any packet.
            Ok(socket) => drop(socket.send(&why.bytes())),
            Err(error) => self.no_answer(peer, &error),
        }
    }

    fn no_answer(&self, peer: Peer, error: &io::Error) {
        if let Some(left_out) = self.log.no_answer.admit(clock::now()) {
            tracing::warn!(client = %peer.client, %error, left_out, "cannot be answered");
        }
    }

    async fn answer(self: Arc<Self>, question: Question, peer: Peer, read: ReadRequest) {
        let address = peer.client.ip();
        let mac = match self.neighbours.find(address, || self.desk.expects(address)).await {
            Neighbour::Known(mac) => Some(mac),
            Neighbour::Unknown => None,
            Neighbour::Unclear => return,
        };
        let ReadRequest { name, options } = read;
        let asked_until = clock::now() + LATER_MAX;
        let (answer, content) = loop {
            match self.clone().ask_desk(peer, mac.clone(), name.clone()).await {
                // A firmware that gets no answer asks again.
                (Answer::Later, _) if clock::now() >= asked_until => return,
                (Answer::Later, _) => tokio::time::sleep(LATER_EVERY).await,
                answered => break answered,
            }
        };
        let content = match content {
            Ok(content) => content,
            Err(why) => {
                question.refuse();
                return self.refuse(peer, why);
            }
        };
        let client = mac.unwrap_or_else(|| address.to_string());
        let Some(seat) = question.seat(&client, &answer) else { return };
        drop(question);
        let socket = match answering(peer.local, peer.client).and_then(UdpSocket::from_std) {
            Ok(socket) => socket,
            Err(error) => return self.no_answer(peer, &error),
        };
        let terms = Terms::of(&options, content.bytes());
        match (send(&socket, terms, content, &seat.control).await, answer) {
            (Ok(End::Whole), Answer::File(file)) => self.desk.sent(&file, clock::now()),
            (Err(error), Answer::File(file)) => unreadable(&file, &error),
            _ => {}
        }
    }

    /// What the desk says, and what is to be sent for it.
    async fn ask_desk(
        self: Arc<Self>,
        peer: Peer,
        mac: Option<String>,
        name: String,
    ) -> (Answer, Result<Content, Refusal>) {
        let service = self.clone();
        let permit = self.at_desk.acquire().await.expect("it is never closed");
        let asking = tokio::task::spawn_blocking(move || {
            let answer = service.desk.answer(peer.client.ip(), mac.as_deref(), &name, clock::now());
            tracing::debug!(client = %peer.client, mac, name, ?answer, "TFTP");
            let content = service.content(&answer);
            (answer, content)
        });
        let asked = asking.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        drop(permit);
        asked
    }

    /// What is sent for an answer. Waits for the disk.
    fn content(&self, answer: &Answer) -> Result<Content, Refusal> {
        match answer {
            Answer::Text(text) => Ok(Content::Text(text.as_bytes().into())),
            Answer::File(file) => self.files.open(&file.path).map_err(|error| {
                unreadable(file, &error);
                Refusal::NotFound
            }),
            Answer::NotFound | Answer::Later => Err(Refusal::NotFound),
            Answer::Refused => Err(Refusal::Forbidden),
        }
    }
}

fn unreadable(file: &ServedFile, error: &io::Error) {
    tracing::error!(path = %file.path.display(), %error, "a file that nodes boot from cannot be read");
}

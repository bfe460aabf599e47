//! One client's session, from its CONNACK to its end: moves bytes between socket and router, keeps the clocks and the
//! will. What the packets mean is `conversation`'s.
//!
//! One task does it all, so that there is no writer to stop before the router is told of the end, and nothing shared.

use super::backlog::{Backlog, Consuming};
use super::conversation::{self, Conversation, Violation};
use super::handshake::{Guest, connack};
use super::identity::Identity;
use super::mailboxes::Mailbox;
use super::pace::{Cost, Pace};
use super::router::{Line, LineSender, RouterGone};
use super::seats::{Farewell, Seat};
use super::wire::{self, Incoming, Message, WireError};
use crate::clock;
use bytes::BytesMut;
use piseduce_protocol::MESSAGE_BYTES_MAX;
use rumqttd::protocol::{ConnectReturnCode, Packet};
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::select;
use tokio::time::sleep;

/// The longest packet, in bytes after its fixed header: the longest message, and 1 KiB for its topic and packet id.
const PACKET_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 1024;

/// How much is read at once. An agent's messages are shorter.
const READ_BYTES: usize = 2048;

/// With so many bytes waiting for the client, messages stay in the router.
const MESSAGES_WAITING_BYTES: usize = 64 * 1024;

/// With so many, more than messages alone can be, it is not listened to either: it does not fetch its answers.
const OUTPUT_WAITING_BYTES: usize = 256 * 1024;

/// What all sessions of a gate share.
pub(super) struct House {
    /// The longest time without a byte taken by a client, while some wait for it.
    pub(super) write_limit: Duration,
    /// The longest time without a packet from a client that asked for no keep-alive.
    pub(super) silence_limit: Duration,
    /// What agents have said and the coordinator has not taken yet.
    pub(super) reports: Arc<Backlog>,
    /// What the coordinator has said and is in no mailbox yet.
    pub(super) commands: Arc<Backlog>,
    /// The way of all messages to the router.
    pub(super) publisher: LineSender,
}

/// How a session hears of the router.
pub(super) enum Route {
    /// By a line of its own.
    Line(Line),
    /// By the line of all agents.
    Mailbox(Mailbox),
}

impl Route {
    /// Resolves when the client can no longer get all that is meant for it.
    fn overrun(&mut self) -> impl Future<Output = ()> + use<> {
        let overrun = match self {
            Route::Line(_) => None,
            Route::Mailbox(mailbox) => Some(mailbox.overrun()),
        };
        async move {
            match overrun {
                Some(overrun) => overrun.await,
                None => std::future::pending().await,
            }
        }
    }

    async fn next(&mut self) -> Result<Packet, End> {
        match self {
            Route::Line(line) => Ok(line.next().await?),
            Route::Mailbox(mailbox) => {
                mailbox.next().await.map(|message| Packet::Publish(message, None)).ok_or(End::Stalled)
            }
        }
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("client disconnected")]
    GoodBye,
    #[error("connection was closed without DISCONNECT")]
    Closed,
    #[error("connection broke")]
    Socket(#[from] io::Error),
    #[error("client was silent for longer than its keep-alive time allows")]
    Silent,
    #[error("client did not take what was sent to it")]
    Stalled,
    #[error("a newer connection took over")]
    TakenOver,
    #[error("boot is no longer live")]
    BootOver,
    #[error("client does not speak MQTT")]
    Wire(#[from] WireError),
    #[error("client broke the rules")]
    Violation(#[from] Violation),
    #[error(transparent)]
    RouterGone(#[from] RouterGone),
}

impl From<Farewell> for End {
    fn from(farewell: Farewell) -> Self {
        match farewell {
            Farewell::TakenOver => End::TakenOver,
            Farewell::BootOver => End::BootOver,
        }
    }
}

impl End {
    fn log(&self) {
        let cause = self as &(dyn Error + 'static);
        match self {
            End::Wire(_) | End::Violation(_) => tracing::warn!(cause, "closed"),
            _ => tracing::info!(cause, "closed"),
        }
    }
}

/// A session. Its fields are dropped in this order, also when its task is: first the router learns of the end, last
/// the seat is free for the next one.
pub(super) struct Session {
    route: Route,
    /// What the coordinator takes of what agents say.
    consuming: Option<Consuming>,
    reports: Arc<Backlog>,
    commands: Arc<Backlog>,
    publisher: LineSender,
    socket: TcpStream,
    input: BytesMut,
    output: BytesMut,
    conversation: Conversation,
    /// None for the coordinator, who is not a stranger.
    pace: Option<Pace>,
    will: Option<Message>,
    identity: Identity,
    /// The longest time without a packet from the client, whatever is sent to it.
    silence_limit: Duration,
    write_limit: Duration,
    seat: Seat,
}

/// Something that the client or the router did.
enum Event {
    Read(usize),
    Wrote,
    Routed,
}

impl Session {
    /// The session of `guest`. In `input` is what it sent after its CONNECT already.
    pub(super) fn new(
        socket: TcpStream,
        input: BytesMut,
        guest: Guest,
        seat: Seat,
        route: Route,
        house: &House,
    ) -> Self {
        let Guest { access, keep_alive, will, .. } = guest;
        let is_coordinator = access.identity == Identity::Coordinator;
        let mut output = BytesMut::new();
        connack(ConnectReturnCode::Success, &mut output);
        Session {
            route,
            consuming: None,
            reports: Arc::clone(&house.reports),
            commands: Arc::clone(&house.commands),
            publisher: house.publisher.clone(),
            socket,
            input,
            output,
            pace: (!is_coordinator).then(|| Pace::new(clock::now())),
            will,
            identity: access.identity.clone(),
            conversation: Conversation::new(access),
            silence_limit: match keep_alive {
                0 => house.silence_limit,
                seconds => Duration::from_secs(seconds.into()) * 3 / 2,
            },
            write_limit: house.write_limit,
            seat,
        }
    }

    /// Runs the session to its end; publishes its will then, unless the client said good-bye.
    pub(super) async fn run(mut self) {
        tracing::info!("connected");
        let Err(end) = self.converse().await;
        end.log();
        let will = self.will.take().filter(|_| !matches!(end, End::GoodBye));
        if let Some(packet) = will.and_then(conversation::routed) {
            // A router that is gone has nobody left to tell.
            let _ = self.hand_over(packet).await;
        }
    }

    /// Sends a packet to the router; a message only when its consumer is not too far behind.
    async fn hand_over(&mut self, packet: Packet) -> Result<(), RouterGone> {
        if let Packet::Publish(message, _) = &packet
            && let Ok(topic) = std::str::from_utf8(&message.topic)
        {
            // The coordinator must not wait for itself.
            let backlog = match self.identity {
                Identity::Coordinator => &self.commands,
                Identity::Agent { .. } | Identity::Monitor { .. } => &self.reports,
            };
            backlog.admit(topic, message.payload.len()).await;
            return self.publisher.send(packet).await;
        }
        match &mut self.route {
            Route::Line(line) => line.send(packet).await,
            // What an agent subscribes to, the router sends already.
            Route::Mailbox(_) => Ok(()),
        }
    }

    /// What the router has for the client.
    fn tell(&mut self, packet: Packet) {
        let is_coordinator = self.identity == Identity::Coordinator;
        if let (Packet::Publish(message, _), Some(consuming)) = (&packet, &self.consuming)
            && let Ok(topic) = std::str::from_utf8(&message.topic)
        {
            consuming.took(topic, message.payload.len());
        }
        let changed = matches!(packet, Packet::SubAck(..) | Packet::UnsubAck(..));
        self.conversation.tell(packet, &mut self.output);
        if changed && is_coordinator {
            self.consuming = Some(self.reports.consume(self.conversation.routes()));
        }
    }

    /// How long the client must wait until its next packet is looked at.
    fn wait(&mut self) -> Option<Duration> {
        self.pace.as_mut().and_then(|pace| pace.wait(clock::now()))
    }

    /// Takes what the client has sent, as far as it may go on already; how long it must wait if it may not.
    async fn hear(&mut self) -> Result<Option<Duration>, End> {
        loop {
            let wait = self.wait();
            let before = self.input.len();
            if wait.is_some() {
                return Ok(wait);
            }
            let Some(packet) = wire::take(&mut self.input, PACKET_BYTES_MAX)? else { return Ok(None) };
            if matches!(packet, Incoming::Disconnect) {
                return Err(End::GoodBye);
            }
            let cost = match packet {
                Incoming::Subscribe(..) => Cost::Subscribe,
                _ => Cost::Packet(before - self.input.len()),
            };
            if let Some(pace) = &mut self.pace {
                pace.spend(cost);
            }
            for packet in self.conversation.hear(packet, &mut self.output)? {
                self.hand_over(packet).await?;
            }
        }
    }

    async fn converse(&mut self) -> Result<Infallible, End> {
        let mut sent_away = pin!(self.seat.sent_away());
        let mut overrun = pin!(self.route.overrun());
        let mut silence = pin!(sleep(self.silence_limit));
        let mut stall = pin!(sleep(self.write_limit));
        let mut stalling = false;
        loop {
            let before = self.input.len();
            let wait = select! {
                biased;
                farewell = &mut sent_away => return Err(farewell.into()),
                wait = self.hear() => wait?,
            };
            if self.input.len() < before || wait.is_some() {
                silence.set(sleep(self.silence_limit));
            }
            if !self.output.is_empty() && !stalling {
                stall.set(sleep(self.write_limit));
                stalling = true;
            }
            select! {
                // The clocks come last: what has arrived counts, also if this task ran too late to see it in time.
                biased;
                farewell = &mut sent_away => return Err(farewell.into()),
                event = self.event(wait.is_none()) => match event? {
                    Event::Read(0) => return Err(End::Closed),
                    Event::Read(_) | Event::Routed => {}
                    Event::Wrote => stalling = false,
                },
                () = &mut overrun => return Err(End::Stalled),
                () = &mut silence => return Err(End::Silent),
                () = &mut stall, if stalling => return Err(End::Stalled),
                () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    /// The next thing that happens. Dropping this future loses nothing.
    async fn event(&mut self, may_read: bool) -> Result<Event, End> {
        // Buffers that are done with go back, so that a thousand quiet sessions hold no old bursts.
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.input.reserve(READ_BYTES);
        let waiting = self.output.len();
        let may_read = may_read && waiting < OUTPUT_WAITING_BYTES;
        let may_tell = waiting < MESSAGES_WAITING_BYTES && !self.conversation.is_full();
        let (mut reader, mut writer) = self.socket.split();
        // Not biased: neither a client that floods nor one that is flooded should starve the other direction.
        select! {
            read = reader.read_buf(&mut self.input), if may_read => Ok(Event::Read(read?)),
            wrote = writer.write_buf(&mut self.output), if waiting > 0 => Ok(wrote.map(|_| Event::Wrote)?),
            packet = self.route.next(), if may_tell => {
                let packet = packet?;
                self.tell(packet);
                Ok(Event::Routed)
            }
        }
    }
}

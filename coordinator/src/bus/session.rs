//! One client's session, from its CONNACK to its end: moves bytes between socket and router, keeps the clocks and the
//! will. What the packets mean is `conversation`'s.
//!
//! One task does it all, so that there is no writer to stop before the router is told of the end, and nothing shared.

use super::conversation::{self, Conversation, MonitorFilters, Violation};
use super::handshake::{Guest, connack};
use super::identity::{Identity, LiveBoots};
use super::router::{Line, RouterGone};
use super::seats::Seat;
use super::wire::{self, Incoming, Message, WireError};
use bytes::BytesMut;
use piseduce_protocol::MESSAGE_BYTES_MAX;
use rumqttd::protocol::ConnectReturnCode;
use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::watch;
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
    pub(super) live: watch::Receiver<LiveBoots>,
    pub(super) monitor_filters: Arc<MonitorFilters>,
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
    line: Line,
    socket: TcpStream,
    input: BytesMut,
    output: BytesMut,
    conversation: Conversation,
    will: Option<Message>,
    identity: Identity,
    /// The longest time without a packet from the client, whatever is sent to it.
    silence_limit: Duration,
    write_limit: Duration,
    live: watch::Receiver<LiveBoots>,
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
        line: Line,
        house: &House,
    ) -> Self {
        let Guest { access, keep_alive, will, .. } = guest;
        let mut output = BytesMut::new();
        connack(ConnectReturnCode::Success, &mut output);
        Session {
            line,
            socket,
            input,
            output,
            will,
            identity: access.identity.clone(),
            conversation: Conversation::new(access, Arc::clone(&house.monitor_filters)),
            silence_limit: match keep_alive {
                0 => house.silence_limit,
                seconds => Duration::from_secs(seconds.into()) * 3 / 2,
            },
            write_limit: house.write_limit,
            live: house.live.clone(),
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
            let _ = self.line.send(packet).await;
        }
    }

    async fn converse(&mut self) -> Result<Infallible, End> {
        let mut sent_away = pin!(self.seat.sent_away());
        let mut boot_over = pin!(boot_over(self.identity.clone(), self.live.clone()));
        let mut silence = pin!(sleep(self.silence_limit));
        let mut stall = pin!(sleep(self.write_limit));
        let mut stalling = false;
        loop {
            while let Some(packet) = wire::take(&mut self.input, PACKET_BYTES_MAX)? {
                silence.set(sleep(self.silence_limit));
                if matches!(packet, Incoming::Disconnect) {
                    return Err(End::GoodBye);
                }
                if let Some(packet) = self.conversation.hear(packet, &mut self.output)? {
                    self.line.send(packet).await?;
                }
            }
            if !self.output.is_empty() && !stalling {
                stall.set(sleep(self.write_limit));
                stalling = true;
            }
            select! {
                // The clocks come last: what has arrived counts, also if this task ran too late to see it in time.
                biased;
                () = &mut sent_away => return Err(End::TakenOver),
                () = &mut boot_over => return Err(End::BootOver),
                event = self.event() => match event? {
                    Event::Read(0) => return Err(End::Closed),
                    Event::Read(_) | Event::Routed => {}
                    Event::Wrote => stalling = false,
                },
                () = &mut silence => return Err(End::Silent),
                () = &mut stall, if stalling => return Err(End::Stalled),
            }
        }
    }

    /// The next thing that happens. Dropping this future loses nothing.
    async fn event(&mut self) -> Result<Event, End> {
        // Buffers that are done with go back, so that a thousand quiet sessions hold no old bursts.
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.input.reserve(READ_BYTES);
        let waiting = self.output.len();
        let (mut reader, mut writer) = self.socket.split();
        // Not biased: neither a client that floods nor one that is flooded should starve the other direction.
        select! {
            read = reader.read_buf(&mut self.input), if waiting < OUTPUT_WAITING_BYTES => Ok(Event::Read(read?)),
            wrote = writer.write_buf(&mut self.output), if waiting > 0 => Ok(wrote.map(|_| Event::Wrote)?),
            packet = self.line.next(), if waiting < MESSAGES_WAITING_BYTES => {
                self.conversation.tell(packet?, &mut self.output);
                Ok(Event::Routed)
            }
        }
    }
}

/// Waits until `identity` has no right to a session any more.
async fn boot_over(identity: Identity, mut live: watch::Receiver<LiveBoots>) {
    if live.wait_for(|live| !identity.is_live(live)).await.is_err() {
        // Whoever knew is gone, and the last word holds.
        pending::<()>().await;
    }
}

//! From an accepted TCP connection to a client that is known: reads the CONNECT, checks it, asks the doorkeeper.
//!
//! Whoever does not pass gets MQTT's answer for it, so that a client can tell a wrong password from a broken network.

use super::acl::Access;
use super::identity::{Doorkeeper, Identity, Login, Refusal, is_client_id};
use super::seats::Full;
use super::wire::{self, Connect, Incoming, Message, WireError};
use bytes::BytesMut;
use piseduce_protocol::topic::Site;
use rumqttd::protocol::{ConnAck, ConnectReturnCode, Packet, QoS};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest CONNECT, in bytes: nobody is known yet, so nobody gets much memory. A will is a short message.
const CONNECT_BYTES_MAX: usize = 16 * 1024;

/// The first byte of every CONNECT.
const CONNECT_FIRST_BYTE: u8 = 0x10;

/// How long a refused client may take to fetch its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Somebody who may come in.
pub(super) struct Guest {
    pub(super) client_id: String,
    pub(super) access: Access,
    /// In seconds; 0 is "none".
    pub(super) keep_alive: u16,
    pub(super) will: Option<Message>,
}

/// Why a connection did not become a session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    /// It was closed or broke first.
    #[error("connection ended before CONNECT")]
    Ended(#[from] io::Error),
    /// It said nothing, or too little.
    #[error("no CONNECT within the time limit")]
    Late,
    /// It does not speak MQTT, or does not start with a CONNECT.
    #[error("first packet is not CONNECT")]
    NotConnect,
    /// A CONNECT that is malformed, or of another version of MQTT.
    #[error("CONNECT cannot be read")]
    Wire(#[from] WireError),
    /// The client id has the wrong form, or belongs to others.
    #[error("client id {0:?} is not allowed for this user")]
    ClientId(String),
    /// The doorkeeper does not let it in.
    #[error("{login:?} is refused")]
    Refused { login: Login, source: Refusal },
    /// The boot ended while the agent came in.
    #[error("{0} is not live")]
    NotLive(Identity),
    /// A last will that this client may not leave.
    #[error("{identity} may not leave a will on {topic:?}")]
    Will { identity: Identity, topic: String },
    /// As many sessions of its kind as there may be.
    #[error(transparent)]
    Full(#[from] Full),
    /// As many connections as may arrive at once, from its address or in all.
    #[error("too many connections that have not shown who they are")]
    Crowd,
    /// Doorkeeper, predecessor or router took too long, or the router is gone.
    #[error("broker is not ready for another client")]
    NotReady,
}

impl Rejection {
    /// The return code of the CONNACK; none if there is nobody who would understand it.
    fn code(&self) -> Option<ConnectReturnCode> {
        use ConnectReturnCode::{
            BadUserNamePassword, ClientIdentifierNotValid, NotAuthorized, RefusedProtocolVersion,
            ServiceUnavailable,
        };
        Some(match self {
            Rejection::Wire(error) if error.is_other_version() => RefusedProtocolVersion,
            Rejection::Ended(_)
            | Rejection::Late
            | Rejection::Wire(_)
            | Rejection::NotConnect
            | Rejection::Crowd => {
                return None;
            }
            Rejection::ClientId(_) => ClientIdentifierNotValid,
            Rejection::Full(_) | Rejection::NotReady => ServiceUnavailable,
            Rejection::Refused { source, .. } => match source {
                Refusal::Unavailable => ServiceUnavailable,
                Refusal::Credentials => BadUserNamePassword,
                Refusal::NotAuthorised => NotAuthorized,
            },
            Rejection::NotLive(_) => BadUserNamePassword,
            Rejection::Will { .. } => NotAuthorized,
        })
    }

    /// Tells the client, if it would understand, and closes the connection.
    pub(super) async fn answer(&self, mut socket: TcpStream) {
        let Some(code) = self.code() else { return };
        let mut output = BytesMut::new();
        connack(code, &mut output);
        let fetched = async {
            socket.write_all(&output).await?;
            socket.shutdown().await?;
            // Closing a socket with unread bytes in it would reset the connection, and take the answer back.
            let mut rest = [0; 512];
            while socket.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // Whether it was fetched is the client's own affair.
        let _ = timeout(ANSWER_LIMIT, fetched).await;
    }
}

/// Appends a CONNACK. No session ever survives its connection, so none is ever present.
pub(super) fn connack(code: ConnectReturnCode, output: &mut BytesMut) {
    wire::put(Packet::ConnAck(ConnAck { session_present: false, code }, None), output);
}

/// Reads the CONNECT. What the client sent after it stays in `input`.
pub(super) async fn receive(socket: &mut TcpStream, input: &mut BytesMut) -> Result<Connect, Rejection> {
    loop {
        // What starts otherwise is not waited for: web browsers and TLS clients announce many bytes with their first.
        if input.first().is_some_and(|first| *first != CONNECT_FIRST_BYTE) {
            return Err(Rejection::NotConnect);
        }
        if let Some(Incoming::Connect(connect)) = wire::take(input, CONNECT_BYTES_MAX)? {
            return Ok(connect);
        }
        if socket.read_buf(input).await? == 0 {
            return Err(Rejection::Ended(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Finds out who the client is, and whether it may have the client id and the will that it wants.
pub(super) async fn identify(
    connect: Connect,
    address: IpAddr,
    site: &Site,
    doorkeeper: &dyn Doorkeeper,
) -> Result<Guest, Rejection> {
    let Connect { login, clean_session, keep_alive, will } = connect;
    // An empty id is a wish for one of the broker's making; MQTT allows it to clients that keep no session.
    let anonymous = login.client_id.is_empty() && clean_session;
    if !anonymous && !is_client_id(&login.client_id) {
        return Err(Rejection::ClientId(login.client_id));
    }
    let admitted = match login.user_name.is_empty() {
        true => Err(Refusal::Credentials),
        false => doorkeeper.admit(&login, address).await,
    };
    let identity = match admitted {
        Ok(identity) => identity,
        Err(source) => return Err(Rejection::Refused { login, source }),
    };
    let client_id = login.client_id;
    if !identity.may_be_called(&client_id) {
        return Err(Rejection::ClientId(client_id));
    }
    let client_id = if anonymous { generated_id() } else { client_id };
    let access = Access { site: site.clone(), identity };
    if let Some(will) = &will
        && (will.qos == QoS::ExactlyOnce || !access.may_leave_will(&will.topic, will.retain))
    {
        return Err(Rejection::Will { identity: access.identity, topic: will.topic.clone() });
    }
    Ok(Guest { client_id, access, keep_alive, will })
}

/// An id that no client can ask for, because of its colon.
fn generated_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("generated:{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

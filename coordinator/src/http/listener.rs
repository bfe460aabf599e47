//! Serves HTTP at one listener, within its limits: whoever opens connections, sends slowly or takes nothing costs a bounded
//! share of it, and nothing that a client or the kernel does at the door ends it.

use super::connections::{Connections, Refusal, Seat};
use super::limits::{HEAD_BYTES_MAX, Limits, SEND_BUFFER_BYTES};
use super::transport::{RequestBody, ResponseBody, Watched};
use crate::clock::{self, Instant};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How often connections are looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// After an error that stays, such as too many open files, nothing is accepted for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What happens at the door is logged no more often than this.
const WARN_PERIOD: Duration = Duration::from_secs(20);

/// A client that says nothing is asked whether it is there after so long, then in such steps, so many times.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TRIES: u32 = 4;

/// Serves `routes` at `listener` for ever.
///
/// Handlers find the address of whoever asks as `ConnectInfo<SocketAddr>`, IPv4 always as such.
pub async fn serve(listener: TcpListener, routes: Router, limits: Limits) -> Infallible {
    if let Err(error) = prepare(&listener, &limits) {
        // Each of these bounds stands behind one of our own.
        tracing::warn!(%error, "the kernel does not bound what HTTP connections hold");
    }
    let connections = Connections::new(limits);
    let mut door = Door::default();
    let mut look = tokio::time::interval(LOOK_PERIOD);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    match connections.enter(peer.ip(), clock::now()) {
                        Ok(seat) => drop(tokio::spawn(attend(stream, peer, seat, routes.clone(), limits))),
                        Err(refusal) => door.refuse(&stream, peer, refusal, &limits),
                    }
                }
                Err(error) => door.failed(&error).await,
            },
            _ = look.tick() => connections.close_overdue(clock::now()),
        }
    }
}

/// What accepted sockets inherit from their listener.
fn prepare(listener: &TcpListener, limits: &Limits) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    // What was sent and is not taken by a client that went away without a word.
    socket.set_tcp_user_timeout(Some(limits.stall_time))?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME);
    socket.set_tcp_keepalive(&keepalive.with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_TRIES))
}

/// What is done with those who are not let in.
#[derive(Debug, Default)]
struct Door {
    warned: Option<Instant>,
    untold: u64,
}

impl Door {
    /// Whether this time is told, and how many were not since the last.
    fn tell(&mut self, now: Instant) -> Option<u64> {
        if self.warned.is_some_and(|warned| now.since(warned) < WARN_PERIOD) {
            self.untold += 1;
            return None;
        }
        self.warned = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    fn refuse(&mut self, stream: &TcpStream, peer: SocketAddr, refusal: Refusal, limits: &Limits) {
        let message = match refusal {
            Refusal::Address => format!("{} has {} connections open", peer.ip(), limits.per_address),
            Refusal::Full => format!("all {} connections are taken", limits.connections),
        };
        let body = format!(
            "{{\"code\":\"busy\",\"message\":\"{message}\",\"hint\":\"close some, or raise `connections` or \
             `connections_per_address` of this listener in the settings\"}}"
        );
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             retry-after: 1\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        // As far as it goes at once; nobody waits for a client that is not let in.
        let _ = SockRef::from(stream).send(answer.as_bytes());
        if let Some(untold) = self.tell(clock::now()) {
            tracing::warn!(%peer, untold, "an HTTP connection is refused: {message}");
        }
    }

    async fn failed(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        if let Some(untold) = self.tell(clock::now()) {
            tracing::warn!(%error, untold, "an HTTP connection cannot be accepted");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Serves one connection until it ends or takes too long.
async fn attend(stream: TcpStream, peer: SocketAddr, seat: Seat, routes: Router, limits: Limits) {
    let connection = seat.connection.clone();
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|request: Request<Incoming>| {
        let answering = connection.answer();
        let mut request = request.map(|body| Body::new(RequestBody::new(body, limits)));
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = routes.call(request);
        async move {
            let response: Response<Body> = answer.await?;
            Ok::<_, Infallible>(response.map(|body| ResponseBody::new(body, answering)))
        }
    });
    let io = TokioIo::new(Watched { stream, connection: connection.clone() });
    let serving = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).serve_connection(io, service);
    tokio::select! {
        result = serving => {
            if let Err(error) = result {
                tracing::debug!(%peer, error = &error as &dyn std::error::Error, "an HTTP connection ended");
            }
        }
        () = connection.closed() => {}
    }
}

//! The door of the embedded broker: listens, lets clients in, and ends them all when it closes.
//!
//! rumqttd routes the messages; its own listener is not used, since ordinary clients can kill it and it knows no
//! rights. Here a connection is a task: `handshake` finds out who it is, `seats` and `router` give it its places,
//! `session` runs it. What each client may do stands in `acl`.

use super::arrivals::{Arrival, Arrivals, Place};
use super::handshake::{self, Guest, Rejection};
use super::identity::{Doorkeeper, Identity, LiveBoots};
use super::mailboxes::{self, Mailboxes};
use super::refusals::{Refusals, SUMMARY_INTERVAL};
use super::router::{Line, Router};
use super::seats::{Seat, Seats, Shares};
use super::session::{House, Route, Session};
use crate::clock;
use bytes::BytesMut;
use piseduce_protocol::topic::Site;
use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::select;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, sleep, timeout};
use tracing::Instrument;

/// Enough to read most CONNECTs at once.
const CONNECT_BYTES_USUAL: usize = 512;

/// How many connections the kernel may keep for us: after a restart all agents come within a second. It keeps no more than
/// `net.core.somaxconn`, which is 4,096 as well.
const BACKLOG: u32 = 4_096;

/// Connections unless the settings say otherwise: more than 5,000 agents.
pub const CONNECTIONS_USUAL: usize = 6_144;

/// How long to wait when the system has no descriptor left for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the router is asked whether it lives, and how long it may take to answer.
const PULSE_INTERVAL: Duration = Duration::from_secs(2);
const PULSE_LIMIT: Duration = Duration::from_secs(10);

/// What can be set about a gate.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// Where to listen; port 0 is one of the system's choice.
    pub listen: SocketAddr,
    /// How many connections there may be at once, beside the coordinator's. A tenth, at most 512, is for those that have
    /// not shown yet who they are, a fortieth, at most 128, for monitors, a quarter of that for one user's; all others
    /// are agents'.
    pub connections_max: usize,
    /// How long a client may take to send its CONNECT, and the broker then to let it in.
    pub connect_limit: Duration,
    /// How long a client may take none of the bytes that wait for it.
    pub write_limit: Duration,
    /// How long a client may be silent that asked for no keep-alive. Others: 1.5 times their keep-alive time.
    pub silence_limit: Duration,
}

impl GateSettings {
    /// How many agents may be connected at once.
    pub fn agents_max(&self) -> usize {
        Shares::of(self.connections_max).agents
    }

    /// The usual settings for a gate that listens there.
    pub fn new(listen: SocketAddr) -> Self {
        GateSettings {
            listen,
            connections_max: CONNECTIONS_USUAL,
            connect_limit: Duration::from_secs(10),
            write_limit: Duration::from_secs(10),
            silence_limit: Duration::from_secs(3_600),
        }
    }
}

/// Why there is no gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// Somebody listens there already.
    #[error("address {0} is already in use, perhaps by another MQTT broker")]
    AddressInUse(SocketAddr),
    /// The system does not let us listen there.
    #[error("failed to listen for MQTT on {address}")]
    Listen {
        /// The address of the settings.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no thread.
    #[error("failed to start the thread of the MQTT broker")]
    Thread(#[source] io::Error),
    /// The broker's router ended at once.
    #[error("the router of the MQTT broker does not answer")]
    Router,
}

/// A broker that runs. Dropping it closes it; [`Gate::stop`] waits for that, too.
pub struct Gate {
    address: SocketAddr,
    /// Nothing is ever sent: the door closes when this is dropped.
    open: oneshot::Sender<Infallible>,
    door: JoinHandle<()>,
    router_died: watch::Receiver<bool>,
}

impl Gate {
    /// Listens, and lets in whom `doorkeeper` admits, agents only for as long as their boot is in `live`.
    ///
    /// # Errors
    /// When it cannot listen on the address of the settings, or gets no thread.
    pub async fn start(
        settings: GateSettings,
        site: Site,
        doorkeeper: Arc<dyn Doorkeeper>,
        live: watch::Receiver<LiveBoots>,
    ) -> Result<Gate, GateError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => GateError::AddressInUse(settings.listen),
            _ => GateError::Listen { address: settings.listen, source },
        };
        let listener = listen(settings.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shares = Shares::of(settings.connections_max);
        let router = Router::start(&site, shares.monitors).map_err(GateError::Thread)?;
        let (mailboxes, agents_line) =
            Mailboxes::open(&router, &site).await.map_err(|_| GateError::Router)?;
        let (death, router_died) = watch::channel(false);
        let (open, closed) = oneshot::channel();
        let hall = Hall {
            seats: Seats::new(shares),
            arrivals: Arrivals::new(shares.arriving),
            refusals: Refusals::default(),
            house: House {
                write_limit: settings.write_limit,
                silence_limit: settings.silence_limit,
                reports: Arc::default(),
                commands: Arc::default(),
                publisher: agents_line.sender(),
            },
            settings,
            site,
            doorkeeper,
            router,
            mailboxes,
            live,
        };
        tracing::info!(%address, site = hall.site.name(), agents_max = shares.agents, "broker listens");
        let door = tokio::spawn(keep_open(listener, agents_line, Arc::new(hall), death, closed));
        Ok(Gate { address, open, door, router_died })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the router has died or hangs. There is no cure but a new process: retained messages are lost,
    /// and the old router's thread would stay for ever.
    pub fn router_died(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut died = self.router_died.clone();
        async move {
            if died.wait_for(|died| *died).await.is_err() {
                // The gate was stopped, and its router is nobody's concern any more.
                pending::<()>().await;
            }
        }
    }

    /// Closes the listener and all connections. When it returns, the address is free.
    pub async fn stop(self) {
        drop(self.open);
        // An error would be a panic of the door, which the runtime has reported; it is closed then, too.
        let _ = self.door.await;
    }
}

/// What all connections of a gate share.
struct Hall {
    settings: GateSettings,
    site: Site,
    doorkeeper: Arc<dyn Doorkeeper>,
    router: Router,
    mailboxes: Arc<Mailboxes>,
    arrivals: Arc<Arrivals>,
    refusals: Refusals,
    seats: Arc<Seats>,
    house: House,
    live: watch::Receiver<LiveBoots>,
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of the process before must not keep the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets clients in until `closed`, then ends them all. Their wills are not published then: nobody is left to hear them.
async fn keep_open(
    listener: TcpListener,
    agents_line: Line,
    hall: Arc<Hall>,
    death: watch::Sender<bool>,
    mut closed: oneshot::Receiver<Infallible>,
) {
    let mut tasks = JoinSet::new();
    let router = hall.router.clone();
    tasks.spawn(async move {
        router.watch(PULSE_INTERVAL, PULSE_LIMIT).await;
        tracing::error!("broker's router has died");
        death.send_replace(true);
    });
    let consuming = hall.house.commands.consume(mailboxes::filters(&hall.site).into());
    tasks.spawn(Arc::clone(&hall.mailboxes).deliver(agents_line, consuming));
    tasks.spawn(end_boots(Arc::clone(&hall)));
    let mut summaries = interval(SUMMARY_INTERVAL);
    // While there is no place for it, the next ones wait in the kernel's queue.
    let mut newcomer = None;
    loop {
        if let Some((socket, peer)) = newcomer.take() {
            match hall.arrivals.arrive(SocketAddr::ip(&peer), clock::now()) {
                Arrival::Place(place) => drop(tasks.spawn(attend(Arc::clone(&hall), socket, peer, place))),
                Arrival::Refused => hall.log(peer, &Rejection::Crowd),
                Arrival::Later => newcomer = Some((socket, peer)),
            }
        }
        select! {
            _ = &mut closed => break,
            // How a connection ended concerns nobody else, even if it was by a panic.
            Some(_) = tasks.join_next() => {}
            accepted = accept(&listener), if newcomer.is_none() => newcomer = Some(accepted),
            () = hall.arrivals.room(), if newcomer.is_some() => {}
            _ = summaries.tick() => {
                if let Some(more) = hall.refusals.summary() {
                    tracing::warn!("clients refused in the last minute: {more}");
                }
            }
        }
    }
    drop(listener);
    tasks.shutdown().await;
    tracing::info!("broker closed");
}

/// The next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Ends the sessions of boots that are over, each of them and no other being told.
async fn end_boots(hall: Arc<Hall>) {
    let mut live = hall.live.clone();
    while live.changed().await.is_ok() {
        let now = Arc::clone(&live.borrow_and_update());
        hall.seats.end_boots(&now);
    }
    // Whoever knew is gone, and the last word holds.
}

/// One connection, from its first byte to its last.
async fn attend(hall: Arc<Hall>, mut socket: TcpStream, peer: SocketAddr, mut place: Place) {
    let mut input = BytesMut::with_capacity(CONNECT_BYTES_USUAL);
    let arrived = select! {
        biased;
        arrived = hall.welcome(&mut socket, peer.ip(), &mut input) => arrived,
        () = place.lost() => Err(Rejection::Crowd),
    };
    let (guest, route, seat) = match arrived {
        Ok(arrived) => arrived,
        Err(Rejection::Ended(error)) => return tracing::debug!(%peer, %error, "connection ended early"),
        Err(rejection) => {
            hall.log(peer, &rejection);
            return rejection.answer(socket).await;
        }
    };
    drop(place);
    let span =
        tracing::info_span!("mqtt", %peer, client = guest.client_id, identity = %guest.access.identity);
    Session::new(socket, input, guest, seat, route, &hall.house).run().instrument(span).await;
}

impl Hall {
    fn log(&self, peer: SocketAddr, rejection: &Rejection) {
        if self.refusals.is_logged(peer.ip()) {
            tracing::warn!(%peer, cause = rejection as &(dyn Error + 'static), "client refused");
        }
    }

    /// Finds out who a connection is and gives it its seat and its way to the router, each within the time limit. The seat
    /// comes last, so that it is free last.
    async fn welcome(
        &self,
        socket: &mut TcpStream,
        address: IpAddr,
        input: &mut BytesMut,
    ) -> Result<(Guest, Route, Seat), Rejection> {
        // Small messages are sent as they come; a socket that cannot do so works all the same.
        let _ = socket.set_nodelay(true);
        let limit = self.settings.connect_limit;
        let connect =
            timeout(limit, handshake::receive(socket, input)).await.map_err(|_| Rejection::Late)??;
        let enter = async {
            let guest = handshake::identify(connect, address, &self.site, &*self.doorkeeper).await?;
            let seat = self.seats.take(&guest.access.identity, &guest.client_id).await?;
            let route = match guest.access.identity {
                Identity::Agent { serial, .. } => Route::Mailbox(self.mailboxes.register(serial)),
                Identity::Coordinator | Identity::Monitor { .. } => {
                    Route::Line(self.router.open().await.map_err(|_| Rejection::NotReady)?)
                }
            };
            Ok::<_, Rejection>((guest, route, seat))
        };
        let (guest, route, seat) = timeout(limit, enter).await.map_err(|_| Rejection::NotReady)??;
        // The boot may have ended after the doorkeeper looked. From here on the session itself watches.
        match guest.access.identity.is_live(&self.live.borrow()) {
            true => Ok((guest, route, seat)),
            false => Err(Rejection::NotLive(guest.access.identity)),
        }
    }
}

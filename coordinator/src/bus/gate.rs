//! The door of the embedded broker: listens, lets clients in, and ends them all when it closes.
//!
//! rumqttd routes the messages; its own listener is not used, since ordinary clients can kill it and it knows no
//! rights. Here a connection is a task: `handshake` finds out who it is, `seats` and `router` give it its places,
//! `session` runs it. What each client may do stands in `acl`.

use super::handshake::{self, Guest, Rejection};
use super::identity::{Doorkeeper, LiveBoots};
use super::router::{Line, Router};
use super::seats::{Seat, Seats};
use super::session::{House, Session};
use bytes::BytesMut;
use piseduce_protocol::topic::Site;
use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::Instrument;

/// Enough to read most CONNECTs at once.
const CONNECT_BYTES_USUAL: usize = 512;

/// How many connections may be on their way to a session. The next one waits in the kernel's queue.
const ARRIVING_MAX: usize = 1_024;

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
    /// How many clients may have a session at once, beside the coordinator.
    pub connections_max: usize,
    /// How long a client may take to send its CONNECT, and the broker then to let it in.
    pub connect_limit: Duration,
    /// How long a client may take none of the bytes that wait for it.
    pub write_limit: Duration,
    /// How long a client may be silent that asked for no keep-alive. Others: 1.5 times their keep-alive time.
    pub silence_limit: Duration,
}

impl GateSettings {
    /// The usual settings for a gate that listens there.
    pub fn new(listen: SocketAddr) -> Self {
        GateSettings {
            listen,
            connections_max: 2_000,
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
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let router = Router::start(&site, settings.connections_max).map_err(GateError::Thread)?;
        let (death, router_died) = watch::channel(false);
        let (open, closed) = oneshot::channel();
        let hall = Hall {
            seats: Seats::new(settings.connections_max),
            house: House {
                write_limit: settings.write_limit,
                silence_limit: settings.silence_limit,
                live,
                monitor_filters: Arc::default(),
            },
            settings,
            site,
            doorkeeper,
            router,
        };
        tracing::info!(%address, site = hall.site.name(), "broker listens");
        let door = tokio::spawn(keep_open(listener, Arc::new(hall), death, closed));
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
    seats: Arc<Seats>,
    house: House,
}

/// Lets clients in until `closed`, then ends them all. Their wills are not published then: nobody is left to hear them.
async fn keep_open(
    listener: TcpListener,
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
    let arriving = Arc::new(Semaphore::new(ARRIVING_MAX));
    loop {
        select! {
            _ = &mut closed => break,
            // How a connection ended concerns nobody else, even if it was by a panic.
            Some(_) = tasks.join_next() => {}
            (socket, peer, place) = accept(&listener, &arriving) => {
                tasks.spawn(attend(Arc::clone(&hall), socket, peer, place));
            }
        }
    }
    drop(listener);
    tasks.shutdown().await;
    tracing::info!("broker closed");
}

/// The next connection, and its place among those that arrive.
async fn accept(
    listener: &TcpListener,
    arriving: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = Arc::clone(arriving).acquire_owned().await.expect("this semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => return (socket, peer, place),
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, from its first byte to its last.
async fn attend(hall: Arc<Hall>, mut socket: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
    let mut input = BytesMut::with_capacity(CONNECT_BYTES_USUAL);
    let arrived = hall.welcome(&mut socket, &mut input).await;
    let (guest, seat, line) = match arrived {
        Ok(arrived) => arrived,
        Err(Rejection::Ended(error)) => return tracing::debug!(%peer, %error, "connection ended early"),
        Err(rejection) => {
            tracing::warn!(%peer, cause = &rejection as &(dyn Error + 'static), "client refused");
            return rejection.answer(socket).await;
        }
    };
    drop(place);
    let span =
        tracing::info_span!("mqtt", %peer, client = guest.client_id, identity = %guest.access.identity);
    Session::new(socket, input, guest, seat, line, &hall.house).run().instrument(span).await;
}

impl Hall {
    /// Finds out who a connection is and gives it its seat and its line, each within the time limit.
    async fn welcome(
        &self,
        socket: &mut TcpStream,
        input: &mut BytesMut,
    ) -> Result<(Guest, Seat, Line), Rejection> {
        // Small messages are sent as they come; a socket that cannot do so works all the same.
        let _ = socket.set_nodelay(true);
        let limit = self.settings.connect_limit;
        let connect =
            timeout(limit, handshake::receive(socket, input)).await.map_err(|_| Rejection::Late)??;
        let enter = async {
            let guest = handshake::identify(connect, &self.site, &*self.doorkeeper).await?;
            let seat = self.seats.take(&guest.access.identity, &guest.client_id).await;
            let seat = seat.ok_or(Rejection::Full(self.settings.connections_max))?;
            let line = self.router.open().await.map_err(|_| Rejection::NotReady)?;
            Ok::<_, Rejection>((guest, seat, line))
        };
        let (guest, seat, line) = timeout(limit, enter).await.map_err(|_| Rejection::NotReady)??;
        // The boot may have ended after the doorkeeper looked. From here on the session itself watches.
        match guest.access.identity.is_live(&self.house.live.borrow()) {
            true => Ok((guest, seat, line)),
            false => Err(Rejection::NotLive(guest.access.identity)),
        }
    }
}

//! HTTP: one listener for people (`/api/v1`, by bearer token), one for nodes (images, bundles,
//! reports of first boots). Reads ask the store and the board; writes go to the runner's inbox.

mod api;
mod auth;
mod boot_files;
mod connections;
mod enrolment;
mod error;
mod extract;
mod first_boot;
mod images;
mod limits;
mod listener;
mod streams;
mod token_address;
mod transport;
mod uploads;
mod view;

pub use limits::Limits;
pub use listener::serve;
pub use view::environment as environment_view;

use crate::console::Consoles;
use crate::credentials::Credentials;
use crate::domain::guard::Guards;
use crate::domain::network::Network;
use crate::image::Library;
use crate::netboot::refusals::Refusals;
use crate::netboot::silence::Silence;
use crate::netboot::{Alarms, BootRoots, CardFiles, Strangers};
use crate::power::Lines;
use crate::runner::{Board, Handle};
use crate::store::Store;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use error::{unknown_method, unknown_path, unknown_path_for_nodes};
use piseduce_protocol::topic::Site;
use std::sync::Arc;
use std::time::Duration;
use streams::Streams;
use uploads::Uploads;

/// The longest body of a request by people: a script and some keys.
const API_BODY_BYTES_MAX: usize = 4 << 20;
/// The longest body of a report: a token and 64 KiB of output.
const REPORT_BYTES_MAX: usize = 80 << 10;

/// What the handlers share.
#[derive(Clone)]
pub struct Shared {
    inner: Arc<Inner>,
    streams: Streams,
    uploads: Uploads,
}

/// What the handlers need of the other rooms.
pub struct Inner {
    /// The site.
    pub site: Site,
    /// Everything that is stored.
    pub store: Store,
    /// The way to the runner.
    pub runner: Handle,
    /// Every node as it is now.
    pub board: Board,
    /// The secrets of the site.
    pub credentials: Credentials,
    /// The images.
    pub library: Arc<Library>,
    /// The lines to the switches.
    pub lines: Lines,
    /// The consoles of the nodes.
    pub consoles: Consoles,
    /// Boards that ask what to boot and are not registered.
    pub strangers: Strangers,
    /// Which boards TFTP does not answer, if it is served.
    pub silence: Option<Silence>,
    /// What such a board is invited into.
    pub boot_roots: BootRoots,
    /// What keeps a node from being deployed or freed.
    pub guards: Guards,
    /// What nobody can explain on the nodes' networks.
    pub alarms: Alarms,
    /// Takes down who is refused what is a node's.
    pub refusals: Refusals,
    /// The boot files of cards that are booted over the network.
    pub cards: CardFiles,
    /// The nodes' listener's address as nodes reach it.
    pub head: String,
    /// The networks that nodes boot on.
    pub networks: Vec<Network>,
    /// How long nodes are held for an open form.
    pub hold: Duration,
    /// What tells this start of the coordinator from every other.
    pub instance: String,
}

impl Shared {
    /// Shares `inner` with every handler.
    pub fn new(inner: Inner) -> Self {
        Shared { inner: Arc::new(inner), streams: Streams::default(), uploads: Uploads::default() }
    }
}

impl std::ops::Deref for Shared {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.inner
    }
}

/// What people reach.
pub fn people(shared: Shared) -> Router {
    let routes = api::routes().layer(DefaultBodyLimit::max(API_BODY_BYTES_MAX));
    complete(routes).fallback(unknown_path).with_state(shared)
}

/// What nodes reach.
pub fn nodes(shared: Shared) -> Router {
    let routes = Router::new()
        .merge(images::routes())
        .merge(boot_files::routes())
        .merge(enrolment::routes())
        .merge(first_boot::routes().layer(DefaultBodyLimit::max(REPORT_BYTES_MAX)));
    complete(routes).fallback(unknown_path_for_nodes).with_state(shared)
}

/// The same with errors that look like all others where nothing is.
fn complete(routes: Router<Shared>) -> Router<Shared> {
    routes.method_not_allowed_fallback(unknown_method)
}

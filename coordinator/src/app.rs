//! Wires the house: opens what is stored, starts broker, link, runner and listeners, and ends them in order.

mod broker;
mod door;
mod netboot;
mod site_key;

use crate::bus::link::Link;
use crate::config::{self, Config};
use crate::console::Consoles;
use crate::credentials::Credentials;
use crate::data_directory::{ADDRESSES, Addresses, DataDirectory, Served};
use crate::descriptors::{self, Connections, Wishes};
use crate::http::{self, Inner, Shared};
use crate::machine::Policy;
use crate::netboot::tftp::{Server, TftpError};
use crate::netboot::{Alarms, CommandLines, Strangers, neighbour};
use crate::power::Lines;
use crate::runner::{Board, Outside, Runner, card_watch, housekeeping, jobs};
use crate::{service_manager, signal};
use anyhow::Context as _;
use broker::Broker;
use door::Door;
use netboot::{Netboot, Nodes};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// What the link heard and the runner has not taken in yet.
const HEARD_WAITING: usize = 1024;

async fn bind(what: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("failed to listen for {what} at {address}"))
}

/// How the listeners share what may be open.
fn connections(config: &Config) -> anyhow::Result<Connections> {
    let open_files_max = descriptors::raise();
    let (nodes, people) = (config.nodes.connections, config.people.connections);
    let broker = match &config.broker {
        config::Broker::Embedded(listener) => listener.connections,
        config::Broker::External(_) => None,
    };
    let connections = Connections::share(open_files_max, Wishes { broker, nodes, people })?;
    let Connections { broker, nodes, people } = connections;
    tracing::info!(open_files_max, broker, nodes, people, "connections that may be open at once");
    Ok(connections)
}

/// Runs the coordinator until Ctrl-C or SIGTERM.
///
/// # Errors
/// When something cannot be opened or bound, or the store or the broker fails: the service manager starts
/// the coordinator again, and it goes on from what it saved.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let connections = connections(&config)?;
    let data = DataDirectory::open(&config.data_directory)?;
    let _only_one = data.lock()?;
    let Served { key, store, is_known } = data.open_for_serving().await?;
    let credentials = Credentials::new(key.clone());
    if is_known {
        site_key::keep_proofs(&store, &credentials).await?;
    }
    let library = Arc::new(data.library(config.free_bytes)?);
    tokio::spawn(jobs::sweep_soon(library.clone(), store.clone()));
    let people = bind("people", config.people.listen).await?;
    let nodes = bind("nodes", config.nodes.listen).await?;
    let head = config.nodes.advertised(nodes.local_addr()?).to_string();

    let board = Board::default();
    tokio::spawn(jobs::sweep_after_deployments(library.clone(), store.clone(), board.ended()));
    let (heard, mut hearing) = mpsc::channel(HEARD_WAITING);
    let alarms = Alarms::default();
    let refusals = netboot::refusals(&alarms, &store);
    let door = Door {
        credentials: credentials.clone(),
        live: board.live_boots(),
        board: board.clone(),
        store: store.clone(),
        refusals: refusals.clone(),
        heard: heard.clone(),
    };
    let epoch = store.begin_epoch().await?;
    site_key::mark(&data, &key, &store).await;
    let broker = Broker::open(&config, door, epoch, connections.broker).await?;
    let link = Link::start(broker.link.clone(), credentials.clone(), board.live_boots(), heard);
    let lines = Lines::default();
    let consoles = Consoles::default();
    let outside =
        Outside::new(link.clone(), credentials.clone(), head.clone(), lines.clone(), consoles.clone());
    let (runner, handle) = Runner::load(
        store.clone(),
        Policy { broker_checks_addresses: config.broker.is_embedded(), ..config.policy.clone() },
        outside,
        board.clone(),
        config.trust_unsynchronised,
    )
    .await?;
    let to_runner = handle.clone();
    tokio::spawn(async move {
        while let Some(heard) = hearing.recv().await {
            if to_runner.heard(heard).await.is_err() {
                return;
            }
        }
    });

    let people_at = config.people.advertised(people.local_addr()?);
    let instance = instance()?;
    let addresses = Addresses {
        people: people_at,
        nodes: head.parse()?,
        broker: broker.advertised,
        instance: instance.clone(),
    };
    if let Err(error) = data.write_private(ADDRESSES, &serde_json::to_vec_pretty(&addresses)?) {
        // On a full disk the commands on the head find the coordinator by its settings only.
        tracing::warn!(%error, "the addresses are not written down");
    }
    tracing::info!(people = %addresses.people, nodes = %addresses.nodes, broker = %addresses.broker, epoch, "coordinator is up");

    let calendar = board.clone();
    let is_trusted = move || calendar.distrust().is_none();
    tokio::spawn(housekeeping::keep(store.clone(), library.clone(), config.retention, is_trusted));
    tokio::spawn(housekeeping::watch_disk(store.clone()));
    tokio::spawn(site_key::keep_marking(data.clone(), key.clone(), store.clone()));
    let watched = handle.clone();
    tokio::spawn(service_manager::keep_alive(async move || watched.are_you_alive().await.is_ok()));
    let command_lines = Arc::new(CommandLines {
        site: config.site.clone(),
        broker: broker.advertised.to_string(),
        head: head.clone(),
        agents: broker.agents.clone(),
        credentials: credentials.clone(),
    });
    let strangers = Strangers::default();
    let known = Nodes::new(board.clone(), handle.clone(), refusals.clone());
    netboot::listen(&config.netboot.networks, &known, &alarms);
    let boot_roots = data.boot_roots(config.netboot.exports());
    let netboot = Netboot {
        nodes: known,
        roots: boot_roots.clone(),
        cards: data.card_files(),
        strangers: strangers.clone(),
        command_lines,
    };
    let tftp = match &config.netboot.tftp[..] {
        [] => None,
        addresses => {
            tokio::spawn(card_watch::watch(board.clone(), handle.clone(), neighbour::addresses_of));
            Some(netboot.bind(addresses)?)
        }
    };
    let shared = Shared::new(Inner {
        site: config.site,
        store: store.clone(),
        runner: handle,
        board,
        credentials,
        library,
        lines,
        consoles,
        strangers,
        silence: tftp.as_ref().map(Server::silence),
        boot_roots: boot_roots.clone(),
        guards: config.policy.guards,
        alarms,
        refusals,
        cards: data.card_files(),
        head,
        networks: config.netboot.networks.clone(),
        hold: config.hold,
        instance,
    });
    let (stop, stopped) = watch::channel(false);
    let mut running = tokio::spawn(runner.run(stopped.clone()));
    let limits = http::Limits::new(connections.people, config.people.per_address);
    let mut people = serve_http(people, http::people(shared.clone()), limits, stopped.clone());
    let limits = http::Limits::new(connections.nodes, config.nodes.per_address);
    let mut nodes = serve_http(nodes, http::nodes(shared), limits, stopped);
    service_manager::ready();
    let ended: anyhow::Result<()> = tokio::select! {
        () = signal::stop() => Ok(()),
        result = &mut running => result.context("the runner panicked").and_then(|result| Ok(result?)),
        result = tftp_ended(tftp) => Err(result.into()),
        () = broker.died() => Err(anyhow::anyhow!("the broker's router died")),
        result = &mut people => Err(http_ended("people", result)),
        result = &mut nodes => Err(http_ended("nodes", result)),
    };
    tracing::info!("coordinator is ending");
    service_manager::stopping();
    // A receiver that is gone has ended already.
    let _ = stop.send(true);
    let saved = match running.is_finished() {
        true => Ok(()),
        false => running.await.context("the runner panicked").and_then(|result| Ok(result?)),
    };
    link.stop().await;
    broker.stop().await;
    site_key::mark(&data, &key, &store).await;
    if let Err(error) = store.close().await {
        tracing::warn!(%error, "the write-ahead log stays beside the store until the next start");
    }
    ended.and(saved)
}

/// Serves TFTP until it fails; for ever where nothing is served.
async fn tftp_ended(server: Option<Server<Nodes>>) -> TftpError {
    match server {
        Some(server) => server.serve().await,
        None => std::future::pending().await,
    }
}

/// What tells this start of the coordinator from every other, for whoever finds its addresses.
fn instance() -> anyhow::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

type Serving = tokio::task::JoinHandle<()>;

fn serve_http(
    listener: TcpListener,
    routes: axum::Router,
    limits: http::Limits,
    mut stopped: watch::Receiver<bool>,
) -> Serving {
    tokio::spawn(async move {
        tokio::select! {
            never = http::serve(listener, routes, limits) => match never {},
            // Requests under way are cut: agents and clients ask again, and what was answered is on disk.
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    })
}

fn http_ended(whom: &str, result: Result<(), tokio::task::JoinError>) -> anyhow::Error {
    match result {
        Ok(()) => anyhow::anyhow!("the listener for {whom} ended"),
        Err(error) => anyhow::Error::new(error).context(format!("the listener for {whom} panicked")),
    }
}

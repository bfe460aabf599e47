//! TFTP server and DHCP listeners at their place in the house: which nodes they know, and who is told of their questions.

use crate::clock::{self, Instant};
use crate::domain::boot_evidence::TokenHolder;
use crate::domain::network::Network;
use crate::machine::event::Asked;
use crate::netboot::alarm::{Alarm, Wanted};
use crate::netboot::desk::{Desk, House, Known};
use crate::netboot::overhear::{Overhearer, Rack};
use crate::netboot::question::Whose;
use crate::netboot::refusals::Refusals;
use crate::netboot::tftp::{Server, TftpError};
use crate::netboot::{Alarms, BootRoots, CardFiles, CommandLines, Strangers, ear, neighbour};
use crate::runner::{Board, Handle, NodeView};
use crate::store::{Actor, Store};
use piseduce_protocol::id::Serial;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Questions that the runner has not taken in yet. Who asks is alive; one question of many may get lost.
const ASKED_WAITING: usize = 1024;

/// What the desk needs.
pub(super) struct Netboot {
    /// The nodes, and who is told of their questions.
    pub(super) nodes: Nodes,
    /// What nodes boot in order to be worked on.
    pub(super) roots: BootRoots,
    /// The boot files of cards that are booted over the network.
    pub(super) cards: CardFiles,
    /// Who asks and is not registered.
    pub(super) strangers: Strangers,
    /// What boot roots are told.
    pub(super) command_lines: Arc<CommandLines>,
}

impl Netboot {
    /// Binds the server; nobody is answered until it serves.
    ///
    /// # Errors
    /// When one of `addresses` cannot be bound.
    pub(super) fn bind(self, addresses: &[SocketAddr]) -> Result<Server<Nodes>, TftpError> {
        let desk = Desk::new(self.nodes, self.roots, self.cards, self.strangers, self.command_lines);
        Server::bind(addresses, desk, neighbour::table)
    }
}

/// Listens to the networks that nodes boot on, as long as the runtime lives.
pub(super) fn listen(networks: &[Network], nodes: &Nodes, alarms: &Alarms) {
    for network in networks {
        tokio::spawn(ear::listen(Overhearer::new(network.clone(), nodes.clone(), alarms.clone())));
    }
}

/// The nodes as firmware matters.
#[derive(Clone)]
pub(super) struct Nodes {
    board: Board,
    told: mpsc::Sender<Told>,
    refusals: Refusals,
}

/// What the runner is told.
enum Told {
    Asked(Serial, Asked, Instant),
    Token(Serial, TokenHolder),
}

/// Alarms of those who are refused, in the log and in the journal.
pub(super) fn refusals(alarms: &Alarms, store: &Store) -> Refusals {
    let store = store.clone();
    Refusals::new(alarms.clone(), neighbour::mac_of, move |alarm| {
        let text = format!("{}: {alarm}", alarm.trouble.name());
        tracing::warn!("{text}");
        let store = store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.note(clock::unix_ms(), Actor::Machine, "alarm", text).await {
                tracing::warn!(%error, "the alarm is not in the journal");
            }
        });
    })
}

impl Nodes {
    /// The nodes of `board`, whose questions `runner` is told of.
    pub(super) fn new(board: Board, runner: Handle, refusals: Refusals) -> Nodes {
        let (told, mut waiting) = mpsc::channel(ASKED_WAITING);
        tokio::spawn(async move {
            while let Some(told) = waiting.recv().await {
                let heard = match told {
                    Told::Asked(serial, asked, at) => runner.boot_asked(serial, asked, at).await,
                    Told::Token(serial, holder) => runner.token_fetched(serial, holder).await,
                };
                if heard.is_err() {
                    return;
                }
            }
        });
        Nodes { board, told, refusals }
    }
}

impl Rack for Nodes {
    fn node(&self, mac: &str) -> Option<Serial> {
        self.board.by_mac(mac).map(|node| node.node.attributes.serial)
    }

    fn at(&self, address: Ipv4Addr) -> Option<(String, String)> {
        let found = self.board.by_ip(address)?;
        let attributes = &found.node.attributes;
        Some((attributes.name.to_string(), attributes.mac.clone()))
    }

    fn asked(&self, serial: Serial, asked: Asked) {
        let _ = self.told.try_send(Told::Asked(serial, asked, clock::now()));
    }

    fn alarm(&self, alarm: &Alarm) {
        self.refusals.tell(alarm);
    }
}

impl House for Nodes {
    fn nodes(&self, whose: &Whose) -> Vec<Known> {
        let meant = match whose {
            Whose::Serial(end) => self.board.by_serial_end(*end),
            Whose::Mac(mac) => self.board.by_mac(mac),
            Whose::Asker => None,
        };
        let known = |node: Arc<NodeView>| Known {
            name: node.node.attributes.name.clone(),
            model: node.node.attributes.model.clone(),
            serial: node.node.attributes.serial,
            mac: node.node.attributes.mac.clone(),
            boot: node.boot(),
            view: node.boot_view(),
            card: node.card(),
        };
        meant.into_iter().map(known).collect()
    }

    fn has_address(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        self.board.by_ip(address).is_some()
    }

    fn asked(&self, serial: Serial, asked: Asked) {
        let _ = self.told.try_send(Told::Asked(serial, asked, clock::now()));
    }

    fn token_holder(&self, serial: Serial) -> Option<TokenHolder> {
        self.board.token_holder(serial)
    }

    fn token_asked(&self, serial: Serial, holder: TokenHolder) {
        // The firmware that is not heard now asks again.
        let _ = self.told.try_send(Told::Token(serial, holder));
    }

    fn refused(&self, known: &Known, address: IpAddr, mac: Option<&str>, wanted: Wanted) {
        self.refusals.stranger(&known.name, wanted, address, mac.map(Into::into));
    }
}

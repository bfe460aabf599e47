//! The TFTP server at its place in the house: which nodes it knows, and who is told of their questions.

use crate::machine::event::Asked;
use crate::netboot::desk::{Desk, House, Known};
use crate::netboot::question::Whose;
use crate::netboot::tftp::{Server, TftpError};
use crate::netboot::{BootRoots, CardFiles, CommandLines, Strangers, neighbour};
use crate::runner::{Board, Handle, NodeView};
use piseduce_protocol::id::Serial;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Questions that the runner has not taken in yet. Who asks is alive; one question of many may get lost.
const ASKED_WAITING: usize = 1024;

/// What the desk needs.
pub(super) struct Netboot {
    /// Every node as it is now.
    pub(super) board: Board,
    /// Who is told of questions.
    pub(super) runner: Handle,
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
    /// When `address` cannot be bound.
    pub(super) async fn bind(self, address: SocketAddr) -> Result<Server<Nodes>, TftpError> {
        let (asked, mut questions) = mpsc::channel(ASKED_WAITING);
        let nodes = Nodes { board: self.board, asked };
        let runner = self.runner;
        tokio::spawn(async move {
            while let Some((serial, asked)) = questions.recv().await {
                if runner.boot_asked(serial, asked).await.is_err() {
                    return;
                }
            }
        });
        let desk = Desk::new(nodes, self.roots, self.cards, self.strangers, self.command_lines);
        Server::bind(address, desk, neighbour::mac_of).await
    }
}

/// The nodes as the desk sees them.
pub(super) struct Nodes {
    board: Board,
    asked: mpsc::Sender<(Serial, Asked)>,
}

impl House for Nodes {
    fn nodes(&self, whose: &Whose) -> Vec<Known> {
        let meant = match whose {
            Whose::Serial(end) => self.board.matching(|node| node.attributes.serial.short() == *end),
            Whose::Mac(mac) => self.board.matching(|node| node.attributes.mac == *mac),
            Whose::Asker => Vec::new(),
        };
        let known = |node: &NodeView| Known {
            serial: node.node.attributes.serial,
            mac: node.node.attributes.mac.clone(),
            boot: node.boot(),
            view: node.boot_view(),
            card: node.card(),
        };
        meant.iter().map(known).collect()
    }

    fn asked(&self, serial: Serial, asked: Asked) {
        let _ = self.asked.try_send((serial, asked));
    }
}

//! What becomes of nodes: out of service and back, another board, another place, and their end.

use super::connection::{Connection, level};
use super::error::ClientError;
use super::nodes::{by_name, named};
use crate::api::{ChangeRequest, DrainRequest, NodeView};
use crate::print::Output;
use clap::Subcommand;
use piseduce_protocol::id::Serial;
use serde::Serialize;

/// The part of `piseduce node` that is about what becomes of nodes.
#[derive(Clone, Debug, Subcommand)]
pub enum LifecycleCommand {
    /// Give nodes to nobody any more; who has one keeps it until it is given back, and then it stays off
    Drain {
        /// Nodes by name, or @LABEL
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Why, for those who want the node
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Give drained nodes to users again
    Resume {
        /// Nodes by name, or @LABEL
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Say that another board has the place of a free or quarantined node
    Replace {
        /// The node's name
        node: String,
        /// The new board's serial number, 16 hex digits
        #[arg(long)]
        serial: Serial,
        /// Its network address
        #[arg(long)]
        mac: String,
        /// Its model, if it is another one
        #[arg(long)]
        model: Option<String>,
    },
    /// Say that a free or quarantined node hangs on another outlet
    Move {
        /// The node's name
        node: String,
        /// The outlet
        #[arg(long)]
        port: String,
        /// The switch, if it is another one
        #[arg(long)]
        switch: Option<String>,
    },
    /// Take free or quarantined nodes out of the rack for good; their history stays
    Retire {
        /// Nodes by name, or @LABEL
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
}

pub(super) fn run(
    connection: &Connection,
    output: Output,
    command: LifecycleCommand,
) -> Result<(), ClientError> {
    let each = |nodes: Vec<String>, request, body: &dyn Body, done: fn(&NodeView) -> String| {
        let nodes = named(connection, nodes)?;
        // All are looked at before the first is touched.
        nodes.iter().try_for_each(|node| by_name(connection, node).map(drop))?;
        let mut views = Vec::new();
        let sent = nodes.iter().try_for_each(|node| {
            views.push(body.post(connection, &format!("nodes/{}/{request}", level(node)))?);
            Ok(())
        });
        // What was done is told even if a later one refuses.
        if !views.is_empty() {
            output.tell("nodes", &views, |views| views.iter().map(done).collect::<Vec<_>>().join("\n"));
        }
        sent
    };
    match command {
        LifecycleCommand::Drain { nodes, reason } => each(nodes, "drain", &DrainRequest { reason }, drained),
        LifecycleCommand::Resume { nodes } => {
            each(nodes, "resume", &(), |node| format!("{}: in service", node.name))
        }
        LifecycleCommand::Replace { node, serial, mac, model } => {
            let change = ChangeRequest { serial: Some(serial), mac: Some(mac), model, ..Default::default() };
            each(vec![node], "change", &change, changed)
        }
        LifecycleCommand::Move { node, port, switch } => {
            let change = ChangeRequest { port: Some(port), switch, ..Default::default() };
            each(vec![node], "change", &change, changed)
        }
        LifecycleCommand::Retire { nodes } => each(nodes, "retire", &(), |node| {
            let left = node.owes.as_ref().map(|owes| format!("; content of {} is on its card", owes.used_by));
            format!("{}: retired{}", node.name, left.unwrap_or_default())
        }),
    }
}

/// What can be sent.
trait Body {
    fn post(&self, connection: &Connection, path: &str) -> Result<NodeView, ClientError>;
}

impl<T: Serialize> Body for T {
    fn post(&self, connection: &Connection, path: &str) -> Result<NodeView, ClientError> {
        connection.post(path, self)
    }
}

fn drained(node: &NodeView) -> String {
    match &node.deployment {
        Some(deployment) => {
            format!("{}: nobody gets it when {} has given it back", node.name, deployment.owner)
        }
        None => format!("{}: out of service", node.name),
    }
}

fn changed(node: &NodeView) -> String {
    let NodeView { name, serial, mac, model, switch, port, .. } = node;
    format!(
        "{name}: {model}, serial {serial}, mac {mac}, at port {port} of {switch}\nprove it: `piseduce node test {name} --wait`; with dnsmasq: `sudo piseduce netboot render`"
    )
}

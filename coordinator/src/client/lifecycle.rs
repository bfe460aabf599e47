//! What becomes of nodes: out of service and back, another board, another place, and their end.

use super::connection::{Connection, level};
use super::error::ClientError;
use super::nodes::named;
use crate::api::{ChangeRequest, NodeRequest, NodeRequestResult, NodeRequests, NodeView};
use crate::print::Output;
use clap::Subcommand;
use piseduce_protocol::id::Serial;

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
    let each = |nodes: Vec<String>, request, done: fn(&NodeView) -> String| {
        ask(connection, output, &NodeRequests { request, nodes: named(connection, nodes)? }, done)
    };
    let change = |node: &str, change: ChangeRequest| {
        let view: NodeView = connection.post(&format!("nodes/{}/change", level(node)), &change)?;
        output.tell("nodes", &[view], |views| changed(&views[0]));
        Ok(())
    };
    match command {
        LifecycleCommand::Drain { nodes, reason } => each(nodes, NodeRequest::Drain { reason }, drained),
        LifecycleCommand::Resume { nodes } => {
            each(nodes, NodeRequest::Resume, |node| format!("{}: in service", node.name))
        }
        LifecycleCommand::Replace { node, serial, mac, model } => {
            change(&node, ChangeRequest { serial: Some(serial), mac: Some(mac), model, ..Default::default() })
        }
        LifecycleCommand::Move { node, port, switch } => {
            change(&node, ChangeRequest { port: Some(port), switch, ..Default::default() })
        }
        LifecycleCommand::Retire { nodes } => each(nodes, NodeRequest::Retire, |node| {
            let left = node.owes.as_ref().map(|owes| format!("; content of {} is on its card", owes.used_by));
            format!("{}: retired{}", node.name, left.unwrap_or_default())
        }),
    }
}

/// Asks for the same thing at all these nodes. What can be done is done and told, and so is what stands in the way.
fn ask(
    connection: &Connection,
    output: Output,
    requests: &NodeRequests,
    done: fn(&NodeView) -> String,
) -> Result<(), ClientError> {
    let results: Vec<NodeRequestResult> = connection.post("node-requests", requests)?;
    let asked = results.len();
    let (mut views, mut refused) = (Vec::new(), Vec::new());
    for NodeRequestResult { name, node, refusal } in results {
        views.extend(node);
        refused.extend(refusal.map(|refusal| (name, refusal)));
    }
    if !views.is_empty() {
        output.tell("nodes", &views, |views| views.iter().map(done).collect::<Vec<_>>().join("\n"));
    }
    ClientError::refused_by(refused, asked).map_or(Ok(()), Err)
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

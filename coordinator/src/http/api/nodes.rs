//! Nodes: what they are, and how they become known.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::view;
use super::Body;
use crate::api::{ImportCountView, ImportedView, Inventory, NodeEntry, NodeView, SwitchEntry};
use crate::clock;
use crate::domain::network::Network;
use crate::domain::node::NodeAttributes;
use crate::domain::switch::{OFF_TIME_DEFAULT, Switch, SwitchAttributes};
use crate::permission::Action;
use crate::store::Actor;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/nodes", get(list))
        .route("/nodes/import", post(import))
        .route("/inventory", get(inventory))
        .route("/nodes/{name}", get(show))
}

async fn list(State(shared): State<Shared>, asker: Asker) -> Result<Json<Vec<NodeView>>, ApiError> {
    asker.check(Action::Look)?;
    let mut nodes: Vec<NodeView> =
        shared.board.all().iter().map(|known| view::node(&shared, known)).collect();
    alphanumeric_sort::sort_slice_by_str_key(&mut nodes, |node| &node.name);
    Ok(Json(nodes))
}

async fn show(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<NodeView>, ApiError> {
    asker.check(Action::Look)?;
    let known = shared.board.node(&name).ok_or_else(|| ApiError::missing("node", &name))?;
    Ok(Json(view::node(&shared, &known)))
}

async fn import(
    State(shared): State<Shared>,
    asker: Asker,
    Body(inventory): Body<Inventory>,
) -> Result<Json<ImportedView>, ApiError> {
    asker.check(Action::Administer)?;
    register(&shared, asker, inventory).await
}

/// Adds and changes what an administrator sent.
pub(super) async fn register(
    shared: &Shared,
    asker: Asker,
    inventory: Inventory,
) -> Result<Json<ImportedView>, ApiError> {
    let invalid =
        |error: &dyn std::error::Error| ApiError::invalid(error.to_string(), "nothing was imported");
    check_names("switch", inventory.switches.iter().map(|switch| &switch.name))?;
    check_names("node", inventory.nodes.iter().map(|node| &node.name))?;
    let switches: Result<Vec<_>, _> = inventory.switches.into_iter().map(switch).collect();
    let nodes: Result<Vec<_>, _> = inventory.nodes.into_iter().map(node).collect();
    let switches = switches.map_err(|error| invalid(&error))?;
    let nodes = nodes.map_err(|error| invalid(&error))?;
    check_addresses(&shared.networks, &nodes)?;
    let actor = Actor::User(asker.0.name);
    let imported = shared.store.import(switches, nodes, clock::unix_ms(), actor).await?;
    shared.runner.inventory_changed().await?;
    let (nodes, switches) = (imported.nodes, imported.switches);
    Ok(Json(ImportedView {
        added: nodes.added,
        changed: nodes.changed,
        unchanged: nodes.unchanged,
        switches: ImportCountView {
            added: switches.added,
            changed: switches.changed,
            unchanged: switches.unchanged,
        },
        unnamed_nodes: imported.unnamed_nodes,
        unnamed_switches: imported.unnamed_switches,
    }))
}

/// Each name once: of two entries one would be lost.
fn check_names<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<(), ApiError> {
    let mut known = BTreeSet::new();
    for name in names {
        if !known.insert(name) {
            let message = format!("{what} `{name}` is in the inventory twice");
            return Err(ApiError::invalid(message, "nothing was imported"));
        }
    }
    Ok(())
}

/// Everything that is registered, as an import takes it.
async fn inventory(State(shared): State<Shared>, asker: Asker) -> Result<Json<Inventory>, ApiError> {
    asker.check(Action::Administer)?;
    let switches = shared.store.switches().await?.into_iter().map(switch_entry).collect();
    let nodes = shared.store.nodes().await?.into_iter().map(|node| node_entry(node.attributes)).collect();
    Ok(Json(Inventory { switches, nodes }))
}

fn switch_entry(switch: Switch) -> SwitchEntry {
    let SwitchAttributes { name, driver, off_time, protected, budget_watts } = switch.attributes;
    let is_usual = off_time == OFF_TIME_DEFAULT;
    SwitchEntry {
        name,
        driver,
        off_time_ms: (!is_usual).then(|| u64::try_from(off_time.as_millis()).unwrap_or(u64::MAX)),
        protected_ports: protected,
        budget_watts,
    }
}

fn node_entry(attributes: NodeAttributes) -> NodeEntry {
    let NodeAttributes { name, serial, mac, model, switch, port, watts, ip, console, labels } = attributes;
    NodeEntry { name, serial, mac, model, switch, port, watts, ip, console, labels }
}

/// No node may have an address that somebody else has on the nodes' networks.
fn check_addresses(networks: &[Network], nodes: &[NodeAttributes]) -> Result<(), ApiError> {
    for node in nodes {
        let taken = node.ip.and_then(|ip| {
            let found = networks.iter().find_map(|network| Some((network, network.taken_by(ip)?)));
            found.map(|(network, whose)| (ip, network, whose))
        });
        if let Some((ip, network, whose)) = taken {
            let (name, subnet) = (&node.name, network.subnet());
            let message = format!("IP address {ip} of node {name} is not allowed: it is {whose} on {subnet}");
            return Err(ApiError::invalid(message, "give the node another address; nothing was imported"));
        }
    }
    Ok(())
}

fn switch(entry: SwitchEntry) -> Result<SwitchAttributes, crate::domain::switch::SwitchError> {
    let attributes = SwitchAttributes {
        name: entry.name,
        driver: entry.driver,
        off_time: entry.off_time_ms.map_or(OFF_TIME_DEFAULT, Duration::from_millis),
        protected: entry.protected_ports,
        budget_watts: entry.budget_watts,
    };
    attributes.checked()
}

fn node(entry: NodeEntry) -> Result<NodeAttributes, crate::domain::node::NodeError> {
    let attributes = NodeAttributes {
        name: entry.name,
        serial: entry.serial,
        mac: entry.mac,
        model: entry.model,
        switch: entry.switch,
        port: entry.port,
        watts: entry.watts,
        ip: entry.ip,
        console: entry.console,
        labels: entry.labels,
    };
    attributes.checked()
}

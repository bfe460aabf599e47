//! Nodes: what they are, and how they become known.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::view;
use super::Body;
use crate::api::{ImportedView, Inventory, NodeEntry, NodeView, SwitchEntry};
use crate::clock;
use crate::domain::network::Network;
use crate::domain::node::NodeAttributes;
use crate::domain::switch::{OFF_TIME_DEFAULT, SwitchAttributes};
use crate::permission::Action;
use crate::store::Actor;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use std::time::Duration;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/nodes", get(list))
        .route("/nodes/import", post(import))
        .route("/nodes/{name}", get(show))
}

async fn list(State(shared): State<Shared>, asker: Asker) -> Result<Json<Vec<NodeView>>, ApiError> {
    asker.check(Action::Look)?;
    Ok(Json(shared.board.all().iter().map(|known| view::node(&shared, known)).collect()))
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
    let switches: Result<Vec<_>, _> = inventory.switches.into_iter().map(switch).collect();
    let nodes: Result<Vec<_>, _> = inventory.nodes.into_iter().map(node).collect();
    let switches = switches.map_err(|error| invalid(&error))?;
    let nodes = nodes.map_err(|error| invalid(&error))?;
    check_addresses(&shared.networks, &nodes)?;
    let actor = Actor::User(asker.0.name);
    let imported = shared.store.import(switches, nodes, clock::unix_ms(), actor).await?;
    shared.runner.inventory_changed().await?;
    Ok(Json(ImportedView { added: imported.added, changed: imported.changed, unchanged: imported.unchanged }))
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

//! Nodes: what they are, what is done with them by name, and how they become known.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::view;
use super::Body;
use crate::api::{ImportedView, Inventory, NodeEntry, NodeView, Started, SwitchEntry};
use crate::clock;
use crate::domain::network::Network;
use crate::domain::node::NodeAttributes;
use crate::domain::switch::{OFF_TIME_DEFAULT, SwitchAttributes};
use crate::machine::event::Request;
use crate::permission::Action;
use crate::store::{Actor, Wanted};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use piseduce_protocol::id::DeploymentId;
use std::time::Duration;

/// For how long a free node is held for its test; the test itself goes on until it ends.
const TEST_HOLD: Duration = Duration::from_secs(15 * 60);

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/nodes", get(list))
        .route("/nodes/import", post(import))
        .route("/nodes/{name}", get(show))
        .route("/nodes/{name}/test", post(test))
        .route("/nodes/{name}/{request}", post(ask))
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

async fn ask(
    State(shared): State<Shared>,
    asker: Asker,
    Path((name, request)): Path<(String, String)>,
) -> Result<Json<Started>, ApiError> {
    let request = match request.as_str() {
        "cancel" => Request::Cancel,
        "reboot" => Request::HardReboot,
        "deploy-again" => Request::DeployAgain,
        "destroy" => Request::Destroy,
        other => return Err(ApiError::missing("request", other)),
    };
    let known = shared.board.node(&name).ok_or_else(|| ApiError::missing("node", &name))?;
    let deployment = known.deployment.ok_or_else(|| {
        let message = format!("node `{name}` is free: nobody holds it");
        ApiError::conflict("free", message, "`piseduce reserve` holds it for you")
    })?;
    asker.check(Action::Control { owner: &deployment.owner })?;
    let id = deployment.live.deployment.id;
    shared.runner.ask(id, request, &asker.0.name).await?;
    Ok(Json(Started { node: name, deployment: id }))
}

/// Tests a quarantined node, or a free one, which nobody gets meanwhile.
async fn test(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<Started>, ApiError> {
    asker.check(Action::Administer)?;
    let known = shared.board.node(&name).ok_or_else(|| ApiError::missing("node", &name))?;
    let deployment = match known.deployment {
        Some(held) if held.live.deployment.state() == piseduce_protocol::state::State::Initialized => {
            let message = format!("node `{name}` is held by {}", held.owner);
            return Err(ApiError::conflict(
                "held",
                message,
                "only a free or a quarantined node can be tested",
            ));
        }
        Some(held) => held.live.deployment.id,
        None => hold_for_test(&shared, &asker, &name).await?,
    };
    shared.runner.ask(deployment, Request::Test, &asker.0.name).await?;
    Ok(Json(Started { node: name, deployment }))
}

async fn hold_for_test(shared: &Shared, asker: &Asker, name: &str) -> Result<DeploymentId, ApiError> {
    let from = clock::unix_ms();
    let until = from + TEST_HOLD;
    let wanted = Wanted {
        owner: asker.0.name.clone(),
        nodes: vec![name.into()],
        from,
        until,
        form_until: until,
        even_out: true,
    };
    shared.runner.reserve(wanted).await?;
    let held = shared.board.node(name).and_then(|known| known.deployment);
    let missing = || ApiError::conflict("free", format!("node `{name}` is free again"), "try again");
    Ok(held.ok_or_else(missing)?.live.deployment.id)
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

//! Switches: what they show, and ports that administrators have switched, by the coordinator or by hand.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::view;
use super::{Asked, Body, nodes};
use crate::api::{
    DetectRequest, DetectedView, ImportedView, Inventory, RenameRequest, SwitchDetails, SwitchEntry,
    SwitchPortQuery, SwitchPortView, SwitchView, SwitchedView,
};
use crate::clock;
use crate::domain::switch::Switch;
use crate::machine::event::Powered;
use crate::permission::Action;
use crate::power::{self, Line, Port, PortView, PowerError};
use crate::runner::{NodeView, PortOrder, SwitchedPort, Wish};
use crate::store::{Actor, Conflict};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use std::sync::Arc;
use std::time::Duration;

/// Who ordered waits so long for an answer; the command line gives up after a minute.
const ORDER_ANSWER_MAX: Duration = Duration::from_secs(45);

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/switches", get(list).post(add))
        .route("/switches/detect", post(detect))
        .route("/switches/{name}", get(show).delete(remove))
        .route("/switches/{name}/rename", post(rename))
        .route("/switches/{name}/ports/{port}/done", post(done))
        .route("/switches/{name}/ports/{port}/{wish}", post(order))
}

fn find(shared: &Shared, name: &str) -> Result<(Switch, Line), ApiError> {
    shared.lines.get(name).ok_or_else(|| ApiError::missing("switch", name))
}

/// The nodes on a switch.
fn nodes_of(shared: &Shared, switch: &Switch) -> Vec<Arc<NodeView>> {
    let mut nodes = shared.board.all();
    nodes.retain(|view| view.node.switch == switch.id);
    nodes
}

fn silent(name: &str) -> impl Fn(PowerError) -> ApiError {
    move |error| match error {
        PowerError::Unreachable(_) => {
            ApiError::unavailable(format!("switch {name}: {error}"), "nothing was changed; try again")
        }
        PowerError::Refused(_) => {
            ApiError::conflict("refused", format!("switch {name}: {error}"), "nothing was changed")
        }
    }
}

async fn list(State(shared): State<Shared>, asker: Asker) -> Result<Json<Vec<SwitchView>>, ApiError> {
    asker.check(Action::Look)?;
    let switches = shared.lines.all();
    let views = switches.iter().map(|(switch, line)| {
        view::switch(switch, nodes_of(&shared, switch).len(), line.driver().reads_back())
    });
    Ok(Json(views.collect()))
}

/// Registers a switch of a new name; what is registered is changed by an import.
async fn add(
    State(shared): State<Shared>,
    asker: Asker,
    Body(entry): Body<SwitchEntry>,
) -> Result<Json<ImportedView>, ApiError> {
    asker.check(Action::Administer)?;
    if shared.lines.get(&entry.name).is_some() {
        return Err(Conflict::Taken { what: "switch", name: entry.name }.into());
    }
    nodes::register(&shared, asker, Inventory { switches: vec![entry], nodes: vec![] }).await
}

async fn show(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<SwitchDetails>, ApiError> {
    asker.check(Action::Administer)?;
    let (switch, line) = find(&shared, &name)?;
    let nodes = nodes_of(&shared, &switch);
    let silent = silent(&name);
    let listed = line.ask(|driver| driver.ports()).await.map_err(&silent)?;
    let mut ports: Vec<SwitchPortView> = match listed {
        Some(ports) => ports.into_iter().map(view::port).collect(),
        None => read_ports(&line, &nodes).await,
    };
    // Uptime, supplies and addresses are for completeness: what a switch does not tell is left out.
    let uptime = line.ask(|driver| driver.uptime()).await.ok().flatten();
    let supplies = line.ask(|driver| driver.supplies()).await.unwrap_or_default();
    let (stations, place_gap) = match line.ask(|driver| driver.stations()).await {
        Ok(Some(table)) => (table.stations, table.gap),
        Ok(None) => (vec![], Some("the switch is not asked for addresses".into())),
        Err(error) => (vec![], Some(format!("its addresses cannot be read: {error}"))),
    };
    for port in &mut ports {
        port.protected = switch.attributes.protects(&port.port);
        port.node = nodes
            .iter()
            .find(|view| view.node.attributes.port == port.port)
            .map(|view| view.node.attributes.name.clone());
        port.macs.extend(stations.iter().filter(|seen| seen.port == port.port).map(|seen| seen.mac.clone()));
    }
    Ok(Json(SwitchDetails {
        switch: view::switch(&switch, nodes.len(), line.driver().reads_back()),
        uptime_seconds: uptime.map(|uptime| uptime.as_secs()),
        supplies: supplies.into_iter().map(view::supply).collect(),
        place_gap,
        ports,
        recovery: shared.board.recovery(),
    }))
}

/// Another name for a switch; its nodes stay at it.
async fn rename(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
    Body(request): Body<RenameRequest>,
) -> Result<Json<RenameRequest>, ApiError> {
    asker.check(Action::Administer)?;
    if request.name.trim().is_empty() {
        return Err(ApiError::invalid("a switch has an empty name", "nothing was changed"));
    }
    let actor = Actor::User(asker.0.name);
    shared.store.rename_switch(name, request.name.clone(), clock::unix_ms(), actor).await?;
    shared.runner.inventory_changed().await?;
    Ok(Json(request))
}

async fn remove(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<()>, ApiError> {
    asker.check(Action::Administer)?;
    shared.store.remove_switch(name, clock::unix_ms(), Actor::User(asker.0.name)).await?;
    shared.runner.inventory_changed().await?;
    Ok(Json(()))
}

/// The ports of nodes, one after the other, where the switch cannot list them. One that does not answer at the first is not asked
/// for the others, which would each be waited for.
async fn read_ports(line: &Line, nodes: &[Arc<NodeView>]) -> Vec<SwitchPortView> {
    let (mut ports, mut silence) = (Vec::new(), None);
    for view in nodes {
        let attributes = &view.node.attributes;
        let port = Port { port: attributes.port.clone(), node: attributes.name.clone() };
        let answer = match &silence {
            None => line.ask(|driver| driver.view(&port)).await,
            Some(silence) => Err(PowerError::clone(silence)),
        };
        if let Err(error @ PowerError::Unreachable(_)) = &answer {
            silence = Some(error.clone());
        }
        let (read, error) = match answer {
            Ok(read) => (read, None),
            Err(error) => (PortView::default(), Some(error.to_string())),
        };
        let read = PortView { port: port.port, ..read };
        ports.push(SwitchPortView { error, ..view::port(read) });
    }
    ports
}

/// The outlet as the switch's driver has it, so that `01` is the port that the inventory calls `1`.
fn in_its_form(switch: &Switch, port: &str) -> Result<String, ApiError> {
    let found = switch.attributes.driver.port(port);
    found.map_err(|error| {
        ApiError::invalid(format!("switch {}: {error}", switch.attributes.name), "nothing was switched")
    })
}

async fn order(
    State(shared): State<Shared>,
    asker: Asker,
    Path((name, port, wish)): Path<(String, String, String)>,
    Asked(query): Asked<SwitchPortQuery>,
) -> Result<Json<SwitchedView>, ApiError> {
    asker.check(Action::Administer)?;
    let wish = match wish.as_str() {
        "on" => Wish::On,
        "off" => Wish::Off,
        "cycle" => Wish::Cycle,
        other => return Err(ApiError::missing("request", other)),
    };
    let (switch, _) = find(&shared, &name)?;
    let port = in_its_form(&switch, &port)?;
    let force = query.force;
    let order = PortOrder { switch: name.clone(), port: port.clone(), wish, force, user: asker.0.name };
    let switched = tokio::time::timeout(ORDER_ANSWER_MAX, shared.runner.switch_port(order)).await;
    let switched = switched.map_err(|_| {
        let seconds = ORDER_ANSWER_MAX.as_secs();
        let message = format!("port {port} of switch {name} is not switched after {seconds} s");
        ApiError::unavailable(
            message,
            "the coordinator goes on with it; `piseduce switch show` shows its ports",
        )
    })?;
    let SwitchedPort { powered, remark } = switched?;
    match powered {
        Powered::On => Ok(Json(SwitchedView { switch: name, port, on: true, remark })),
        Powered::Off => Ok(Json(SwitchedView { switch: name, port, on: false, remark })),
        Powered::Failed(cause) => {
            let message = format!("switch {name}: {cause}");
            Err(ApiError::conflict(cause.name.as_str(), message, "`piseduce switch show` shows its ports"))
        }
    }
}

async fn done(
    State(shared): State<Shared>,
    asker: Asker,
    Path((name, port)): Path<(String, String)>,
) -> Result<Json<SwitchedView>, ApiError> {
    asker.check(Action::Administer)?;
    let (switch, line) = find(&shared, &name)?;
    let port = in_its_form(&switch, &port)?;
    let refused = |error: PowerError| {
        let hint = "`piseduce node list` shows which ports wait for somebody";
        ApiError::conflict("refused", format!("switch {name}: {error}"), hint)
    };
    line.driver().confirm(&port).map_err(refused)?;
    let asked = Port { port, node: String::new() };
    let reading = line.ask(|driver| driver.read(&asked)).await.map_err(refused)?;
    let (on, user) = (reading.on, asker.0.name);
    tracing::info!(switch = name, port = asked.port, on, user, "switched by hand");
    Ok(Json(SwitchedView { switch: switch.attributes.name, port: asked.port, on, remark: None }))
}

async fn detect(
    State(_): State<Shared>,
    asker: Asker,
    Body(request): Body<DetectRequest>,
) -> Result<Json<DetectedView>, ApiError> {
    asker.check(Action::Administer)?;
    let settings = request.snmp;
    crate::domain::driver::Driver::Snmp(settings.clone())
        .check()
        .map_err(|error| ApiError::invalid(error.to_string(), "nothing was asked"))?;
    let found = power::detect(&settings).await.map_err(silent(&settings.address))?;
    Ok(Json(view::detected(&settings, found)))
}

//! What nobody can explain: on the nodes' networks, with the switch port where it comes from, and at nodes.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::seen_at::SeenAt;
use crate::api::AlarmView;
use crate::netboot::alarm::{Alarm, Holder, Times, Trouble};
use crate::permission::Action;
use crate::runner::NodeView;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/alarms", get(list))
}

async fn list(State(shared): State<Shared>, asker: Asker) -> Result<Json<Vec<AlarmView>>, ApiError> {
    asker.check(Action::Administer)?;
    let networks = shared.alarms.all();
    let mut views: Vec<AlarmView> = shared.board.all().iter().filter_map(|node| of_node(node)).collect();
    if !networks.is_empty() {
        let seen_at = SeenAt::ask(&shared).await;
        views.extend(networks.into_iter().map(|(alarm, times)| of_network(&alarm, times, &seen_at)));
    }
    Ok(Json(views))
}

fn of_node(node: &NodeView) -> Option<AlarmView> {
    // A name, a colon, and what was seen.
    let (name, seen) = node.alarm.as_deref()?.split_once(": ")?;
    let attributes = &node.node.attributes;
    Some(AlarmView {
        name: name.into(),
        seen: seen.into(),
        mac: Some(attributes.mac.clone()),
        address: None,
        node: Some(attributes.name.clone()),
        switch: Some(attributes.switch.clone()),
        port: Some(attributes.port.clone()),
        first_unix_ms: None,
        last_unix_ms: None,
        times: None,
    })
}

fn of_network(alarm: &Alarm, times: Times, seen_at: &SeenAt) -> AlarmView {
    let (switch, port) = seen_at.place(alarm.mac.as_deref());
    let node = match &alarm.trouble {
        Trouble::TakenAddress(Holder::Node(node))
        | Trouble::Stranger { node, .. }
        | Trouble::LeakedToken { node } => Some(node.clone()),
        Trouble::TakenAddress(Holder::Head) | Trouble::ForeignDhcp | Trouble::RefusedAddress => None,
    };
    AlarmView {
        name: alarm.trouble.name().into(),
        seen: alarm.to_string(),
        mac: alarm.mac.clone(),
        address: Some(alarm.address.to_string()),
        node,
        switch,
        port,
        first_unix_ms: Some(times.first.0),
        last_unix_ms: Some(times.last.0),
        times: Some(times.count),
    }
}

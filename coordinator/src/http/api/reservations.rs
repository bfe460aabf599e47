//! Reservations: holding nodes.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::view;
use super::Body;
use super::requests::check_count;
use crate::api::{ReservationView, ReserveRequest};
use crate::clock;
use crate::permission::Action;
use crate::store::Wanted;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use std::time::Duration;

/// The longest time for which nodes can be reserved at once.
const RESERVATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const RESERVATION_MIN: Duration = Duration::from_secs(60);

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/reservations", post(reserve))
}

async fn reserve(
    State(shared): State<Shared>,
    asker: Asker,
    Body(request): Body<ReserveRequest>,
) -> Result<Json<ReservationView>, ApiError> {
    asker.check(Action::Reserve)?;
    let time = Duration::from_secs(request.seconds);
    if !(RESERVATION_MIN..=RESERVATION_MAX).contains(&time) {
        let found = humantime::format_duration(time);
        return Err(ApiError::invalid(
            format!("a reservation of {found} is not possible"),
            "from 1 minute to 7 days",
        ));
    }
    check_count(&request.nodes)?;
    let mut nodes = request.nodes;
    nodes.sort();
    if let Some(twice) = nodes.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ApiError::invalid(format!("node `{}` is named twice", twice[0]), ""));
    }
    let from = clock::unix_ms();
    let until = from + time;
    let form_until = (from + shared.hold).min(until);
    let wanted = Wanted { owner: asker.0.name, nodes, from, until, form_until, even_out: false };
    Ok(Json(view::reservation(shared.runner.reserve(wanted).await?)))
}

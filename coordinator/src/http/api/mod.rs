//! `/api/v1`: one file a resource.

mod alarms;
mod boot_files;
mod cards;
mod consoles;
mod deployments;
mod discovered;
mod environments;
mod lifecycle;
mod logs;
mod node_check;
mod nodes;
mod requests;
mod reservations;
mod seen_at;
mod silence;
mod switches;
mod users;

use super::Shared;
use super::auth::Asker;
use super::error::ApiError;
use crate::api::{CoordinatorView, HealthView};
use crate::clock::{self, Instant};
use crate::permission::Action;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;

pub(super) fn routes() -> Router<Shared> {
    let v1 = Router::new()
        .route("/coordinator", get(coordinator))
        .route("/clock/confirm", post(confirm_clock))
        .route("/health", get(health))
        .merge(nodes::routes())
        .merge(node_check::routes())
        .merge(lifecycle::routes())
        .merge(requests::routes())
        .merge(silence::routes())
        .merge(alarms::routes())
        .merge(cards::routes())
        .merge(discovered::routes())
        .merge(consoles::routes())
        .merge(boot_files::routes())
        .merge(reservations::routes())
        .merge(environments::routes())
        .merge(deployments::routes())
        .merge(logs::routes())
        .merge(switches::routes())
        .merge(users::routes());
    Router::new().nest("/api/v1", v1)
}

async fn coordinator(State(shared): State<Shared>, asker: Asker) -> Json<CoordinatorView> {
    Json(CoordinatorView {
        health: view_health(&shared),
        site: shared.site.name().into(),
        user: asker.0.name,
        clock: shared.board.distrust().map(|why| why.to_string()),
        disk: disk_trouble(&shared),
    })
}

/// Why the runner waits, or why requests are refused.
fn disk_trouble(shared: &Shared) -> Option<String> {
    let unsaved = shared.board.unsaved().borrow().clone();
    unsaved.or_else(|| shared.store.trouble()).map(|trouble| trouble.to_string())
}

async fn confirm_clock(State(shared): State<Shared>, asker: Asker) -> Result<Json<()>, ApiError> {
    asker.check(Action::Administer)?;
    Ok(Json(shared.runner.confirm_clock(&asker.0.name).await?))
}

/// For the doctor and for monitoring: whoever reaches the people's listener may ask whether it works.
async fn health(State(shared): State<Shared>) -> Json<HealthView> {
    Json(view_health(&shared))
}

fn view_health(shared: &Shared) -> HealthView {
    HealthView {
        version: env!("CARGO_PKG_VERSION").into(),
        instance: shared.instance.clone(),
        uptime_seconds: clock::now().since(Instant::default()).as_secs(),
        broker_link: shared.board.link_is_up(),
    }
}

/// A JSON body whose errors look like all others.
struct Body<T>(T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, ApiError> {
        let parsed: Result<Json<T>, JsonRejection> = Json::from_request(request, shared).await;
        Ok(Body(parsed?.0))
    }
}

/// What a URL asks for behind its `?`, with errors that look like all others.
struct Asked<T>(T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let parsed: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, shared).await;
        Ok(Asked(parsed?.0))
    }
}

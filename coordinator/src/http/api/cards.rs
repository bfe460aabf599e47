//! The passports of memory cards.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::Path;
use crate::api::{CopyView, FailureView, PassportView};
use crate::domain::card::{Copy, Failure, Passport};
use crate::permission::Action;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/cards", get(list)).route("/cards/{cid}", get(show))
}

async fn list(State(shared): State<Shared>, asker: Asker) -> Result<Json<Vec<PassportView>>, ApiError> {
    asker.check(Action::Administer)?;
    Ok(Json(shared.store.cards().await?.into_iter().map(view).collect()))
}

/// The one whose identification begins or ends so.
async fn show(
    State(shared): State<Shared>,
    asker: Asker,
    Path(cid): Path<String>,
) -> Result<Json<PassportView>, ApiError> {
    asker.check(Action::Administer)?;
    let is_meant = |card: &Passport| card.cid.starts_with(&cid) || card.cid.ends_with(&cid);
    let mut meant = shared.store.cards().await?.into_iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some(card), None) => Ok(Json(view(card))),
        (None, _) => Err(ApiError::missing("card", &cid)),
        (Some(_), Some(_)) => Err(ApiError::conflict(
            "ambiguous",
            format!("more than one card begins or ends with {cid}"),
            "give more digits; `piseduce card list` shows all",
        )),
    }
}

fn view(passport: Passport) -> PassportView {
    let (written, trend, verdict) = (passport.written(), passport.trend(), passport.verdict());
    let of_copy = |copy: &Copy| CopyView { unix_ms: copy.at.0, bytes: copy.bytes, rate: copy.rate() };
    let of_failure = |failure: Failure| {
        let Failure { at, node, cause, seen } = failure;
        FailureView { unix_ms: at.0, node, cause, seen }
    };
    PassportView {
        cid: passport.cid,
        bytes: passport.bytes,
        node: passport.node,
        first_unix_ms: passport.first.0,
        last_unix_ms: passport.last.0,
        written,
        trend,
        verdict: verdict.name().into(),
        advice: verdict.advice().into(),
        copies: passport.copies.iter().map(of_copy).collect(),
        failures: passport.failures.into_iter().map(of_failure).collect(),
    }
}

//! Users and their tokens, for administrators. A token is in the answer that made it, and nowhere else.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::Body;
use crate::api::{NewUser, TokenView, UserView};
use crate::clock;
use crate::credentials;
use crate::domain::user::{Role, Token, User, check_name};
use crate::permission::Action;
use crate::store::Actor;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use piseduce_protocol::id::Hash;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/users", get(list).post(add))
        .route("/users/{name}", delete(remove))
        .route("/users/{name}/token", post(renew).delete(revoke))
}

async fn list(State(shared): State<Shared>, asker: Asker) -> Result<Json<Vec<UserView>>, ApiError> {
    asker.check(Action::Administer)?;
    let view = |user: User| UserView { name: user.name, role: user.role.name().into() };
    Ok(Json(shared.store.users().await?.into_iter().map(view).collect()))
}

async fn add(
    State(shared): State<Shared>,
    asker: Asker,
    Body(request): Body<NewUser>,
) -> Result<Json<TokenView>, ApiError> {
    asker.check(Action::Administer)?;
    check_name(&request.name).map_err(|error| ApiError::invalid(error.to_string(), "no user was added"))?;
    let role = Role::from_name(&request.role).ok_or_else(|| {
        let message = format!("`{}` is no role", request.role);
        ApiError::invalid(message, "admin, user and monitor are the roles")
    })?;
    let (token, hash) = new_token()?;
    let user = User { name: request.name.clone(), role };
    let actor = Actor::User(asker.0.name);
    shared.store.add_user(user, hash, clock::unix_ms(), actor, || Ok(())).await?;
    Ok(Json(TokenView { name: request.name, token }))
}

async fn renew(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<TokenView>, ApiError> {
    asker.check(Action::Administer)?;
    let (token, hash) = new_token()?;
    let actor = Actor::User(asker.0.name);
    shared.store.renew_token(name.clone(), hash, clock::unix_ms(), actor, || Ok(())).await?;
    Ok(Json(TokenView { name, token }))
}

async fn revoke(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    asker.check(Action::Administer)?;
    // The hash of a token that nobody has.
    let (_, hash) = new_token()?;
    shared.store.revoke_token(name, hash, clock::unix_ms(), Actor::User(asker.0.name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    asker.check(Action::Administer)?;
    let (_, hash) = new_token()?;
    shared.store.remove_user(name, hash, clock::unix_ms(), Actor::User(asker.0.name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a user keeps, and what is stored of it.
fn new_token() -> Result<(String, Hash), ApiError> {
    let token = credentials::new_token().map_err(|error| ApiError::ours(&error))?;
    let hash = Token::hash(token.reveal());
    Ok((token.reveal().into(), hash))
}

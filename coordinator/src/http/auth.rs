//! Who asks: the user of the bearer token, or nobody.

use super::Shared;
use super::error::ApiError;
use crate::domain::user::User;
use crate::permission::{Action, may};
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

/// The user who asks; handlers that take it are closed to everybody else.
pub(super) struct Asker(pub(super) User);

impl FromRequestParts<Shared> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            header.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(ApiError::unauthorized)?;
        let user = shared.store.user_of_token(token.trim()).await?;
        user.map(Asker).ok_or_else(ApiError::unauthorized)
    }
}

impl Asker {
    /// Refuses what the user may not do.
    pub(super) fn check(&self, action: Action<'_>) -> Result<(), ApiError> {
        if may(&self.0, action) {
            return Ok(());
        }
        let User { name, role } = &self.0;
        Err(ApiError::forbidden(match action {
            Action::Control { owner } => format!("user {name} may not do this: the node is held by {owner}"),
            Action::Look | Action::Reserve | Action::Administer => {
                format!("user {name} may not do this as {}", role.name())
            }
        }))
    }
}

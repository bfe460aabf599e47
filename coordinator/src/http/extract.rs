//! What handlers take of a request, with errors that look like all others: parts of the path, numbers, bodies.

use super::Shared;
use super::error::ApiError;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use piseduce_protocol::id::DeploymentId;
use serde::de::{DeserializeOwned, Error as _, Unexpected};
use serde::{Deserialize, Deserializer};

/// Numbers in the store are signed: nothing has a larger one.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// Parts of the path; a path with something else in their place names nothing.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let taken = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        taken.map(|path| Path(path.0)).map_err(|_| ApiError::missing("resource", parts.uri.path()))
    }
}

/// A number that something may have in the store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Number(pub(super) u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        match number <= NUMBER_MAX {
            true => Ok(Number(number)),
            false => Err(D::Error::invalid_value(Unexpected::Unsigned(number), &"a number below 2^63")),
        }
    }
}

/// The number of a deployment as a user wrote it.
pub(super) fn deployment_id(text: &str) -> Result<DeploymentId, ApiError> {
    let number = text.parse().ok().filter(|number| *number <= NUMBER_MAX);
    number.map(DeploymentId).ok_or_else(|| ApiError::missing("deployment", text))
}

/// A whole body, within the limit of its route.
pub(super) struct Content(pub(super) Bytes);

impl FromRequest<Shared> for Content {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, ApiError> {
        Ok(Content(Bytes::from_request(request, shared).await?))
    }
}

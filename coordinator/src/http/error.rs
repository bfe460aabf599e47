//! The one place where an error becomes an HTTP status. The operator's mistakes get a code, a message
//! and a hint; our own trouble is logged and called so.

use super::transport::TooSlow;
use crate::api::ErrorBody;
use crate::machine::Refusal;
use crate::runner::{Distrust, RequestError};
use crate::store::{Conflict, DiskTrouble, StoreError};
use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeSet;
use std::io;

/// Of a name in a request so many characters are told back.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// A request that is answered with an error.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    fn new(status: StatusCode, code: &str, message: impl Into<String>, hint: &str) -> Self {
        ApiError { status, body: ErrorBody { code: code.into(), message: message.into(), hint: hint.into() } }
    }

    /// What its answer says.
    pub(super) fn into_body(self) -> ErrorBody {
        self.body
    }

    /// One error for several nodes, where nothing was done because of those that are named.
    pub(super) fn for_nodes(errors: Vec<(String, ApiError)>, asked: usize) -> Option<Self> {
        if asked == 1 {
            return errors.into_iter().next().map(|(_, only)| only);
        }
        let each = errors.iter().map(|(node, error)| format!("{node}: {}", error.body.message));
        let each = each.collect::<Vec<_>>().join("; ");
        let message =
            format!("{} of {asked} nodes stand in the way, so nothing was done: {each}", errors.len());
        ApiError::of_all(&errors.into_iter().map(|(_, error)| error).collect::<Vec<_>>(), message)
    }

    /// One error for several, with their code if it is the same, and all their hints.
    fn of_all(errors: &[ApiError], message: String) -> Option<Self> {
        let first = errors.first()?;
        let is_same = errors.iter().all(|error| error.body.code == first.body.code);
        let code = if is_same { first.body.code.as_str() } else { "refused" };
        let hints: BTreeSet<&str> = errors.iter().map(|error| error.body.hint.as_str()).collect();
        let hints: Vec<&str> = hints.into_iter().filter(|hint| !hint.is_empty()).collect();
        Some(ApiError::new(first.status, code, message, &hints.join("; ")))
    }

    pub(super) fn unauthorized() -> Self {
        let hint = "show a token of `piseduce user add` as `Authorization: Bearer …`";
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "no valid token was shown", hint)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", message, "")
    }

    pub(super) fn missing(what: &'static str, name: &str) -> Self {
        Conflict::Missing { what, name: shown(name) }.into()
    }

    /// The asker has as much of something as it may; it may ask again.
    pub(super) fn busy(message: impl Into<String>, hint: &str) -> Self {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "busy", message, hint)
    }

    pub(super) fn too_large(message: impl Into<String>, hint: &str) -> Self {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message, hint)
    }

    pub(super) fn no_space(message: impl Into<String>) -> Self {
        let hint = "`piseduce doctor` says how full it is; remove environments that nobody needs";
        ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", message, hint)
    }

    /// A body that did not come whole.
    pub(super) fn body(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<TooSlow>() {
                let message = error.to_string();
                return ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message, "send it again");
            }
            next = error.source();
        }
        ApiError::new(StatusCode::BAD_REQUEST, "ended_early", "the body ended early", "send it again")
    }

    pub(super) fn invalid(message: impl Into<String>, hint: &str) -> Self {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message, hint)
    }

    pub(super) fn conflict(code: &str, message: impl Into<String>, hint: &str) -> Self {
        ApiError::new(StatusCode::CONFLICT, code, message, hint)
    }

    /// Something outside does not answer.
    pub(super) fn unavailable(message: impl Into<String>, hint: &str) -> Self {
        ApiError::new(StatusCode::BAD_GATEWAY, "unavailable", message, hint)
    }

    pub(super) fn ours(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut has_no_room = is_full(error);
        let mut source = error.source();
        while let Some(next) = source {
            text = format!("{text}: {next}");
            has_no_room |= is_full(next);
            source = next.source();
        }
        if has_no_room {
            let hint =
                "make room on the head, for example by `piseduce environment remove NAME`, and try again";
            return ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", text, hint);
        }
        tracing::error!(error = text, "request failed");
        let hint = "this is the coordinator's trouble, not yours: see its log";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the coordinator failed", hint)
    }
}

/// Whether a file system has no room, of which there may be others than the store's.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    error.downcast_ref::<io::Error>().is_some_and(|error| full.contains(&error.kind()))
}

impl From<Conflict> for ApiError {
    fn from(conflict: Conflict) -> Self {
        let message = conflict.to_string();
        match conflict {
            Conflict::Missing { what: "environment", .. } => ApiError::new(
                StatusCode::NOT_FOUND,
                "missing",
                message,
                "`piseduce environment list` shows what there is",
            ),
            Conflict::Missing { what: "node", .. } => ApiError::new(
                StatusCode::NOT_FOUND,
                "missing",
                message,
                "`piseduce node list` shows what there is",
            ),
            Conflict::Missing { what: "deployment", .. } => ApiError::new(
                StatusCode::NOT_FOUND,
                "missing",
                message,
                "`piseduce deployment list` shows the latest",
            ),
            Conflict::Missing { what: "switch", .. } => ApiError::new(
                StatusCode::NOT_FOUND,
                "missing",
                message,
                "`piseduce switch list` shows what there is; an import needs a [[switch]] entry of this name",
            ),
            Conflict::Missing { .. } => ApiError::new(StatusCode::NOT_FOUND, "missing", message, ""),
            Conflict::Taken { what: "switch", .. } => {
                let hint = "choose another name, or change this one by `piseduce node import FILE`";
                ApiError::conflict("taken", message, hint)
            }
            Conflict::Taken { .. } => ApiError::conflict("taken", message, "choose another name"),
            Conflict::Held { .. } => {
                ApiError::conflict("held", message, "choose another node, or ask its holder")
            }
            Conflict::Yours { .. } => {
                ApiError::conflict("yours", message, "`piseduce deploy` sends its form")
            }
            Conflict::Quarantined { .. } => ApiError::conflict(
                "quarantined",
                message,
                "choose another node; an administrator looks at it and frees it with `piseduce node test NODE`",
            ),
            Conflict::Several(each) => several(each, message),
            Conflict::OutOfService { .. } => ApiError::conflict(
                "out_of_service",
                message,
                "choose another node; an administrator brings it back with `piseduce node resume NODE`",
            ),
            Conflict::Port { .. } => ApiError::invalid(message, "nothing was changed"),
            Conflict::InUse { .. } => ApiError::conflict("in_use", message, "nothing was changed"),
        }
    }
}

/// Every node that stands in the way of a reservation.
fn several(each: Vec<Conflict>, message: String) -> ApiError {
    let errors: Vec<ApiError> = each.into_iter().map(ApiError::from).collect();
    ApiError::of_all(&errors, message).expect("several are not none")
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(conflict) => conflict.into(),
            StoreError::Disk(trouble) => trouble.into(),
            other => ApiError::ours(&other),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        ApiError::conflict("refused", refusal.to_string(), "")
    }
}

impl From<DiskTrouble> for ApiError {
    fn from(trouble: DiskTrouble) -> Self {
        let (status, code) = match &trouble {
            DiskTrouble::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
            DiskTrouble::ReadOnly { .. } | DiskTrouble::Failed { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "disk_failed")
            }
        };
        ApiError::new(status, code, trouble.to_string(), trouble.hint())
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        match error {
            RequestError::Refused(refusal) => refusal.into(),
            RequestError::Conflict(conflict) => conflict.into(),
            RequestError::Clock(why) => ApiError::conflict("clock", message, clock_hint(why)),
            RequestError::Disk(trouble) => trouble.into(),
            RequestError::Ending => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "ending", message, ""),
        }
    }
}

fn clock_hint(why: Distrust) -> &'static str {
    match why {
        Distrust::Unsynchronised => {
            "wait for NTP, or let the coordinator trust its clock: [clock] trust_unsynchronised = true"
        }
        Distrust::Behind { .. } | Distrust::Stepped { .. } | Distrust::Jumped { .. } => {
            "set the head's clock; an administrator whose clock is right says so with `piseduce clock confirm`"
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::BytesRejection(rejection) => rejection.into(),
            other => ApiError::invalid(other.body_text(), ""),
        }
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return ApiError::too_large("the body of the request is too large", "send less at once");
        }
        ApiError::body(&rejection)
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        ApiError::invalid(rejection.body_text(), "")
    }
}

/// A name from a request as it is shown in an answer: not too long, and without what a terminal would obey.
fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(SHOWN_CHARACTERS_MAX).collect();
    if text.len() < name.len() {
        text.push('…');
    }
    text.replace(char::is_control, "\u{fffd}")
}

/// What a path answers that is none.
pub(super) async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::missing("resource", uri.path())
}

/// The same at the nodes' listener, where somebody may look for the API.
pub(super) async fn unknown_path_for_nodes(uri: Uri) -> ApiError {
    let hint = "this is the nodes' listener; people's listener, which has the API, is another";
    ApiError {
        body: ErrorBody { hint: hint.into(), ..unknown_path(uri.clone()).await.body },
        status: StatusCode::NOT_FOUND,
    }
}

/// What a path answers that has no such method.
pub(super) async fn unknown_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} is not possible at {}", shown(method.as_str()), shown(uri.path()));
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", message, "see `allow` in the answer's head")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netboot::card_files::CardFilesError;

    #[test]
    fn whichever_disk_is_full_is_told_in_words() {
        let source = io::Error::from_raw_os_error(28);
        let error = CardFilesError::Io { action: "write", path: "/srv/card-files/x".into(), source };
        let told = ApiError::from(error);
        assert_eq!((told.status, told.body.code.as_str()), (StatusCode::INSUFFICIENT_STORAGE, "disk_full"));
        assert!(told.body.message.starts_with("failed to write /srv/card-files/x: No space left"));
    }
}

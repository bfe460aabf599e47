//! What is asked of the deployments on nodes, of one node or of many at once. Where it can be done it is done, in one
//! step; of every other node the answer says what stands in the way.

use super::super::Shared;
use super::super::auth::Asker;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::Body;
use crate::api::{DeploymentRequest, DeploymentRequests, RequestResult, Started};
use crate::clock;
use crate::domain::user::User;
use crate::machine::event::Request;
use crate::permission::Action;
use crate::runner::OnRefusal;
use crate::store::Wanted;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use piseduce_protocol::id::DeploymentId;
use piseduce_protocol::state::State as DeploymentState;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error as Unknown;
use std::collections::BTreeSet;
use std::time::Duration;

/// For how long a free node is held for its test; the test itself goes on until it ends.
const TEST_HOLD: Duration = Duration::from_secs(15 * 60);

/// A request may name so many nodes: more than a head has, and few enough to be looked at within milliseconds.
const NODES_NAMED_MAX: usize = 10_000;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/deployments/requests", post(ask_many))
        .route("/nodes/{name}/{request}", post(ask_one))
}

/// A node that was named, and which deployment on it is asked, or why none is.
pub(super) struct Named {
    pub(super) node: String,
    pub(super) found: Result<DeploymentId, ApiError>,
}

async fn ask_many(
    State(shared): State<Shared>,
    asker: Asker,
    Body(wanted): Body<DeploymentRequests>,
) -> Result<Json<Vec<RequestResult>>, ApiError> {
    let results = ask(&shared, &asker.0, wanted).await?;
    let told = results.into_iter().map(|Named { node, found }| match found {
        Ok(deployment) => RequestResult { node, deployment: Some(deployment), refusal: None },
        Err(error) => RequestResult { node, deployment: None, refusal: Some(error.into_body()) },
    });
    Ok(Json(told.collect()))
}

async fn ask_one(
    State(shared): State<Shared>,
    asker: Asker,
    Path((name, request)): Path<(String, String)>,
) -> Result<Json<Started>, ApiError> {
    let parsed: Result<_, Unknown> = DeploymentRequest::deserialize(request.as_str().into_deserializer());
    let wanted = DeploymentRequests {
        request: parsed.map_err(|_| ApiError::missing("request", &request))?,
        nodes: vec![name],
        yes: true,
    };
    let mut results = ask(&shared, &asker.0, wanted).await?;
    let Named { node, found } = results.pop().expect("one node was named");
    Ok(Json(Started { node, deployment: found? }))
}

/// Every node once, in the order in which they were named.
///
/// # Errors
/// When there is none.
pub(super) fn once(nodes: Vec<String>) -> Result<Vec<String>, ApiError> {
    check_count(&nodes)?;
    let mut seen = BTreeSet::new();
    Ok(nodes.into_iter().filter(|name| seen.insert(name.clone())).collect())
}

/// Some nodes, and no more than a request may name.
pub(super) fn check_count(nodes: &[String]) -> Result<(), ApiError> {
    match nodes.len() {
        0 => Err(ApiError::invalid("no node was named", "`piseduce node list` shows what there is")),
        1..=NODES_NAMED_MAX => Ok(()),
        more => {
            let message = format!("{more} nodes are named; {NODES_NAMED_MAX} are possible at once");
            Err(ApiError::invalid(message, "nothing was done; name them in several requests"))
        }
    }
}

async fn ask(shared: &Shared, user: &User, wanted: DeploymentRequests) -> Result<Vec<Named>, ApiError> {
    let DeploymentRequests { request, nodes, yes } = wanted;
    let asker = Asker(user.clone());
    if request == DeploymentRequest::Test {
        asker.check(Action::Administer)?;
    }
    let nodes = once(nodes)?;
    let held_now =
        if request == DeploymentRequest::Test { hold_free(shared, user, &nodes).await? } else { vec![] };
    let mut named: Vec<Named> = nodes
        .into_iter()
        .map(|node| Named { found: find(shared, &asker, request, &node, yes, &held_now), node })
        .collect();
    answer(shared, user, &of(request), OnRefusal::DoTheOthers, &mut named).await?;
    Ok(named)
}

fn of(request: DeploymentRequest) -> Request {
    match request {
        DeploymentRequest::Cancel => Request::Cancel,
        DeploymentRequest::Reboot => Request::HardReboot,
        DeploymentRequest::DeployAgain => Request::DeployAgain,
        DeploymentRequest::Destroy => Request::Destroy,
        DeploymentRequest::Test => Request::Test,
    }
}

/// Asks all that were found, in one step, and notes what refuses.
pub(super) async fn answer(
    shared: &Shared,
    user: &User,
    request: &Request,
    on_refusal: OnRefusal,
    named: &mut [Named],
) -> Result<(), ApiError> {
    let asked = named.iter().filter_map(|one| Some((*one.found.as_ref().ok()?, request.clone())));
    let answers = shared.runner.ask_all(asked.collect(), &user.name, on_refusal).await?;
    let found = named.iter_mut().filter(|one| one.found.is_ok());
    for (one, answer) in found.zip(answers) {
        if let Err(refusal) = answer {
            one.found = Err(refusal.into());
        }
    }
    Ok(())
}

/// The deployment on a node that may be asked for this by this user.
fn find(
    shared: &Shared,
    asker: &Asker,
    request: DeploymentRequest,
    node: &str,
    yes: bool,
    held_now: &[String],
) -> Result<DeploymentId, ApiError> {
    let known = shared.board.node(node).ok_or_else(|| ApiError::missing("node", node))?;
    let deployment = known.deployment.as_ref().ok_or_else(|| {
        let message = format!("node `{node}` is free: nobody holds it");
        ApiError::conflict("free", message, "`piseduce reserve` holds it for you")
    })?;
    let state = deployment.live.deployment.state();
    match request {
        DeploymentRequest::Test if state == DeploymentState::Initialized => {
            if !held_now.iter().any(|held| held == node) {
                let message = if deployment.owner == asker.0.name {
                    format!("you hold node `{node}` yourself")
                } else {
                    format!("node `{node}` is held by {}", deployment.owner)
                };
                let hint = "only a free or a quarantined node can be tested";
                return Err(ApiError::conflict("held", message, hint));
            }
        }
        DeploymentRequest::Test => {}
        DeploymentRequest::Cancel | DeploymentRequest::Destroy => {
            asker.check(Action::Control { owner: &deployment.owner })?;
            // Nobody holds what is in quarantine.
            let is_others = deployment.owner != asker.0.name && state != DeploymentState::Quarantined;
            if is_others && !yes {
                let message = format!("node `{node}` is held by {}", deployment.owner);
                return Err(ApiError::conflict("others", message, "`--yes` says that this is meant"));
            }
        }
        DeploymentRequest::Reboot | DeploymentRequest::DeployAgain => {
            asker.check(Action::Control { owner: &deployment.owner })?;
        }
    }
    Ok(deployment.live.deployment.id)
}

/// Holds the free ones among these nodes for their test, so that nobody gets them meanwhile; returns them.
async fn hold_free(shared: &Shared, user: &User, nodes: &[String]) -> Result<Vec<String>, ApiError> {
    let is_free = |name: &&String| shared.board.node(name).is_some_and(|known| known.deployment.is_none());
    let free: Vec<String> = nodes.iter().filter(is_free).cloned().collect();
    if free.is_empty() {
        return Ok(free);
    }
    let from = clock::unix_ms();
    let until = from + TEST_HOLD;
    let wanted = Wanted {
        owner: user.name.clone(),
        nodes: free.clone(),
        from,
        until,
        form_until: until,
        even_out: true,
    };
    shared.runner.reserve(wanted).await?;
    Ok(free)
}

//! Reservation times: which forms stayed open too long, which reservations are over.

use super::{Held, Runner};
use crate::clock::UnixMs;
use crate::domain::deployment::{Active, Condition, Purpose};
use crate::machine::event::Request;
use piseduce_protocol::id::DeploymentId;

/// How far behind the latest time that this site has seen the head's clock may be and still be believed.
const BACKWARDS_MS_MAX: u64 = 5000;

impl Runner {
    /// What the calendar wants now. A clock that runs behind what was seen before ends nothing.
    pub(super) fn calendar_due(&self, now: UnixMs) -> Vec<(DeploymentId, Request)> {
        if now.0 + BACKWARDS_MS_MAX < self.latest.0 {
            return Vec::new();
        }
        self.lives.iter().filter_map(|(id, held)| Some((*id, due(held, now)?))).collect()
    }
}

fn due(held: &Held, now: UnixMs) -> Option<Request> {
    let over = now >= held.until;
    match &held.live.deployment.condition {
        Condition::Open if over => Some(Request::ReservationEnded),
        Condition::Open if now >= held.form_until => Some(Request::HoldExpired),
        Condition::Active(Active {
            purpose: Purpose::Destroy(_) | Purpose::Test | Purpose::Isolate(_),
            ..
        }) => None,
        Condition::Active(_) => over.then_some(Request::ReservationEnded),
        Condition::Resting(rest) => {
            let held_back = rest.state == crate::domain::deployment::Resting::Quarantined;
            (over && !held_back).then_some(Request::ReservationEnded)
        }
        Condition::Open | Condition::Ended(_) => None,
    }
}

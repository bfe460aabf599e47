//! The boot view: computed from a node's deployment, never stored. After a coordinator start the views
//! are right as soon as the deployments are loaded.

use crate::domain::deployment::{Condition, Deployment, Phase, Purpose};
use piseduce_protocol::id::BootNumber;
use piseduce_protocol::state::State;

/// What a node's firmware gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The boot root, with the credentials of this boot.
    BootRoot(BootNumber),
    /// The same, but credentials only once the node's port was seen on.
    Starting,
    /// The node's own card.
    Card,
    /// The boot root with an idle agent and no credentials.
    Hold,
}

/// The boot view of a node with this deployment, or with none.
pub fn view(deployment: Option<&Deployment>) -> View {
    let Some(deployment) = deployment else { return View::Hold };
    match &deployment.condition {
        Condition::Open | Condition::Ended(_) => View::Hold,
        Condition::Resting(_) => card_if_committed(deployment),
        Condition::Active(active) => match (&active.purpose, active.state, &active.phase) {
            // The token is shown between power-on and hello only: a node that reboots by itself later
            // gets none, and the machine gives it a new boot first.
            (Purpose::Deploy | Purpose::Destroy(_) | Purpose::Test, State::NfsBootOn, Phase::Work) => {
                View::BootRoot(deployment.boot)
            }
            // A fast node asks before a slow switch has said that the port delivers.
            (Purpose::Deploy | Purpose::Destroy(_) | Purpose::Test, State::NfsBootOn, Phase::On) => {
                View::Starting
            }
            (Purpose::Deploy | Purpose::Reboot, _, _) => card_if_booting(deployment, active.state),
            (Purpose::Destroy(_) | Purpose::Halt(_) | Purpose::Test | Purpose::Isolate(_), _, _) => {
                View::Hold
            }
        },
    }
}

fn card_if_booting(deployment: &Deployment, state: State) -> View {
    match state {
        State::EnvBootConf | State::EnvBoot | State::UserScript => card_if_committed(deployment),
        State::TurnOff | State::TurnOn => View::Card,
        _ => View::Hold,
    }
}

/// A card boots only when this run copied, checked and configured it.
fn card_if_committed(deployment: &Deployment) -> View {
    match deployment.registered {
        State::EnvBootConf | State::EnvBoot | State::UserScript | State::Deployed => View::Card,
        _ => View::Hold,
    }
}

//! What follows from a deployment's saved state. Effects are idempotent and bear the sequence number
//! that their answer must show.

use crate::domain::deployment::{Active, Deployment, Phase};
use piseduce_protocol::command::{Verify, Wipe};
use piseduce_protocol::id::{Hash, Seq};
use piseduce_protocol::state::State;

/// Out of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Serve the boot view that follows from the saved state, then report [`super::Event::ViewServed`].
    ServeView(Seq),
    /// Switch the node's port off and prove it.
    PowerOff(Seq),
    /// Switch the node's port on and prove it.
    PowerOn(Seq),
    /// Ask the agent for this.
    Command(Seq, Ask),
    /// Tell the user that the request is not carried out, and why.
    Refuse(Refusal),
}

/// What to ask of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The work of a state.
    Work {
        /// Which state.
        state: State,
        /// Which go at it.
        attempt: u32,
        /// The image.
        manifest: Hash,
        /// Which chunks are read back.
        verify: Verify,
        /// Whether the boot partition is copied again first.
        recopy_boot: bool,
    },
    /// End what is being written.
    Stop,
    /// Leave the boot root.
    Reboot,
    /// Make the card unbootable and wipe it.
    Wipe(Wipe),
}

/// Why a request is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no form yet.
    #[error("nothing is deployed yet: send the form with `deploy`")]
    NothingDeployed,
    /// A form was sent before.
    #[error("a deployment is under way or done: use `deploy-again`, or `destroy` it first")]
    FormSent,
    /// Cancelling is for what is not deployed yet.
    #[error("the node is deployed: use `destroy` to give it back")]
    Deployed,
    /// The node is being freed.
    #[error("the deployment is being destroyed")]
    BeingDestroyed,
    /// The node is being switched off for a grave reason.
    #[error("the node is being switched off; try again when it has failed")]
    BeingHalted,
    /// Only an administrator can take a node out of quarantine.
    #[error("the node is quarantined: an administrator must look at it and have it tested")]
    Quarantined,
    /// The node is being switched off before it is quarantined.
    #[error("the node could not be released and is being switched off; try again when it is quarantined")]
    BeingIsolated,
    /// Only what nobody uses is tested.
    #[error("the node is in use: only a free or a quarantined node can be tested")]
    InUse,
    /// Only what nobody has can be retired.
    #[error("the node is in use: destroy its deployment before retiring it")]
    StillUsed,
    /// It is over.
    #[error("the deployment has ended")]
    Ended,
}

/// What the saved state of a deployment asks of the world; nothing for waits and rests. The same
/// state gives the same effect, after a save as after a start.
pub fn outstanding(deployment: &Deployment) -> Option<Effect> {
    let Active { state, phase, .. } = deployment.active()?;
    let seq = deployment.seq;
    match (phase, *state) {
        (Phase::Stopping(_), _) => Some(Effect::Command(seq, Ask::Stop)),
        (Phase::Leaving, _) => Some(Effect::Command(seq, Ask::Reboot)),
        (Phase::Off, _) => Some(Effect::PowerOff(seq)),
        (Phase::On, _) => Some(Effect::PowerOn(seq)),
        (Phase::Admission, _) => None,
        (Phase::Work, State::NfsBootConf | State::EnvBootConf) => Some(Effect::ServeView(seq)),
        (Phase::Work, State::Wipe) => Some(Effect::Command(seq, Ask::Wipe(deployment.wipe_now()))),
        (Phase::Work, state) if state.is_agents() => Some(Effect::Command(seq, work(deployment, state))),
        (Phase::Work, _) => None,
    }
}

fn work(deployment: &Deployment, state: State) -> Ask {
    let form = deployment.form.as_ref().expect("agents work only after the form was sent");
    Ask::Work {
        state,
        attempt: deployment.attempt,
        manifest: form.manifest,
        verify: if deployment.resumed { Verify::Full } else { Verify::Written },
        recopy_boot: deployment.attempt > 1 && matches!(state, State::SystemConf | State::UserConf),
    }
}

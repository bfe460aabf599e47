//! The moves by which a node is given back or tested: it comes into the boot root, its card is wiped or owes a
//! wipe, and it is switched off. See [`super::turn`] for all others.

use super::turn::Turn;
use crate::domain::deployment::{Active, Owed, Purpose};
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::command::Wipe;
use piseduce_protocol::state::State;

impl Turn<'_> {
    /// Brings the node back into the boot root and ends, from whatever it is doing.
    pub(super) fn destroy(&mut self, cause: Cause) {
        self.begin_release();
        let purpose = Purpose::Destroy(cause);
        match self.live.deployment.active() {
            // The node is on its way into the boot root already.
            Some(Active {
                purpose: Purpose::Deploy,
                state: state @ (State::NfsBootConf | State::NfsBootOff | State::NfsBootOn),
                phase,
            }) => {
                let (state, phase) = (*state, phase.clone());
                self.go(purpose, state, phase);
            }
            _ => self.begin_boot(purpose),
        }
    }

    /// The same with the agent that has just stopped writing and is in the boot root already.
    pub(super) fn destroy_here(&mut self, cause: Cause) {
        self.begin_release();
        self.enter_for(Purpose::Destroy(cause), State::Wipe);
    }

    /// Brings the node into the boot root to see whether it can be used.
    pub(super) fn test(&mut self) {
        self.begin_release();
        self.begin_boot(Purpose::Test);
    }

    /// A release has a budget of its own, and owes what the site's policy says.
    fn begin_release(&mut self) {
        self.progress();
        let policy = self.policy;
        let deployment = &mut self.live.deployment;
        deployment.restarts = 0;
        let before = deployment.owes;
        deployment.owes = Some(Owed {
            wipe: before.map_or(policy.wipe, |owed| owed.wipe.max(policy.wipe)),
            due: before.is_some_and(|owed| owed.due) || !policy.wipe_later || policy.wipe == Wipe::Headers,
        });
    }

    /// The agent carried the wipe out.
    pub(super) fn wiped(&mut self) {
        let deployment = &mut self.live.deployment;
        deployment.owes = deployment.owes.filter(|owed| !owed.due);
        self.progress();
        if !self.purpose().is_release() {
            return self.enter_registered();
        }
        // An agent's word alone frees nothing.
        match self.live.deployment.boot_evidence.missing_for_release() {
            missing if missing.is_empty() => self.enter_next(State::Wipe),
            missing => self.halt(Cause::new(CauseKind::ReleaseUnproven, missing)),
        }
    }
}

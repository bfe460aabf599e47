//! The moves of which every transition is made. Each keeps the invariants: a fresh sequence number with
//! every request, clocks that start with the phase, the budget paid for every way back.

use super::effect::{Effect, Refusal, outstanding};
use super::event::Asked;
use super::live::{Live, Moment};
use super::policy::Policy;
use super::table::{self, Resumes};
use crate::domain::boot_evidence::BootEvidence;
use crate::domain::deployment::{
    Active, Condition, Deployment, Evidence, Form, Phase, Purpose, Rest, Resting, Then,
};
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::state::State;
use std::time::Duration;

/// One event's turn at a deployment.
pub(super) struct Turn<'a> {
    pub(super) live: Live,
    pub(super) moment: Moment,
    pub(super) policy: &'a Policy,
    before: Deployment,
    refusal: Option<Refusal>,
    ask_again: bool,
}

impl<'a> Turn<'a> {
    pub(super) fn new(mut live: Live, moment: Moment, policy: &'a Policy) -> Self {
        live.count(moment, policy);
        let before = live.deployment.clone();
        Turn { live, moment, policy, before, refusal: None, ask_again: false }
    }

    /// The deployment as it is now, and what follows if it changed.
    pub(super) fn end(self) -> (Live, Vec<Effect>) {
        let mut effects: Vec<Effect> = self.refusal.map(Effect::Refuse).into_iter().collect();
        if self.ask_again || self.live.deployment != self.before {
            effects.extend(outstanding(&self.live.deployment));
        }
        (self.live, effects)
    }

    pub(super) fn deployment(&mut self) -> &mut Deployment {
        &mut self.live.deployment
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    /// The present request goes out once more, under its own number.
    pub(super) fn ask_again(&mut self) {
        self.ask_again = true;
    }

    /// Something new was seen: the window and the restart limit begin anew.
    pub(super) fn progress(&mut self) {
        self.live.clocks.blocked = Duration::ZERO;
        self.live.clocks.idle = Duration::ZERO;
    }

    /// Work moved to `done`; only what was not reached before counts.
    pub(super) fn reached(&mut self, done: u64) {
        if done > self.live.clocks.high_water {
            self.live.clocks.high_water = done;
            self.progress();
        }
    }

    /// Whether `seq` is that of the present request; another one is a straggler's.
    pub(super) fn is_current(&self, seq: piseduce_protocol::id::Seq) -> bool {
        seq == self.live.deployment.seq
    }

    pub(super) fn go(&mut self, purpose: Purpose, state: State, phase: Phase) {
        let now = self.moment.at;
        let deployment = &mut self.live.deployment;
        deployment.seq = deployment.seq.next();
        if matches!(phase, Phase::On) {
            self.live.clocks.powered_on = Some(now);
            self.live.clocks.asked = None;
        }
        deployment.condition = Condition::Active(Active { purpose, state, phase });
        self.live.clocks.in_phase = Duration::ZERO;
        self.live.clocks.phase_began = now;
        self.live.clocks.high_water = 0;
        self.live.clocks.port = None;
    }

    /// Another phase of the same state.
    pub(super) fn phase(&mut self, phase: Phase) {
        let Condition::Active(active) = &self.live.deployment.condition else { return };
        let (purpose, state) = (active.purpose.clone(), active.state);
        self.go(purpose, state, phase);
    }

    /// What the deployment is to come to; `deployed` when nothing else is under way.
    pub(super) fn purpose(&self) -> Purpose {
        self.live.deployment.active().map_or(Purpose::Deploy, |active| active.purpose.clone())
    }

    /// Enters a state of `deploy` in the normal course.
    pub(super) fn enter(&mut self, state: State) {
        self.enter_for(Purpose::Deploy, state);
    }

    /// Enters a state of the process that `purpose` is pursued by. A state that a run of `deploy` did not reach
    /// before is a step forward.
    pub(super) fn enter_for(&mut self, purpose: Purpose, state: State) {
        let row = table::row(state).expect("only states of the table are entered");
        let deployment = &mut self.live.deployment;
        let is_further = table::position(state) > table::position(deployment.registered);
        if purpose == Purpose::Deploy && is_further {
            deployment.registered = state;
            deployment.attempt = 1;
            self.progress();
        }
        let phase = match row.first {
            // Nobody is in the boot root to leave it: only power brings the node to its card.
            Phase::Leaving if self.live.deployment.kernel.is_none() => Phase::Off,
            Phase::Leaving => {
                self.live.clocks.asked = None;
                Phase::Leaving
            }
            ref first => first.clone(),
        };
        self.go(purpose, state, phase);
    }

    /// Enters the state after `state`.
    pub(super) fn enter_next(&mut self, state: State) {
        let purpose = self.purpose();
        let next = table::next(purpose.process(), state);
        self.enter_for(purpose, next.expect("the last state of a process is left in its own way"));
    }

    /// The hello came: the node proves what it is to prove, or the run goes on where it was.
    pub(super) fn enter_after_hello(&mut self) {
        let purpose = self.purpose();
        self.progress();
        if purpose.is_release() || self.live.deployment.owes.is_some_and(|owed| owed.due) {
            return self.enter_for(purpose, State::Wipe);
        }
        self.enter_registered();
    }

    pub(super) fn enter_registered(&mut self) {
        let registered = self.live.deployment.registered;
        if table::position(registered) < table::position(State::EnvCopy) {
            return self.enter(State::EnvCopy);
        }
        self.live.deployment.attempt += 1;
        self.live.deployment.resumed = true;
        self.enter(registered);
    }

    /// Starts a run from the beginning.
    pub(super) fn start(&mut self, form: std::sync::Arc<Form>) {
        let deployment = &mut self.live.deployment;
        deployment.form = Some(form);
        deployment.restarts = 0;
        self.begin_run();
    }

    /// Starts the next run of the same form.
    pub(super) fn start_again(&mut self) {
        self.live.deployment.run = self.live.deployment.run.next();
        self.begin_run();
    }

    fn begin_run(&mut self) {
        let deployment = &mut self.live.deployment;
        deployment.registered = State::Initialized;
        deployment.attempt = 0;
        deployment.resumed = false;
        deployment.restarts = 0;
        deployment.sent_back = false;
        deployment.script_started = false;
        deployment.evidence = None;
        self.progress();
        self.begin_boot(Purpose::Deploy);
    }

    /// A boot of the boot root under a boot number of its own.
    pub(super) fn begin_boot(&mut self, purpose: Purpose) {
        let deployment = &mut self.live.deployment;
        deployment.boot = deployment.boot.next();
        deployment.boot_evidence = BootEvidence::default();
        deployment.kernel = None;
        self.live.clocks.idle = Duration::ZERO;
        self.live.clocks.last_beat = None;
        self.enter_for(purpose, State::NfsBootConf);
    }

    /// Goes on with this run from its registered state, or with the release from its beginning, by power.
    pub(super) fn resume(&mut self) {
        self.live.clocks.idle = Duration::ZERO;
        let purpose = self.purpose();
        if purpose.is_release() {
            return self.begin_boot(purpose);
        }
        let deployment = &mut self.live.deployment;
        if deployment.registered == State::Deployed {
            return self.go(Purpose::Reboot, State::TurnOff, Phase::Off);
        }
        match table::row(deployment.registered).map_or(Resumes::BootRoot, |row| row.resumes) {
            Resumes::BootRoot => self.begin_boot(Purpose::Deploy),
            Resumes::Card => {
                deployment.kernel = None;
                deployment.script_started = false;
                deployment.attempt += 1;
                self.enter(State::EnvBootConf);
            }
        }
    }

    /// A hard reboot that the user asked for: costs no restart.
    pub(super) fn hard_reboot(&mut self) {
        self.progress();
        self.resume();
    }

    /// A restart that the machine needs: paid from the budget, or the node is lost.
    pub(super) fn restart(&mut self, cause: Cause) {
        if self.live.deployment.restarts < self.policy.restart_budget {
            self.live.deployment.restarts += 1;
            self.resume();
        } else {
            self.give_up(cause);
        }
    }

    /// What is on the card is wrong: back to `env_copy` once a run, paid from the budget, with the same agent.
    pub(super) fn send_back(&mut self, cause: Cause) {
        let deployment = &mut self.live.deployment;
        if deployment.sent_back || deployment.restarts >= self.policy.restart_budget {
            return self.fail(cause);
        }
        deployment.sent_back = true;
        deployment.restarts += 1;
        deployment.resumed = true;
        deployment.registered = State::EnvCopy;
        deployment.attempt += 1;
        self.progress();
        self.enter(State::EnvCopy);
    }

    /// What the agent lacked lies with us or the network: the same work once more, with the same agent and what is on the
    /// card already; paid from the budget, or the node fails.
    pub(super) fn repeat(&mut self, state: State, cause: Cause) {
        let deployment = &mut self.live.deployment;
        if deployment.restarts >= self.policy.restart_budget {
            return self.fail(cause);
        }
        deployment.restarts += 1;
        deployment.resumed = true;
        deployment.attempt += 1;
        self.enter(state);
    }

    /// Ends the agent's writing first, then does `then`.
    pub(super) fn stop_agent(&mut self, then: Then) {
        self.phase(Phase::Stopping(then));
    }

    /// Going on would be wrong: switches off, then fails, or is quarantined if it was being released.
    pub(super) fn halt(&mut self, cause: Cause) {
        let purpose = match self.purpose().is_release() {
            true => Purpose::Isolate(cause),
            false => Purpose::Halt(cause),
        };
        self.progress();
        self.go(purpose, State::TurnOff, Phase::Off);
    }

    /// The second half of a power cycle outside `deploy`.
    pub(super) fn turn_on(&mut self) {
        self.go(Purpose::Reboot, State::TurnOn, Phase::Admission);
    }

    /// The user has the node.
    pub(super) fn deployed(&mut self, evidence: Evidence) {
        self.live.deployment.evidence = Some(evidence);
        self.live.deployment.registered = State::Deployed;
        self.rest(Resting::Deployed, None);
    }

    /// Silence, or an exhausted budget: a node that was to be used is lost, one that was to be released is
    /// switched off and quarantined.
    pub(super) fn give_up(&mut self, cause: Cause) {
        match self.purpose().is_release() {
            true => self.halt(cause),
            false => self.rest(Resting::Lost, Some(cause)),
        }
    }

    /// The node said why.
    pub(super) fn fail(&mut self, cause: Cause) {
        match self.purpose().is_release() {
            true => self.halt(cause),
            false => self.rest(Resting::Failed, Some(cause)),
        }
    }

    /// Nothing more is done to the node, not even power: it fails, or is quarantined if it was being released.
    pub(super) fn stop_here(&mut self, cause: Cause) {
        match self.purpose().is_release() {
            true => self.quarantine(cause),
            false => self.rest(Resting::Failed, Some(cause)),
        }
    }

    /// The node could not be released.
    pub(super) fn quarantine(&mut self, cause: Cause) {
        self.rest(Resting::Quarantined, Some(cause));
    }

    fn rest(&mut self, state: Resting, cause: Option<Cause>) {
        let deployment = &mut self.live.deployment;
        // A boot ends when the run rests: whoever shows its credentials later is nobody.
        deployment.kernel = None;
        deployment.condition = Condition::Resting(Rest { state, cause });
    }

    /// The node is free.
    pub(super) fn finish(&mut self, cause: Cause) {
        self.live.deployment.kernel = None;
        self.live.deployment.condition = Condition::Ended(cause);
    }

    /// Compares the clocks with the limits of the present work.
    pub(super) fn check_limits(&mut self) {
        let policy = self.policy;
        if self.live.clocks.blocked >= self.live.blocked_max(policy) {
            let silence = self.silence();
            self.give_up(silence);
        } else if self.live.restart_after(policy).is_some_and(|max| self.live.clocks.idle >= max) {
            let silence = self.silence();
            self.restart(silence);
        }
    }

    /// What silence in the present state means, with what was seen last.
    fn silence(&self) -> Cause {
        let clocks = &self.live.clocks;
        let state = self.live.deployment.state();
        let seconds = clocks.idle.max(clocks.blocked).as_secs();
        let offered;
        let (kind, seen) = match state {
            State::NfsBootOn => match clocks.asked {
                Some(Asked::Kernel) => (CauseKind::KernelSentNoAgent, "the firmware fetched the boot root"),
                Some(Asked::New | Asked::Again) => {
                    (CauseKind::FirmwareStopped, "the firmware asked, and did not fetch the kernel")
                }
                Some(Asked::Offered(server)) => {
                    offered = format!("{server} offered the firmware an address, and it asked for no file");
                    (CauseKind::DhcpNoTftp, &*offered)
                }
                Some(Asked::Address) => (
                    CauseKind::NoDhcp,
                    "the firmware asked for an address, and nobody was heard to offer one",
                ),
                None => (CauseKind::NoBootRequest, "the port delivers power"),
            },
            state if state.is_agents() && self.live.beats(self.moment.at, self.policy) => {
                (CauseKind::AgentStuck, "heartbeats come, the work does not move")
            }
            state if state.is_agents() => (CauseKind::AgentSilent, "no heartbeat comes"),
            _ if clocks.asked_for_files() => {
                (CauseKind::FirstBootSilent, "the firmware asked for its boot view")
            }
            _ if clocks.asked.is_some() => {
                (CauseKind::FirstBootSilent, "the firmware asked for an address and for no file")
            }
            _ => (CauseKind::FirstBootSilent, "the firmware asked for nothing"),
        };
        Cause::new(kind, format!("{seen}, for {seconds} s in {state}"))
    }
}

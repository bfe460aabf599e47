//! The one table of steps: order, who acts first, limits, recovery. Nothing else knows the order.

use crate::domain::deployment::Phase;
use crate::machine::policy::Policy;
use piseduce_protocol::state::{Process, State};
use std::time::Duration;

/// One row: a state of a process.
pub struct Step {
    /// Which state.
    pub state: State,
    /// Who acts when it is entered in the normal course.
    pub first: Phase,
    /// Which silence restarts it.
    pub limit: Limit,
    /// Where a run goes on that stopped here.
    pub resumes: Resumes,
}

/// Which limits apply to the work of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Our own process answers at once; no restart.
    Ours,
    /// A boot into the boot root or an agent's work.
    Agent,
    /// An agent's work on a card that may be busy without showing progress.
    BusyCard,
    /// A boot of the written card.
    EnvBoot,
    /// The user's script: its own time limit, no restart.
    Script,
}

/// Where a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumes {
    /// Boot the boot root again, then this state.
    BootRoot,
    /// Boot the card again from `env_boot_conf`.
    Card,
}

const fn step(state: State, first: Phase, limit: Limit, resumes: Resumes) -> Step {
    Step { state, first, limit, resumes }
}

const NFS_BOOT_CONF: Step = step(State::NfsBootConf, Phase::Work, Limit::Ours, Resumes::BootRoot);
const NFS_BOOT_OFF: Step = step(State::NfsBootOff, Phase::Off, Limit::Ours, Resumes::BootRoot);
const NFS_BOOT_ON: Step = step(State::NfsBootOn, Phase::Admission, Limit::Agent, Resumes::BootRoot);
const TURN_OFF: Step = step(State::TurnOff, Phase::Off, Limit::Ours, Resumes::BootRoot);

/// The states of `deploy` in their order. A card that owes a wipe to its last user passes through `wipe` before
/// `env_copy`.
static DEPLOY: [Step; 15] = [
    NFS_BOOT_CONF,
    NFS_BOOT_OFF,
    NFS_BOOT_ON,
    step(State::EnvCopy, Phase::Work, Limit::BusyCard, Resumes::BootRoot),
    step(State::EnvCheck, Phase::Work, Limit::BusyCard, Resumes::BootRoot),
    step(State::DeletePartition, Phase::Work, Limit::Agent, Resumes::BootRoot),
    step(State::CreatePartition, Phase::Work, Limit::Agent, Resumes::BootRoot),
    step(State::MountPartition, Phase::Work, Limit::BusyCard, Resumes::BootRoot),
    step(State::ResizePartition, Phase::Work, Limit::Agent, Resumes::BootRoot),
    step(State::WaitResizing, Phase::Work, Limit::BusyCard, Resumes::BootRoot),
    step(State::SystemConf, Phase::Work, Limit::BusyCard, Resumes::BootRoot),
    step(State::UserConf, Phase::Work, Limit::BusyCard, Resumes::BootRoot),
    step(State::EnvBootConf, Phase::Work, Limit::Ours, Resumes::Card),
    step(State::EnvBoot, Phase::Leaving, Limit::EnvBoot, Resumes::Card),
    step(State::UserScript, Phase::Work, Limit::Script, Resumes::Card),
];

/// The states of `destroy` and `test`: the node proves that it comes back.
static RELEASE: [Step; 5] = [
    NFS_BOOT_CONF,
    NFS_BOOT_OFF,
    NFS_BOOT_ON,
    step(State::Wipe, Phase::Work, Limit::BusyCard, Resumes::BootRoot),
    TURN_OFF,
];

/// The states of `reboot`.
static REBOOT: [Step; 2] = [TURN_OFF, step(State::TurnOn, Phase::Admission, Limit::EnvBoot, Resumes::Card)];

/// The state of `halt` and `isolate`.
static POWER_OFF: [Step; 1] = [TURN_OFF];

/// The states of a process in their order.
pub fn steps(process: Process) -> &'static [Step] {
    match process {
        Process::Deploy => &DEPLOY,
        Process::Destroy | Process::Test => &RELEASE,
        Process::Reboot => &REBOOT,
        Process::Halt | Process::Isolate => &POWER_OFF,
    }
}

/// Where `state` stands in the order of `deploy`; none for states outside it.
pub fn position(state: State) -> Option<usize> {
    DEPLOY.iter().position(|step| step.state == state)
}

/// The row of `state`, which is the same in every process that has it; none for states in which nothing is
/// under way.
pub fn row(state: State) -> Option<&'static Step> {
    DEPLOY.iter().chain(&RELEASE).chain(&REBOOT).find(|step| step.state == state)
}

/// The state after `state` in the order of `process`; none after the last.
pub fn next(process: Process, state: State) -> Option<State> {
    let mut rest = steps(process).iter().skip_while(|step| step.state != state);
    rest.nth(1).map(|step| step.state)
}

/// The limits that the work of `state` is under.
pub fn limit(state: State) -> Limit {
    row(state).map_or(Limit::Ours, |step| step.limit)
}

/// How long a state under `limit` may be without progress before it is restarted; none: never.
pub fn restart_after(limit: Limit, policy: &Policy) -> Option<Duration> {
    match limit {
        Limit::Agent | Limit::BusyCard => Some(policy.restart_after),
        Limit::EnvBoot => Some(policy.env_boot_restart_after),
        Limit::Ours | Limit::Script => None,
    }
}

/// How long a state under `limit` may be without progress before the node is lost.
pub fn blocked_max(limit: Limit, policy: &Policy, script_seconds: u32) -> Duration {
    match limit {
        Limit::Ours | Limit::Agent | Limit::BusyCard => policy.blocked_max,
        Limit::EnvBoot => policy.env_boot_blocked_max,
        Limit::Script => Duration::from_secs(script_seconds.into()) + policy.script_report_max,
    }
}

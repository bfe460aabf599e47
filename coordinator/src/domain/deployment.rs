//! A deployment as the machine knows it. Everything in it is stored; clocks are kept beside it.

use super::boot_evidence::{BootEvidence, TokenHolder};
use piseduce_protocol::cause::Cause;
use piseduce_protocol::command::{PartSize, Wipe};
use piseduce_protocol::id::{BootNumber, DeploymentId, Hash, Run, Seq, Ticket};
use piseduce_protocol::report::KernelId;
use piseduce_protocol::state::{Process, State};
use std::net::IpAddr;
use std::sync::Arc;

/// Bringing one node to one environment, from the open form to the freed node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Which one.
    pub id: DeploymentId,
    /// The present run; *deploy again* starts the next.
    pub run: Run,
    /// The last sequence number given out.
    pub seq: Seq,
    /// The node's boot number; raised before every boot of the boot root.
    pub boot: BootNumber,
    /// What the user asked for; none while the form is open.
    pub form: Option<Arc<Form>>,
    /// The furthest state reached in this run: a resume starts there.
    pub registered: State,
    /// Which go at the registered state this is, from 1.
    pub attempt: u32,
    /// Whether this run was taken up again after a boot root was left, so that nothing written before is trusted.
    pub resumed: bool,
    /// Restarts spent in this run.
    pub restarts: u32,
    /// Whether this run was sent back to `env_copy` once.
    pub sent_back: bool,
    /// The kernel that said hello in boot `boot`, while it is believed to run.
    pub kernel: Option<KernelId>,
    /// Whether the user's script was reported as started in this boot of the card.
    pub script_started: bool,
    /// What `deployed` rests on.
    pub evidence: Option<Evidence>,
    /// Who fetched the last token that was given out: of this boot, or of one before.
    pub token: Option<TokenHolder>,
    /// What was seen of boot `boot`.
    pub boot_evidence: BootEvidence,
    /// The wipe that the card owes to those who used it.
    pub owes: Option<Owed>,
    /// Where it is.
    pub condition: Condition,
}

/// A wipe that was not carried out yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// How thorough it is.
    pub wipe: Wipe,
    /// Whether it is carried out before anything else is written; if not, the next other user's deployment does.
    pub due: bool,
}

/// Where a deployment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The node is held, the form is open.
    Open,
    /// Something is under way.
    Active(Active),
    /// Nothing is outstanding.
    Resting(Rest),
    /// Over; the node is free.
    Ended(Cause),
}

/// What is under way. Only this has deadlines and outstanding requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// What for.
    pub purpose: Purpose,
    /// Where.
    pub state: State,
    /// Who acts.
    pub phase: Phase,
}

/// What an active deployment is to come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `deployed`.
    Deploy,
    /// `deployed`, after a power cycle.
    Reboot,
    /// The end, for this cause, once the node has proven that it comes back.
    Destroy(Cause),
    /// `failed`, for this cause, with the power off.
    Halt(Cause),
    /// The end, once the node has proven that it comes back.
    Test,
    /// `quarantined`, for this cause, with the power off.
    Isolate(Cause),
}

impl Purpose {
    /// The process's name.
    pub fn process(&self) -> Process {
        match self {
            Purpose::Deploy => Process::Deploy,
            Purpose::Reboot => Process::Reboot,
            Purpose::Destroy(_) => Process::Destroy,
            Purpose::Halt(_) => Process::Halt,
            Purpose::Test => Process::Test,
            Purpose::Isolate(_) => Process::Isolate,
        }
    }

    /// Whether the node is to come back into the boot root and then to be free.
    pub fn is_release(&self) -> bool {
        matches!(self, Purpose::Destroy(_) | Purpose::Test)
    }
}

/// Who acts within a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The agent ends its writing in an orderly way; then something else happens.
    Stopping(Then),
    /// The agent leaves the boot root.
    Leaving,
    /// The power queue switches off.
    Off,
    /// Nobody: too many nodes of the switch are between power-on and sign of life.
    Admission,
    /// The power queue switches on.
    On,
    /// Whoever acts in this state does its work.
    Work,
}

/// What follows once an agent has stopped writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Boot the boot root again and go on from the registered state.
    Resume,
    /// Start the next run.
    Again,
    /// Switch off and end for this cause.
    Destroy(Cause),
}

/// How a deployment rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// In which state.
    pub state: Resting,
    /// Why, unless all is well.
    pub cause: Option<Cause>,
}

/// The states of rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resting {
    /// The environment runs.
    Deployed,
    /// Silence, or an exhausted budget.
    Lost,
    /// The node said why.
    Failed,
    /// The node could not be released.
    Quarantined,
}

impl Resting {
    /// The state's name.
    pub fn state(self) -> State {
        match self {
            Resting::Deployed => State::Deployed,
            Resting::Lost => State::Lost,
            Resting::Failed => State::Failed,
            Resting::Quarantined => State::Quarantined,
        }
    }
}

/// What `deployed` rests on, from strong to weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The run's own first boot reported with the run's token.
    OwnWord,
    /// The node was given its card's boot view; its system cannot report.
    Unproven,
}

impl Evidence {
    /// The level's name.
    pub fn name(self) -> &'static str {
        match self {
            Evidence::OwnWord => "own_word",
            Evidence::Unproven => "unproven",
        }
    }
}

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The environment's name.
    pub environment: String,
    /// Its image, pinned.
    pub manifest: Hash,
    /// Whether the environment's family reports its first boot; `opaque` ones do not.
    pub reports: bool,
    /// How large the root partition becomes.
    pub part_size: PartSize,
    /// The user's password as `crypt(3)` writes it.
    pub password_hash: Option<String>,
    /// Lines of `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// The user's script.
    pub script: Option<Vec<u8>>,
    /// Whether the script may run again after a cut inside it.
    pub rerun_script: bool,
    /// How long the script may take, in seconds.
    pub script_seconds: u32,
}

impl Deployment {
    /// A new deployment whose form is open, on a node with this boot number whose card owes this.
    pub fn open(id: DeploymentId, boot: BootNumber, owes: Option<Owed>) -> Self {
        Deployment {
            id,
            run: Run(1),
            seq: Seq(0),
            boot,
            form: None,
            registered: State::Initialized,
            attempt: 0,
            resumed: false,
            restarts: 0,
            sent_back: false,
            kernel: None,
            script_started: false,
            evidence: None,
            token: None,
            boot_evidence: BootEvidence::default(),
            owes,
            condition: Condition::Open,
        }
    }

    /// Its node has another board now, which was given boot numbers up to this one before.
    pub fn count_boots_from(&mut self, given: BootNumber) {
        self.boot = self.boot.max(given);
    }

    /// The state's name.
    pub fn state(&self) -> State {
        match &self.condition {
            Condition::Open => State::Initialized,
            Condition::Active(active) => active.state,
            Condition::Resting(rest) => rest.state.state(),
            Condition::Ended(_) => State::Ended,
        }
    }

    /// The process's name.
    pub fn process(&self) -> Process {
        self.active().map_or(Process::Deploy, |active| active.purpose.process())
    }

    /// What is under way, if anything is.
    pub fn active(&self) -> Option<&Active> {
        match &self.condition {
            Condition::Active(active) => Some(active),
            Condition::Open | Condition::Resting(_) | Condition::Ended(_) => None,
        }
    }

    /// Why it rests, ends, or is being ended.
    pub fn cause(&self) -> Option<&Cause> {
        match &self.condition {
            Condition::Active(Active {
                purpose: Purpose::Destroy(cause) | Purpose::Halt(cause) | Purpose::Isolate(cause),
                ..
            }) => Some(cause),
            Condition::Resting(rest) => rest.cause.as_ref(),
            Condition::Ended(cause) => Some(cause),
            Condition::Open | Condition::Active(_) => None,
        }
    }

    /// What to do with the card's old content now.
    pub fn wipe_now(&self) -> Wipe {
        self.owes.filter(|owed| owed.due).map_or(Wipe::Headers, |owed| owed.wipe)
    }

    /// What an answer to the last request must show.
    pub fn ticket(&self) -> Ticket {
        Ticket { deployment: self.id, run: self.run, seq: self.seq }
    }

    /// The address that fetched the token of the present boot; nobody else may use it.
    pub fn token_address(&self) -> Option<IpAddr> {
        self.token.filter(|holder| holder.boot == self.boot).map(|holder| holder.address)
    }

    /// The boot whose credentials are good now: from power-on into the boot root until the agent left it.
    pub fn live_boot(&self) -> Option<BootNumber> {
        let active = self.active()?;
        let live = match (&active.phase, active.state) {
            (Phase::Stopping(_) | Phase::Leaving, _) => true,
            (Phase::On | Phase::Work, State::NfsBootOn) => true,
            // The agent that committed the card is still there, to be told to leave.
            (Phase::Work, State::EnvBootConf) => self.kernel.is_some(),
            (Phase::Work, state) => state.is_agents(),
            (Phase::Off | Phase::Admission | Phase::On, _) => false,
        };
        live.then_some(self.boot)
    }
}

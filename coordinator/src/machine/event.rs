//! What can happen to a deployment. Whatever can arrive late bears what tells a straggler from an answer.

use crate::domain::boot_evidence::{CardSighting, PortProof, TokenHolder};
use crate::domain::deployment::Form;
use piseduce_protocol::cause::Cause;
use piseduce_protocol::id::{BootNumber, Run, Seq, Ticket};
use piseduce_protocol::report::{Answer, KernelId, Standing};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Into the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody, or the calendar, wants something.
    Asked(Request),
    /// Something was seen of the node or of the work on it.
    Seen(Sign),
    /// Time went by.
    Tick,
    /// The node was without power, and not because of us: its switch restarted, or the room was dark.
    PowerFailed,
    /// The coordinator started and took this deployment up from its store.
    CoordinatorStarted,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The user sent the form.
    Deploy(Arc<Form>),
    /// The user withdraws what is not deployed yet.
    Cancel,
    /// Power off and on, then go on from the registered state.
    HardReboot,
    /// Start from the beginning.
    DeployAgain,
    /// The user gives the node back.
    Destroy,
    /// An administrator wants to know whether the node can be used.
    Test,
    /// An administrator takes the node out of the rack for good.
    Retire,
    /// The form stayed open too long.
    HoldExpired,
    /// The reservation is over.
    ReservationEnded,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The boot view that follows from the saved state is being served.
    ViewServed(Seq),
    /// The node's firmware asked for something.
    BootAsked(Asked),
    /// The node's own firmware asks for the token of its boot at this address: it is served once this is saved.
    TokenFetched(TokenHolder),
    /// Somebody showed the token of this boot at an address that did not fetch it.
    TokenElsewhere(BootNumber, IpAddr),
    /// What the power job with this number showed, told before its end; without it a port was read.
    PortShown(Seq, PortProof),
    /// The system on the node's card answers, although its firmware asked for nothing since it was powered on.
    CardAnswers,
    /// The node may be powered on now.
    Admitted,
    /// A power job ended.
    Power(Seq, Powered),
    /// An agent spoke.
    Agent(AgentSign),
    /// The agent of the boot before spoke, which the power cut should have ended.
    StaleAgent,
    /// The written card of this run spoke.
    FirstBoot(Run, FirstBootSign),
}

/// How far a node's firmware is, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// It asked for an address.
    Address,
    /// It was offered one, by this server.
    Offered(Ipv4Addr),
    /// It asked again for what it had asked for in this boot: it began anew.
    Again,
    /// It asked for something for the first time in this boot.
    New,
    /// It has the whole kernel of the boot root.
    Kernel,
}

impl Asked {
    /// Whether it asked for files, and not only for an address.
    pub fn is_for_files(self) -> bool {
        self >= Asked::Again
    }
}

/// How a power job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Powered {
    /// The port is off and delivers nothing.
    Off,
    /// The port delivers power.
    On,
    /// It failed for good.
    Failed(Cause),
}

impl Powered {
    /// Whether the port is on now, where that was proven.
    pub fn is_on(&self) -> Option<bool> {
        match self {
            Powered::On => Some(true),
            Powered::Off => Some(false),
            Powered::Failed(_) => None,
        }
    }
}

/// What an agent said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentSign {
    /// Who it is.
    Hello {
        /// The boot that its seal proves.
        boot: BootNumber,
        /// Its kernel.
        kernel: KernelId,
        /// What the site's guards have against deploying or freeing it.
        objection: Option<Cause>,
        /// The card that it shows.
        card: CardSighting,
    },
    /// How a command stands.
    Answer(Answer),
    /// That it lives.
    Beat {
        /// The boot that its seal proves.
        boot: BootNumber,
        /// The last command that it knows.
        last: Option<(Ticket, Standing)>,
        /// Whether the card moved.
        card_busy: bool,
    },
}

/// What the written card said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBootSign {
    /// It booted.
    Booted,
    /// The user's script begins.
    ScriptStarted,
    /// The user's script ended with this exit code.
    ScriptEnded(i32),
    /// A script was found that had begun and not ended.
    ScriptInterrupted,
}

//! What an agent says to the coordinator. Variants and fields are only ever appended.

use crate::cause::Cause;
use crate::id::{Serial, Ticket};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A message on an agent's report topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// An agent runs; also said again when the coordinator announces itself.
    Hello(Hello),
    /// The answer to one command.
    Answer(Answer),
    /// Lines of the agent's own log.
    Log(Log),
    /// What a copy wrote to the card; said before its answer.
    Written(Written),
}

/// What a copy wrote to the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The command's ticket.
    pub ticket: Ticket,
    /// Bytes written.
    pub bytes: u64,
    /// How long the card was busy with them, in milliseconds.
    pub busy_ms: u64,
}

/// Who runs where, with which card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The node's serial number as its device tree gives it.
    pub serial: Serial,
    /// The network interface's address, lower case with colons.
    pub mac: String,
    /// The model as the device tree names it.
    pub model: String,
    /// Which boot of a kernel this is.
    pub kernel: KernelId,
    /// The oldest and newest protocol version that the agent speaks.
    pub protocol: (u8, u8),
    /// The agent's version.
    pub agent: String,
    /// The card, if there is one.
    pub card: Option<CardInfo>,
    /// The bootloader's settings as far as the boot root can read them.
    pub bootloader: Vec<(String, String)>,
    /// What the agent works on, if this process was asked before.
    pub doing: Option<Ticket>,
}

/// A kernel's boot id: the text of `/proc/sys/kernel/random/boot_id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KernelId(pub String);

/// A card as its kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardInfo {
    /// The device's path.
    pub device: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The card identification register in hex, where the device has one.
    pub cid: Option<String>,
}

/// The answer to the command with this ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The command's ticket.
    pub ticket: Ticket,
    /// How it stands.
    pub outcome: Outcome,
}

/// How a command stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Work began.
    Started,
    /// Work moves.
    Progress(Progress),
    /// Work ended well; a sentence for the log.
    Done(String),
    /// Work ended badly.
    Failed(Cause),
    /// The agent will not do this now, and why.
    Refused(String),
}

/// What an agent logged, oldest first. Lines are told again after a lost link: their time tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Microseconds since the kernel booted, when this was said: a Pi's calendar may be wrong.
    pub now_us: u64,
    /// The lines.
    pub lines: Vec<LogLine>,
}

/// One line of a log. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Microseconds since the kernel booted; no two lines of one boot have the same.
    pub at_us: u64,
    /// The line without its end.
    pub text: String,
}

impl LogLine {
    /// The most that this line takes in a message, in bytes.
    pub fn bytes(&self) -> usize {
        // A time takes at most 10 bytes, the length of a text that fits at most 3.
        self.text.len() + 13
    }
}

/// The most that the lines of one [`Log`] take, in bytes.
pub const LOG_BYTES_MAX: usize = 32 * 1024;

/// How far a piece of work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in total.
    pub total: u64,
    /// Bytes a second, lately; 0 when unknown.
    pub rate: u64,
    /// Seconds until the end at this rate, when known.
    pub seconds_left: Option<u32>,
}

/// Said every five seconds, whatever else happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The last command and how it stands; none since the agent started means it knows of none.
    pub last: Option<(Ticket, Standing)>,
    /// How far the work is.
    pub progress: Option<Progress>,
    /// Whether the card did anything since the beat before.
    pub card_busy: bool,
    /// The highest epoch of the coordinator that a command has shown.
    pub epoch: u32,
    /// Resident memory of the agent in KiB.
    pub resident_kib: u32,
}

/// How the last command stands, without the details of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Being worked on.
    Working,
    /// Ended well.
    Done,
    /// Ended badly.
    Failed,
}

//! The work of one state of a deployment: what the agent does when it is told to.
//!
//! One file a pair of states. Every step may be the first that a fresh agent is asked for and may be
//! repeated; none knows the order of the states. While any of them works, the card has no partition
//! table: only the end of `user_conf` makes the card bootable.

mod boot_files;
pub mod cause;
mod commit;
mod configure;
mod copy;
mod filesystem;
mod growth;
mod mount;
mod partition;
#[cfg(test)]
mod power_cut;
pub mod reboot;
mod resize;
mod session;
pub mod wipe;

pub use session::Session;

use crate::cancel::Cancel;
use crate::card::activity::CardActivity;
use crate::card::device::{Device, Sharing};
use crate::card::partition::while_busy;
use crate::card::sector;
use crate::image::Scene;
use crate::image::fetch::Head;
use crate::os::family;
use cause::{StepError, failed};
use growth::Growth;
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::command::Work;
use piseduce_protocol::id::Ticket;
use piseduce_protocol::manifest::{FileSystem, Partition};
use piseduce_protocol::state::State;
use std::path::PathBuf;
use std::time::Duration;

/// What is the same for every step on a node.
#[derive(Clone)]
pub struct Node {
    /// The card's device.
    pub card: PathBuf,
    /// The head node's listener for nodes: host and TCP port.
    pub head: String,
    /// How long the head node may send nothing before it is given up.
    pub patience: Duration,
    /// Unlocks configuration bundles.
    pub bundle_key: [u8; 32],
    /// Proves what is uploaded.
    pub upload_key: [u8; 32],
    /// What its device tree calls it.
    pub model: String,
}

/// One thing to do.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// Where.
    pub node: &'a Node,
    /// For whom.
    pub ticket: Ticket,
    /// What.
    pub work: &'a Work,
    /// The head node's calendar time in milliseconds since 1970.
    pub unix_ms: u64,
    /// Ends it early.
    pub cancel: &'a Cancel,
    /// Told the bytes done and in total; a total of 0 is unknown. Called from several threads.
    pub advance: &'a (dyn Fn(u64, u64) + Sync),
    /// Told how many bytes a copy wrote, and how long the card was busy with them.
    pub wrote: &'a (dyn Fn(u64, Duration) + Sync),
}

/// A step at work: the task, the open card and what is known of the run.
struct Step<'a> {
    task: Task<'a>,
    card: &'a Device,
    head: &'a Head,
    session: &'a Session,
    growth: Growth,
    /// What the card had moved when the step began, in bytes.
    moved_before: u64,
}

/// Does the work of one state and returns a sentence about it. `slot` keeps what this process knows about
/// the run from one step to the next.
///
/// # Errors
/// [`StepError`]; what was being written is finished then, and tools are dead.
pub fn perform(slot: &mut Option<Session>, task: Task<'_>) -> Result<String, StepError> {
    let result = begin(slot, task);
    match (&result, slot) {
        // Tools and file systems have words of their own for a card that was taken out.
        (Err(StepError::Failed(_)), Some(session)) => session.is_on_card(&task.node.card).and(result),
        _ => result,
    }
}

fn begin(slot: &mut Option<Session>, task: Task<'_>) -> Result<String, StepError> {
    let state = task.work.state;
    let open = |sharing| while_busy(task.cancel, || Device::open(&task.node.card, sharing));
    // Whatever the state: nobody uses the card when a step begins, least of all the system that runs.
    let mut card = open(Sharing::Exclusive)?;
    let head = Head::new(&task.node.head, task.node.patience, task.cancel);
    let session = Session::resume(slot, task.ticket, task.work, &card, &head)?;
    family::find(&session.manifest.family)?;
    let growth = Growth::plan(&session.manifest, &session.table, task.work.part_size)?;
    sector::invalidate(&card)?;
    if !matches!(state, State::EnvCopy | State::EnvCheck) {
        // Tools and mounts need the card's partitions for themselves.
        drop(card);
        card = open(Sharing::Shared)?;
    }
    let moved_before = moved(&card);
    let step = Step { task, card: &card, head: &head, session: &*session, growth, moved_before };
    match state {
        State::EnvCopy => {
            let done = step.env_copy()?;
            session.is_copied = true;
            Ok(done)
        }
        State::EnvCheck => step.env_check(),
        State::DeletePartition => step.delete_partition(),
        State::CreatePartition => step.create_partition(),
        State::MountPartition => step.mount_partition(),
        State::ResizePartition => step.resize_partition(),
        State::WaitResizing => step.wait_resizing(),
        State::SystemConf => step.system_conf(),
        State::UserConf => step.user_conf(),
        other => Err(failed(CauseKind::ToolFailed, format!("{other} is no state of an agent"))),
    }
}

/// What a card moved since the kernel knows it, in bytes.
fn moved(card: &Device) -> u64 {
    CardActivity::read(card.path()).map_or(0, |activity| activity.bytes)
}

impl Step<'_> {
    /// The card and its image, with `advance` as the ear for progress.
    fn scene<'s>(&'s self, advance: &'s (dyn Fn(u64, u64) + Sync)) -> Scene<'s> {
        Scene {
            card: self.card,
            manifest: &self.session.manifest,
            withheld: &self.session.withheld,
            cancel: self.task.cancel,
            advance,
        }
    }

    /// What the card moved since the step began, in bytes: the progress of work that does not count itself.
    fn moved(&self) -> u64 {
        moved(self.card).saturating_sub(self.moved_before)
    }

    /// Tells that progress, to whose end nothing is known.
    fn advance(&self) {
        (self.task.advance)(self.moved(), 0);
    }

    /// The ext4 root of the image, if it has one.
    fn ext4_root(&self) -> Option<&Partition> {
        let manifest = &self.session.manifest;
        let root = manifest.partition(manifest.root?)?;
        (root.file_system == FileSystem::Ext4).then_some(root)
    }
}

//! The root file system as a partition: checked, mounted, and told apart from its exit codes.
//!
//! Sources: the manuals of e2fsck(8) and resize2fs(8). A grow that was cut off leaves a file system that
//! `e2fsck -p` gives up on; `-y` and a clean second pass mended it in all tries.

use super::Step;
use super::cause::{StepError, failed};
use crate::card::mount::{Mounted, Scratch, Writing};
use crate::card::{CardError, partition};
use crate::tool::{E2FSCK, Finished, Tool};
use crate::tree::Tree;
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::manifest::Partition;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// e2fsck: errors were corrected, and some ask for a reboot if the file system was mounted.
const REPAIRED: i32 = 1 | 2;

/// e2fsck: errors were left uncorrected. Every other bit means that it could not do its work.
const LEFT_UNCORRECTED: i32 = 4;

/// What e2fsck and resize2fs say when somebody else has opened their device exclusively.
const IN_USE: [&str; 2] = [" is in use.", "Device or resource busy while trying to open "];

/// A root partition as a device, and the place to mount it.
pub(super) struct RootDevice {
    pub(super) path: PathBuf,
    pub(super) scratch: Scratch,
}

impl Step<'_> {
    /// The device of the root partition; the kernel shows all partitions then.
    pub(super) fn root_device(&self, root: &Partition) -> Result<RootDevice, StepError> {
        self.show_partitions()?;
        let scratch = Scratch::new()?;
        Ok(RootDevice { path: partition::node(self.card, root.number, &scratch)?, scratch })
    }

    /// Runs `tool`, again while somebody else has the partition for a moment, and tells what the card moves
    /// meanwhile, and how much that will be when the tool says how far it is.
    pub(super) fn run(&self, tool: Tool, arguments: &[&OsStr]) -> Result<Finished, StepError> {
        partition::while_busy(self.task.cancel, || match self.run_once(tool, arguments) {
            Ok(finished) if is_in_use(&finished.output) => Err(CardError::Busy(self.card.path().into())),
            result => Ok(result),
        })?
    }

    fn run_once(&self, tool: Tool, arguments: &[&OsStr]) -> Result<Finished, StepError> {
        let before = self.moved();
        let mut tick = |done: Option<f64>| {
            let moved = self.moved();
            (self.task.advance)(moved, done.map_or(0, |done| extrapolated(before, moved, done)));
        };
        Ok(tool.run(arguments, self.task.cancel, &mut tick)?)
    }

    /// Checks the file system and repairs what can be repaired without asking. After an attempt that was
    /// cut off everything is repaired that e2fsck can, and a second pass must find nothing more.
    pub(super) fn check_file_system(&self, device: &Path) -> Result<(), StepError> {
        let first = self.e2fsck("-p", device)?;
        if first.code & !REPAIRED == 0 {
            return Ok(());
        }
        let broken = |finished: &Finished| failed(CauseKind::FilesystemBroken, complaint(&finished.output));
        if self.task.work.attempt <= 1 {
            let is_broken = first.code & !(REPAIRED | LEFT_UNCORRECTED) == 0;
            return Err(if is_broken { broken(&first) } else { tool_failed(E2FSCK, &first) });
        }
        tracing::warn!(device = %device.display(), "repairing a file system that an earlier attempt left broken");
        self.e2fsck("-y", device)?;
        let second = self.e2fsck("-n", device)?;
        if second.code == 0 { Ok(()) } else { Err(broken(&second)) }
    }

    fn e2fsck(&self, how: &str, device: &Path) -> Result<Finished, StepError> {
        // With `-C 1` it says between its messages how far it is.
        self.run(E2FSCK, &["-f".as_ref(), "-C".as_ref(), "1".as_ref(), how.as_ref(), device.as_os_str()])
    }

    /// Mounts the root, lets `work` use its files, and unmounts it.
    pub(super) fn with_root<T>(
        &self,
        device: &RootDevice,
        writing: Writing,
        work: impl FnOnce(&Tree) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let mount = || Mounted::new(&device.path, writing, &device.scratch);
        let mounted = partition::while_busy(self.task.cancel, mount)?;
        // The tree's own descriptor would keep the mount busy.
        let result = {
            let tree = Tree::open(mounted.directory())?;
            work(&tree)?
        };
        mounted.unmount(self.task.cancel)?;
        Ok(result)
    }
}

/// What will have moved in the end, when a tool that began at `before` is at `moved` now and `done` of its
/// work, from 0 to 1, is done; 0 while that cannot be known.
fn extrapolated(before: u64, moved: u64, done: f64) -> u64 {
    // What the first hundredth took says little about the rest.
    let total = || before + (moved.saturating_sub(before) as f64 / done) as u64;
    if done < 0.01 { 0 } else { total().max(moved) }
}

/// The last line of e2fsck's output that says what is wrong, and not only what to do about it.
fn complaint(output: &str) -> &str {
    let is_advice = |line: &str| {
        line.starts_with("(i.e.,") || line.ends_with(": UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.")
    };
    let mut lines = output.lines().map(str::trim).filter(|line| !line.is_empty() && !is_advice(line));
    lines.next_back().unwrap_or("e2fsck does not say what is wrong")
}

/// Whether a tool could not even begin because its device is in use.
fn is_in_use(output: &str) -> bool {
    IN_USE.iter().any(|words| output.contains(words))
}

/// A tool that ended with an exit code that means failure.
pub(super) fn tool_failed(tool: Tool, finished: &Finished) -> StepError {
    let seen = format!("{} ended with exit code {}: {}", tool.program, finished.code, finished.last_line());
    failed(CauseKind::ToolFailed, seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_follows_from_what_moved_and_how_far_the_tool_is() {
        assert_eq!(extrapolated(1000, 1500, 0.25), 3000);
        assert_eq!(extrapolated(1000, 1500, 1.0), 1500);
        assert_eq!(extrapolated(0, 0, 0.0), 0);
        assert_eq!(extrapolated(1000, 1500, 0.0), 0);
    }

    #[test]
    fn a_device_in_use_is_known_by_what_either_tool_says() {
        assert!(is_in_use("/dev/loop0p2 is in use.\ne2fsck: Cannot continue, aborting.\n\n\n"));
        let resize2fs = "resize2fs 1.47.0 (5-Feb-2023)\n\
            resize2fs: Device or resource busy while trying to open /dev/loop0p2\n";
        assert!(is_in_use(resize2fs));
        assert!(!is_in_use("rootfs: clean, 11/65536 files, 12955/262144 blocks\n"));
    }

    #[test]
    fn the_complaint_of_e2fsck_is_told_and_its_advice_is_not() {
        let output = "rootfs: Entry 'd' in / (2) has deleted/unused inode 13.  CLEARED.\n\
            rootfs: Unattached inode 14\n\n\n\
            rootfs: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.\n\t(i.e., without -a or -p options)\n";
        assert_eq!(complaint(output), "rootfs: Unattached inode 14");
        assert_eq!(complaint(""), "e2fsck does not say what is wrong");
    }
}

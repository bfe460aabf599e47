//! The kernel's view of a card's partitions, changed one by one (BLKPG) while sector 0 is invalid.
//!
//! Never BLKRRPART: it fails or drops what was added here. No partition parser is needed, and no udev:
//! a device node that does not appear is made from what sysfs says.

use super::device::Device;
use super::ioctl::{PartitionChange, change_partition};
use super::mount::Scratch;
use super::{Card as _, CardError};
use crate::cancel::Cancel;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A probing udev holds new partitions for a moment; for so many milliseconds that is waited for.
const BUSY_WAIT_MS: u64 = 5000;

/// How often a busy device is tried again, in milliseconds.
const BUSY_RETRY_MS: u64 = 100;

/// A partition as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelPartition {
    /// Its number.
    pub number: u8,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Repeats `attempt` while it fails with [`CardError::Busy`] and 5 seconds are not over.
///
/// # Errors
/// What `attempt` fails with in the end; the wait ends early when the work is stopped.
pub fn while_busy<T>(
    cancel: &Cancel,
    mut attempt: impl FnMut() -> Result<T, CardError>,
) -> Result<T, CardError> {
    let mut waited = 0;
    loop {
        match attempt() {
            Err(CardError::Busy(_))
                if waited < BUSY_WAIT_MS && cancel.wait(Duration::from_millis(BUSY_RETRY_MS)).is_ok() =>
            {
                waited += BUSY_RETRY_MS;
            }
            result => return result,
        }
    }
}

/// The partitions that the kernel shows on the card now, by number.
///
/// # Errors
/// [`CardError::Partition`] when sysfs cannot be read.
pub fn list(card: &Device) -> Result<Vec<KernelPartition>, CardError> {
    let failed = |source| error(card, "list", 0, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(card.sysfs()).map_err(failed)? {
        let directory = entry.map_err(failed)?.path();
        let number = |file: &str| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok();
        let Some(partition) = number("partition").and_then(|number| u8::try_from(number).ok()) else {
            continue;
        };
        if let (Some(start), Some(sectors)) = (number("start"), number("size")) {
            found.push(KernelPartition { number: partition, start: start * 512, bytes: sectors * 512 });
        }
    }
    found.sort_by_key(|partition| partition.number);
    Ok(found)
}

/// Makes the kernel show exactly `wanted`: what differs is deleted and added, what is right stays.
///
/// # Errors
/// [`CardError::Busy`] when one that must go is in use for more than 5 seconds, and
/// [`CardError::Partition`].
pub fn agree(card: &Device, wanted: &[KernelPartition], cancel: &Cancel) -> Result<(), CardError> {
    let shown = list(card)?;
    for old in shown.iter().filter(|old| !wanted.contains(old)) {
        while_busy(cancel, || delete(card, old.number))?;
    }
    for new in wanted.iter().filter(|new| !shown.contains(new)) {
        change_partition(card, PartitionChange::Add, new.number, new.start, new.bytes)
            .map_err(|source| error(card, "add", new.number, source))?;
    }
    Ok(())
}

fn delete(card: &Device, number: u8) -> Result<(), CardError> {
    match change_partition(card, PartitionChange::Delete, number, 0, 0) {
        Err(source) if is(&source, Errno::BUSY) => Err(CardError::Busy(card.path().into())),
        // Somebody else was faster, for example a kernel that re-read the table.
        Err(source) if is(&source, Errno::NXIO) => Ok(()),
        result => result.map_err(|source| error(card, "delete", number, source)),
    }
}

/// A device node of partition `number`: the one in `/dev`, or one made in `scratch` when `/dev` has none.
///
/// # Errors
/// [`CardError::Partition`] when the kernel does not show the partition or no node can be made.
pub fn node(card: &Device, number: u8, scratch: &Scratch) -> Result<PathBuf, CardError> {
    let failed = |source| error(card, "find", number, source);
    let kernel_name = card.sysfs().file_name().unwrap_or_default().to_string_lossy();
    let name = node_name(&kernel_name, number);
    let text = fs::read_to_string(card.sysfs().join(&name).join("dev")).map_err(failed)?;
    let numbers = text.trim().split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let (major, minor) = numbers.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
    let device = makedev(major, minor);
    let usual = Path::new("/dev").join(&name);
    if rustix::fs::stat(&usual).is_ok_and(|found| found.st_rdev == device) {
        return Ok(usual);
    }
    let own = scratch.path().join(&name);
    match mknodat(CWD, &own, FileType::BlockDevice, Mode::RUSR | Mode::WUSR, device) {
        Ok(()) | Err(Errno::EXIST) => Ok(own),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// How the kernel names partition `number` of the device `card`: with a `p` behind a digit.
fn node_name(card: &str, number: u8) -> String {
    let separator = if card.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    format!("{card}{separator}{number}")
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn error(card: &Device, action: &'static str, number: u8, source: io::Error) -> CardError {
    CardError::Partition { action, number, card: card.name().into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_as_the_kernel_does() {
        assert_eq!(node_name("mmcblk0", 2), "mmcblk0p2");
        assert_eq!(node_name("sda", 2), "sda2");
        assert_eq!(node_name("nvme0n1", 11), "nvme0n1p11");
    }

    #[test]
    fn only_a_busy_card_is_tried_again_and_not_for_ever() {
        let busy = || Err::<(), _>(CardError::Busy("/dev/x".into()));
        let mut left = 3;
        let mut sometimes = || {
            left -= 1;
            if left > 0 { busy() } else { Ok(()) }
        };
        assert!(while_busy(&Cancel::new(), &mut sometimes).is_ok());
        let mut tries = 0;
        let missing = while_busy(&Cancel::new(), || {
            tries += 1;
            Err::<(), _>(CardError::Missing("/dev/x".into()))
        });
        assert!(matches!(missing, Err(CardError::Missing(_))) && tries == 1);
        let stopped = Cancel::new();
        stopped.cancel();
        assert!(matches!(while_busy(&stopped, busy), Err(CardError::Busy(_))));
    }
}

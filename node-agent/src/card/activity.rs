//! What the kernel tells about a block device from outside: where it shows it, and whether it moves.
//!
//! Beats tell this to the coordinator; tools whose output says nothing are followed by it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the kernel shows the block device at `path`, whatever its node is called.
pub fn sysfs(path: &Path) -> Option<PathBuf> {
    let device = fs::metadata(path).ok()?.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

/// What a block device did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardActivity {
    /// Bytes read and written since the kernel knows it.
    pub bytes: u64,
    /// Requests that are being worked on.
    pub in_flight: u64,
}

impl CardActivity {
    /// Reads the statistics of the block device at `path`; none when there is no such device.
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(sysfs(path)?.join("stat")).ok()?)
    }

    /// Fields as in the kernel's Documentation/block/stat.rst: the third and seventh are sectors of 512
    /// bytes, the ninth are requests in flight.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<u64> = text.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        let sectors = fields.get(2)?.checked_add(*fields.get(6)?)?;
        Some(CardActivity { bytes: sectors.checked_mul(512)?, in_flight: *fields.get(8)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_of_a_card_are_its_sectors_and_requests() {
        let line = "  12 0 100 5 34 0 300 9 2 14 14 0 0 0 0 0 0\n";
        assert_eq!(CardActivity::parse(line), Some(CardActivity { bytes: 400 * 512, in_flight: 2 }));
        assert_eq!(CardActivity::parse("1 2"), None);
    }
}

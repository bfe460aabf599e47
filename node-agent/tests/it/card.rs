//! A card: a loop device over a sparse file. It detaches itself when nobody has it open any more, so that
//! none is left behind even by a test that crashes.

use crate::program;
use piseduce_agent::cancel::Cancel;
use piseduce_agent::card::device::{Device, Sharing};
use piseduce_agent::card::partition;
use piseduce_protocol::table::{GPT_SIGNATURE, SECTOR_BYTES, Table};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What a used card is full of.
pub(crate) const GARBAGE: u8 = 0x77;

/// A loop device.
pub(crate) struct LoopCard {
    /// The device.
    pub(crate) path: PathBuf,
    /// Holds the device, which is set to detach itself with its last user.
    _device: File,
    file: PathBuf,
    _directory: TempDir,
}

impl LoopCard {
    /// A card of `bytes` bytes, all of them zero.
    pub(crate) fn new(bytes: u64) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("card");
        File::create(&file).unwrap().set_len(bytes).unwrap();
        assert!(
            rustix::process::geteuid().is_root(),
            "this test needs root: it uses loop devices and mounts"
        );
        let (path, device) = attach(&file);
        // Partitions of an earlier user of this loop device; there need not be any.
        program::outcome("partx", &["-d".as_ref(), path.as_os_str()]);
        LoopCard { path, _device: device, file, _directory: directory }
    }

    /// A card whose first `used` bytes are not zero.
    pub(crate) fn dirty(bytes: u64, used: u64) -> Self {
        let card = Self::new(bytes);
        let block = vec![GARBAGE; 1 << 20];
        for offset in (0..used).step_by(block.len()) {
            card.write(offset, &block);
        }
        card
    }

    /// Reads from the file below the device.
    pub(crate) fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        File::open(&self.file).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    /// Writes to the file below the device.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.file).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    /// The file below the device, for programs that take files.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The card's partition table.
    pub(crate) fn table(&self) -> Table {
        let sectors = self.file.metadata().unwrap().len() / SECTOR_BYTES;
        let read = |at, into: &mut [u8]| File::open(&self.file)?.read_exact_at(into, at);
        Table::read(sectors, read).unwrap()
    }

    /// Whether the card could boot: by an MBR, a GPT, or the backup of one.
    pub(crate) fn boots(&self) -> bool {
        let bytes = self.file.metadata().unwrap().len();
        let has_header = |at| self.read(at, GPT_SIGNATURE.len()) == GPT_SIGNATURE;
        bytes > SECTOR_BYTES
            && (self.read(510, 2) == [0x55, 0xaa]
                || has_header(SECTOR_BYTES)
                || has_header(bytes - SECTOR_BYTES))
    }

    /// Lets the kernel forget the card's partitions, as a reboot would while sector 0 is invalid.
    pub(crate) fn forget_partitions(&self) {
        let device = Device::open(&self.path, Sharing::Shared).unwrap();
        partition::agree(&device, &[], &Cancel::new()).unwrap();
    }

    /// Sizes of the partitions that the kernel shows, by number.
    pub(crate) fn partitions(&self) -> Vec<(u8, u64)> {
        let device = Device::open(&self.path, Sharing::Shared).unwrap();
        partition::list(&device)
            .unwrap()
            .iter()
            .map(|partition| (partition.number, partition.bytes))
            .collect()
    }
}

impl Drop for LoopCard {
    fn drop(&mut self) {
        if let Ok(device) = Device::open(&self.path, Sharing::Shared) {
            let _ = partition::agree(&device, &[], &Cancel::new());
        }
    }
}

/// Attaches `file` to a free loop device. Two processes may find the same one free: one at a time tries.
fn attach(file: &Path) -> (PathBuf, File) {
    let lock = File::create(std::env::temp_dir().join("piseduce-loop.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let arguments = ["--show", "--find", "--direct-io=on"].map(AsRef::as_ref);
    let shown = program::run("losetup", &[&arguments[..], &[file.as_os_str()]].concat());
    let path = PathBuf::from(shown.trim());
    let device = File::open(&path).unwrap();
    // Detaching a device that is open lets it go with its last user.
    program::run("losetup", &["--detach".as_ref(), path.as_os_str()]);
    (path, device)
}

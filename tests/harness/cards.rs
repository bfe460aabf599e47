//! SD cards: sparse files behind loop devices. A card vanishes with the process that made it, also when
//! that is killed: its loop device clears itself when the last handle closes.

use crate::process::run;
use crate::wait::wait_for;
use anyhow::Context as _;
use rustix::fs::{Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// A card in the slot of a board.
pub struct Card {
    device: PathBuf,
    file: PathBuf,
    /// Keeps the loop device alive.
    _held: File,
}

impl Card {
    /// A blank card of `bytes` bytes; its content is in `file`.
    ///
    /// # Errors
    /// When the file cannot be made or no loop device is free.
    pub fn blank(file: &Path, bytes: u64) -> anyhow::Result<Card> {
        File::create(file)?.set_len(bytes)?;
        Card::insert(file)
    }

    /// The card whose content is in `file`.
    ///
    /// # Errors
    /// When no loop device is free.
    pub fn insert(file: &Path) -> anyhow::Result<Card> {
        let path = file.to_str().context("card files have UTF-8 names")?;
        let device = run("losetup", &["--find", "--show", "--direct-io=on", path])?.trim().to_owned();
        let held = OpenOptions::new().read(true).write(true).open(&device);
        // Detaching a device that is open sets its autoclear flag.
        run("losetup", &["--detach", &device])?;
        Ok(Card { device: device.into(), file: file.into(), _held: held? })
    }

    /// The block device.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Waits until nobody has the card open exclusively any more: neither a mount nor an agent.
    ///
    /// # Panics
    /// When that takes more than 30 s.
    pub fn wait_until_idle(&self) {
        let open = || {
            let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::open(&self.device, flags, Mode::empty()).map(drop)
        };
        wait_for("the card to be idle", 30.0, open, Result::is_ok).expect("just accepted");
    }

    /// Makes the card blank; its board must be off.
    ///
    /// # Errors
    /// When its device cannot discard.
    pub fn erase(&self) -> anyhow::Result<()> {
        self.wait_until_idle();
        run("blkdiscard", &["--force", &self.device.to_string_lossy()]).map(drop)
    }

    /// Bytes of the card's content, as they are behind the device.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(&self, offset: u64, bytes: usize) -> anyhow::Result<Vec<u8>> {
        let mut content = vec![0; bytes];
        File::open(&self.file)?.read_exact_at(&mut content, offset)?;
        Ok(content)
    }

    /// Changes bytes of the card's content; its board must be off.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(OpenOptions::new().write(true).open(&self.file)?.write_all_at(bytes, offset)?)
    }

    /// Whether a firmware would boot from this card.
    ///
    /// # Errors
    /// When sector 0 cannot be read.
    pub fn is_bootable(&self) -> anyhow::Result<bool> {
        Ok(self.read(510, 2)? == [0x55, 0xaa])
    }

    /// Mounts the root partition of the card, its second, read-only and shows it to `look`.
    ///
    /// # Errors
    /// When the card has no such partition or it cannot be mounted, and whatever `look` returns.
    pub fn look<T>(&self, look: impl FnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.wait_until_idle();
        let mounted = Mounted::new(&self.device)?;
        look(mounted.directory.path())
    }
}

/// Makes the kernel show the partitions that the table on `device` has now.
///
/// # Errors
/// When there is no table, or a partition is in use.
pub fn show_partitions(device: &Path) -> anyhow::Result<()> {
    let device = device.to_string_lossy();
    // What an earlier kernel saw of this card is not what its table says now; often there is nothing.
    let _ = run("partx", &["--delete", &device]);
    run("partx", &["--add", &device]).map(drop)
}

struct Mounted {
    directory: tempfile::TempDir,
}

impl Mounted {
    fn new(device: &Path) -> anyhow::Result<Self> {
        show_partitions(device)?;
        let directory = tempfile::tempdir()?;
        let (root, at) = (format!("{}p2", device.display()), directory.path().to_string_lossy());
        run("mount", &["-t", "ext4", "-o", "ro,noload", &root, &at])?;
        Ok(Mounted { directory })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let at = self.directory.path().to_string_lossy().into_owned();
        // A mount that stays would keep its loop device: say so, for whoever cleans up.
        run("umount", &[&at]).expect("what was mounted read-only can be unmounted");
    }
}

/// Detaches loop devices whose files were in directories of this prefix and are gone or orphaned: what a
/// killed run left before its autoclear flag was set.
///
/// # Errors
/// When loop devices cannot be listed.
pub fn clean_up(prefix: &Path) -> anyhow::Result<usize> {
    let prefix = prefix.to_string_lossy().into_owned();
    let list = run("losetup", &["--list", "--noheadings", "--output", "NAME,BACK-FILE"])?;
    let mut cleaned = 0;
    for line in list.lines() {
        let Some((device, file)) = line.trim().split_once(' ') else { continue };
        if file.trim().starts_with(&prefix) {
            run("losetup", &["--detach", device])?;
            cleaned += 1;
        }
    }
    Ok(cleaned)
}

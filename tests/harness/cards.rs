//! SD cards: sparse files behind loop devices. A card vanishes with the process that made it, also when
//! that is killed: its loop device clears itself when the last handle closes.

use crate::process::run;
use crate::wait::{seconds, wait_for};
use anyhow::Context as _;
use rustix::fs::{Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What reads and writes past the cache are multiples of, on any file system.
const DIRECT_BYTES: usize = 4096;

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

    /// A copy of what is on the card now, past every cache of its device.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn remember(&self) -> anyhow::Result<PathBuf> {
        let copy = self.file.with_extension("cut");
        run("cp", &["--sparse=always", &self.file.to_string_lossy(), &copy.to_string_lossy()])?;
        Ok(copy)
    }

    /// Makes a copy the card's content again and removes it; the board must be off.
    ///
    /// # Errors
    /// When the copy is gone.
    pub fn put_back(&self, copy: &Path) -> anyhow::Result<()> {
        // What the device still has in memory is written first, and forgotten.
        let flush = || run("blockdev", &["--flushbufs", &self.device.to_string_lossy()]);
        flush()?;
        run("cp", &["--sparse=always", &copy.to_string_lossy(), &self.file.to_string_lossy()])?;
        flush()?;
        Ok(std::fs::remove_file(copy)?)
    }

    /// Makes the byte `at` of the card whose content is in `file` another one as soon as it is `from`, whoever
    /// uses the card meanwhile.
    ///
    /// # Errors
    /// When that does not happen within `limit` seconds.
    pub fn flip(file: &Path, at: u64, from: u8, limit: f64) -> anyhow::Result<()> {
        // Past the cache of this file: the board's writes do not pass through it.
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
        let card = File::from(rustix::fs::open(file, flags, Mode::empty())?);
        let mut memory = vec![0; 2 * DIRECT_BYTES];
        let aligned = memory.as_ptr().align_offset(DIRECT_BYTES);
        let block = &mut memory[aligned..aligned + DIRECT_BYTES];
        let (start, within) = (at - at % DIRECT_BYTES as u64, (at % DIRECT_BYTES as u64) as usize);
        let until = seconds() + limit;
        while block[within] != from {
            anyhow::ensure!(seconds() < until, "byte {at} did not become {from} within {limit} s");
            std::thread::yield_now();
            card.read_exact_at(block, start)?;
        }
        block[within] = !from;
        Ok(card.write_all_at(block, start)?)
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

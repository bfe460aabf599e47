//! A small disk of a story's own, which can be filled. It ends with the story.

use crate::process::run;
use anyhow::Context as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A file system in memory, mounted at a directory.
pub struct SmallDisk {
    mounted: PathBuf,
    /// Removed when nothing is mounted there any more.
    place: Option<tempfile::TempDir>,
}

/// What fills the disk.
const FILLER: &str = "filler";

impl SmallDisk {
    /// A disk of so many bytes, at a place of its own.
    ///
    /// # Errors
    /// When this is not root.
    pub fn new(bytes: u64) -> anyhow::Result<SmallDisk> {
        let place = tempfile::Builder::new().prefix(crate::lab::PREFIX).tempdir()?;
        let mut disk = SmallDisk::over(place.path(), bytes)?;
        disk.place = Some(place);
        Ok(disk)
    }

    /// A disk of so many bytes in the place of what is in `directory`, with a copy of it.
    ///
    /// # Errors
    /// When this is not root, or what is there has no room.
    pub fn over(directory: &Path, bytes: u64) -> anyhow::Result<SmallDisk> {
        crate::process::need_root()?;
        let copy = tempfile::tempdir()?;
        let (at, aside) = (directory.to_string_lossy(), copy.path().to_string_lossy());
        run("cp", &["-a", &format!("{at}/."), &aside])?;
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs", &at])?;
        let disk = SmallDisk { mounted: directory.into(), place: None };
        run("cp", &["-a", &format!("{aside}/."), &at])?;
        Ok(disk)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// When it cannot be measured.
    pub fn fill(&self) -> anyhow::Result<()> {
        self.fill_but(0)
    }

    /// Fills it until so many bytes are free, or less.
    ///
    /// # Errors
    /// When it cannot be measured.
    pub fn fill_but(&self, free: u64) -> anyhow::Result<()> {
        let mut filler = OpenOptions::new().create(true).append(true).open(self.mounted.join(FILLER))?;
        let block = vec![0xf1; 64 << 10];
        while self.free()? > free {
            let length = usize::try_from((self.free()? - free).min(block.len() as u64))?;
            if filler.write(&block[..length]).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// What is free, in bytes.
    ///
    /// # Errors
    /// When it cannot be measured.
    pub fn free(&self) -> anyhow::Result<u64> {
        let space = rustix::fs::statvfs(&self.mounted).context("failed to measure the disk")?;
        Ok(space.f_bavail * space.f_frsize)
    }

    /// Removes what fills it.
    ///
    /// # Panics
    /// When nothing does.
    pub fn make_room(&self) {
        fs::remove_file(self.mounted.join(FILLER)).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a coordinator of the story may still have files open. A mount that stays is empty memory.
        let _ = run("umount", &["-l", &self.mounted.to_string_lossy()]);
    }
}

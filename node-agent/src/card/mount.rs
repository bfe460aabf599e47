//! Mounts of a card's file systems: private to the thread that works on the card, and undone by dropping.

use super::CardError;
use crate::cancel::Cancel;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A busy mount is tried again so often, and after so many milliseconds each time.
const UNMOUNT_TRIES: u32 = 50;
const UNMOUNT_RETRY_MS: u64 = 100;

/// Gives the calling thread, and the tools that it starts, mounts of their own. They vanish with the
/// thread, however it ends, and nobody else sees them.
///
/// # Errors
/// What the kernel says; without the right to do so, mounts are merely visible to others.
pub fn private_mounts() -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe wrapper exists for leaving a mount namespace")]
    // SAFETY: only NEWNS is left, file descriptors stay shared among the threads.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    Ok(mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?)
}

/// A directory that only the agent can enter, for mount points and device nodes; removed by dropping.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// Makes one below `/run`, or `/tmp` where that is read-only.
    ///
    /// # Errors
    /// [`CardError::Mount`].
    pub fn new() -> Result<Self, CardError> {
        let name = "piseduce-agent.";
        let made = tempfile::Builder::new().prefix(name).tempdir_in("/run");
        let made = made.or_else(|_| tempfile::Builder::new().prefix(name).tempdir_in("/tmp"));
        made.map(Scratch).map_err(|source| CardError::Mount { action: "make", path: name.into(), source })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Whether a mounted file system may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// Nothing is written, not even the journal's replay.
    No,
    /// Files may be changed.
    Yes,
}

/// A mounted ext4 file system.
#[derive(Debug)]
pub struct Mounted {
    directory: PathBuf,
    /// Cleared once it is unmounted.
    is_mounted: bool,
}

impl Mounted {
    /// Mounts the ext4 file system on `device` in `scratch`.
    ///
    /// # Errors
    /// [`CardError::Busy`] when somebody else uses it, and [`CardError::Mount`].
    pub fn new(device: &Path, writing: Writing, scratch: &Scratch) -> Result<Self, CardError> {
        let directory = scratch.path().join("root");
        let made = fs::create_dir(&directory).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        });
        made.map_err(|source| CardError::Mount { action: "make", path: directory.clone(), source })?;
        let safe = MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NOATIME;
        let (flags, data): (MountFlags, Option<&CStr>) = match writing {
            Writing::No => (safe | MountFlags::RDONLY, Some(c"noload")),
            Writing::Yes => (safe, None),
        };
        match mount(device, &directory, c"ext4", flags, data) {
            Ok(()) => Ok(Mounted { directory, is_mounted: true }),
            Err(Errno::BUSY) => Err(CardError::Busy(device.into())),
            Err(errno) => {
                Err(CardError::Mount { action: "mount", path: device.into(), source: errno.into() })
            }
        }
    }

    /// Where it is mounted.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Unmounts, which writes everything back; waits up to 5 seconds while something keeps it busy.
    ///
    /// # Errors
    /// [`CardError::Mount`].
    pub fn unmount(mut self, cancel: &Cancel) -> Result<(), CardError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match unmount(&self.directory, UnmountFlags::empty()) {
                Ok(()) => {
                    self.is_mounted = false;
                    return Ok(());
                }
                Err(Errno::BUSY)
                    if tries < UNMOUNT_TRIES
                        && cancel.wait(Duration::from_millis(UNMOUNT_RETRY_MS)).is_ok() => {}
                Err(errno) => {
                    let path = self.directory.clone();
                    return Err(CardError::Mount { action: "unmount", path, source: errno.into() });
                }
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted && unmount(&self.directory, UnmountFlags::empty()).is_err() {
            // Out of sight at least; the file system is written back when its last user is gone.
            let _ = unmount(&self.directory, UnmountFlags::DETACH);
        }
    }
}

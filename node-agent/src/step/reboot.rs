//! Leaves the boot root for good: what is written is flushed, then the kernel restarts.
//!
//! In a process namespace of its own the agent ends that namespace instead of the machine.

use rustix::system::{RebootCommand, reboot};
use std::io;

/// Flushes all file systems and restarts. Returns only when that failed.
///
/// # Errors
/// What the kernel says; `EPERM` without the right to do so.
pub fn restart() -> io::Result<()> {
    rustix::fs::sync();
    Ok(reboot(RebootCommand::Restart)?)
}

//! The only process spawner: runs a program of the boot root to its end, or kills it when the work is stopped.
//!
//! No shell, no inherited environment, a fixed search path, bounded output. What an exit code means is
//! known to the step that runs the tool, see `step/filesystem.rs`.

use crate::cancel::Cancel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::ffi::OsStr;
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where programs are looked for.
const SEARCH_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Of a tool's output the last so many bytes are kept.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// A running tool is looked at this often, in milliseconds.
const TICK_MS: i64 = 500;

/// A program and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The program's name.
    pub program: &'static str,
    /// The package to install when it is missing.
    pub package: &'static str,
}

/// Checks and repairs ext2, ext3 and ext4.
pub const E2FSCK: Tool = Tool { program: "e2fsck", package: "e2fsprogs" };
/// Grows ext2, ext3 and ext4.
pub const RESIZE2FS: Tool = Tool { program: "resize2fs", package: "e2fsprogs" };

/// Why a tool did not come to its own end.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The boot root lacks it.
    #[error("there is no {program} in {SEARCH_PATH}: install the package {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// It could not be started or waited for.
    #[error("failed to run {program}")]
    Run {
        /// The program.
        program: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A signal that did not come from here ended it.
    #[error("{program} was killed by signal {signal}")]
    Killed {
        /// The program.
        program: &'static str,
        /// The signal's number.
        signal: i32,
    },
    /// The work was stopped and the tool killed.
    #[error("{program} was stopped")]
    Cancelled {
        /// The program.
        program: &'static str,
    },
}

/// How a tool ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// The end of what it printed, on both channels, as it came.
    pub output: String,
}

impl Finished {
    /// The last line that says something.
    pub fn last_line(&self) -> &str {
        self.output.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it printed nothing")
    }
}

impl Tool {
    /// Looks for the program.
    ///
    /// # Errors
    /// [`ToolError::Missing`].
    pub fn locate(self) -> Result<PathBuf, ToolError> {
        let mut candidates = SEARCH_PATH.split(':').map(|directory| Path::new(directory).join(self.program));
        let missing = ToolError::Missing { program: self.program, package: self.package };
        candidates.find(|path| path.is_file()).ok_or(missing)
    }

    /// Runs the program with `arguments` to its end; calls `tick` about twice a second meanwhile.
    ///
    /// # Errors
    /// Every [`ToolError`]. An exit code other than 0 is not one: its meaning differs by program.
    pub fn run<A: AsRef<OsStr>>(
        self,
        arguments: &[A],
        cancel: &Cancel,
        tick: &mut dyn FnMut(),
    ) -> Result<Finished, ToolError> {
        let path = self.locate()?;
        let failed = |source| ToolError::Run { program: self.program, source };
        let (mut running, output) = Running::start(&path, arguments).map_err(failed)?;
        let output = running.follow(output, cancel, tick).map_err(failed)?;
        let status = running.child.wait().map_err(failed)?;
        tracing::debug!(tool = self.program, %status, "tool ended");
        match (status.code(), status.signal()) {
            _ if cancel.is_cancelled() => Err(ToolError::Cancelled { program: self.program }),
            (Some(code), _) => Ok(Finished { code, output: String::from_utf8_lossy(&output).into_owned() }),
            (None, signal) => {
                Err(ToolError::Killed { program: self.program, signal: signal.unwrap_or_default() })
            }
        }
    }
}

/// A child in a process group of its own; dropped before its end it is killed with all its children.
struct Running {
    child: Child,
    process: OwnedFd,
}

impl Running {
    fn start<A: AsRef<OsStr>>(program: &Path, arguments: &[A]) -> io::Result<(Self, PipeReader)> {
        let (reader, writer) = io::pipe()?;
        #[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", SEARCH_PATH).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
        let mut child = command.spawn()?;
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(process) => Ok((Running { child, process }, reader)),
            Err(error) => {
                child.kill().and_then(|()| child.wait())?;
                Err(error.into())
            }
        }
    }

    /// Collects output until the child ends or the work is stopped; then the child is killed.
    fn follow(
        &mut self,
        mut output: PipeReader,
        cancel: &Cancel,
        tick: &mut dyn FnMut(),
    ) -> io::Result<Vec<u8>> {
        let mut kept = Vec::new();
        let pause = Timespec { tv_sec: 0, tv_nsec: TICK_MS * 1_000_000 };
        let mut open = true;
        loop {
            let mut watched = vec![
                PollFd::new(&self.process, PollFlags::IN),
                PollFd::new(cancel, PollFlags::IN),
                PollFd::new(&output, PollFlags::IN),
            ];
            watched.truncate(if open { 3 } else { 2 });
            match poll(&mut watched, Some(&pause)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
            if cancel.is_cancelled() {
                self.kill();
                return Ok(kept);
            }
            if ready.get(2) == Some(&true) {
                open = read_some(&mut output, &mut kept)? > 0;
            } else if ready[0] {
                // Nothing is left in the pipe; a grandchild that keeps it open is not waited for.
                return Ok(kept);
            }
            tick();
        }
    }

    fn kill(&self) {
        // The group is gone already when the child ended by itself just now.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// Reads what is there and keeps the end of it. Returns the number of bytes, 0 at the end.
fn read_some(output: &mut PipeReader, kept: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; 4096];
    let count = output.read(&mut buffer)?;
    kept.extend_from_slice(&buffer[..count]);
    if kept.len() > OUTPUT_BYTES_MAX {
        kept.drain(..kept.len() - OUTPUT_BYTES_MAX);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::time::Duration;

    const SHELL: Tool = Tool { program: "sh", package: "dash" };

    fn shell(script: &str, cancel: &Cancel) -> Result<Finished, ToolError> {
        SHELL.run(&["-c", script], cancel, &mut || {})
    }

    #[test]
    fn exit_code_and_both_channels_come_back() {
        let finished = shell("echo out; echo err >&2; exit 3", &Cancel::new()).unwrap();
        assert_eq!((finished.code, finished.output.as_str()), (3, "out\nerr\n"));
        assert_eq!(finished.last_line(), "err");
    }

    #[test]
    fn the_environment_is_fixed_and_long_output_keeps_its_end() {
        let finished = shell("/usr/bin/env; seq 1 20000", &Cancel::new()).unwrap();
        assert_eq!(finished.output.len(), OUTPUT_BYTES_MAX);
        assert_eq!(finished.last_line(), "20000");
        let finished = shell("/usr/bin/env", &Cancel::new()).unwrap();
        assert!(finished.output.contains("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), "{finished:?}");
        assert!(!finished.output.contains("CARGO"), "{finished:?}");
    }

    #[test]
    fn a_stopped_tool_is_killed_with_its_children_and_reaped() {
        let cancel = Cancel::new();
        let start = clock::now();
        let mut ticks = 0;
        let canceller = cancel.clone();
        let mut tick = || {
            ticks += 1;
            canceller.cancel();
        };
        let result = SHELL.run(&["-c", "echo $$; sleep 60 & wait"], &cancel, &mut tick);
        assert!(matches!(result, Err(ToolError::Cancelled { program: "sh" })), "{result:?}");
        assert!(start.elapsed() < Duration::from_secs(30));
        assert_eq!(ticks, 1);
    }

    #[test]
    fn a_foreign_kill_and_a_missing_program_are_named() {
        let error = shell("kill -9 $$", &Cancel::new()).unwrap_err();
        assert_eq!(error.to_string(), "sh was killed by signal 9");
        let missing = Tool { program: "no-such-tool", package: "nothing" };
        assert!(missing.locate().unwrap_err().to_string().contains("install the package nothing"));
    }

    #[test]
    fn a_background_child_that_keeps_the_output_open_is_not_waited_for() {
        let start = clock::now();
        shell("sleep 20 & exit 0", &Cancel::new()).unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

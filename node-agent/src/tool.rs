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
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The program's name.
    pub program: &'static str,
    /// The package to install when it is missing.
    pub package: &'static str,
    /// Reads how far it is, from 0 to 1, from a line of its output that says only that.
    pub progress: fn(&str) -> Option<f64>,
}

/// Checks and repairs ext2, ext3 and ext4.
pub const E2FSCK: Tool = Tool { program: "e2fsck", package: "e2fsprogs", progress: e2fsck_progress };
/// Grows ext2, ext3 and ext4.
pub const RESIZE2FS: Tool = Tool { program: "resize2fs", package: "e2fsprogs", progress: |_| None };

/// Where each pass of e2fsck begins in the whole of its work; as its own progress bar has it.
const E2FSCK_PASSES: [f64; 6] = [0.0, 0.7, 0.9, 0.92, 0.95, 1.0];

/// What `e2fsck -C 1` says between its messages: pass, how far in it, its length, device.
fn e2fsck_progress(line: &str) -> Option<f64> {
    let mut words = line.split(' ');
    let mut number = || words.next()?.parse::<u32>().ok();
    let (pass, done, total) = (number()?, number()?, number()?);
    let (begin, end) = (E2FSCK_PASSES.get(pass.checked_sub(1)? as usize)?, E2FSCK_PASSES.get(pass as usize)?);
    (words.next().is_some() && done <= total && total > 0)
        .then(|| begin + (end - begin) * f64::from(done) / f64::from(total))
}

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
    /// The end of what it printed, on both channels, as it came, without its lines of progress.
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

    /// Runs the program with `arguments` to its end; calls `tick` at least twice a second meanwhile, with how
    /// far the program is, from 0 to 1, if it says so.
    ///
    /// # Errors
    /// Every [`ToolError`]. An exit code other than 0 is not one: its meaning differs by program.
    pub fn run<A: AsRef<OsStr>>(
        self,
        arguments: &[A],
        cancel: &Cancel,
        tick: &mut dyn FnMut(Option<f64>),
    ) -> Result<Finished, ToolError> {
        let path = self.locate()?;
        let failed = |source| ToolError::Run { program: self.program, source };
        let (mut running, pipe) = Running::start(&path, arguments).map_err(failed)?;
        let mut output = Output { tool: self, kept: vec![], line: vec![], done: None };
        running.follow(pipe, &mut output, cancel, tick).map_err(failed)?;
        let status = running.child.wait().map_err(failed)?;
        tracing::debug!(tool = self.program, %status, "tool ended");
        match (status.code(), status.signal()) {
            _ if cancel.is_cancelled() => Err(ToolError::Cancelled { program: self.program }),
            (Some(code), _) => Ok(Finished { code, output: output.into_text() }),
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
        mut pipe: PipeReader,
        output: &mut Output,
        cancel: &Cancel,
        tick: &mut dyn FnMut(Option<f64>),
    ) -> io::Result<()> {
        let pause = Timespec { tv_sec: 0, tv_nsec: TICK_MS * 1_000_000 };
        let mut open = true;
        loop {
            let mut watched = vec![
                PollFd::new(&self.process, PollFlags::IN),
                PollFd::new(cancel, PollFlags::IN),
                PollFd::new(&pipe, PollFlags::IN),
            ];
            watched.truncate(if open { 3 } else { 2 });
            match poll(&mut watched, Some(&pause)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
            if cancel.is_cancelled() {
                self.kill();
                return Ok(());
            }
            if ready.get(2) == Some(&true) {
                open = output.read_some(&mut pipe)? > 0;
            } else if ready[0] {
                // Nothing is left in the pipe; a grandchild that keeps it open is not waited for.
                return Ok(());
            }
            tick(output.done);
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

/// What a tool printed so far.
struct Output {
    tool: Tool,
    kept: Vec<u8>,
    /// The line that has no end yet.
    line: Vec<u8>,
    /// How far the tool says it is.
    done: Option<f64>,
}

impl Output {
    /// Reads what is there. Returns the number of bytes, 0 at the end.
    fn read_some(&mut self, pipe: &mut PipeReader) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        let count = pipe.read(&mut buffer)?;
        for part in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() > OUTPUT_BYTES_MAX {
                self.end_line();
            }
        }
        Ok(count)
    }

    fn end_line(&mut self) {
        match str::from_utf8(&self.line).ok().and_then(|line| (self.tool.progress)(line.trim_end())) {
            Some(done) => self.done = Some(done),
            None => self.kept.extend_from_slice(&self.line),
        }
        self.line.clear();
        self.kept.drain(..self.kept.len().saturating_sub(OUTPUT_BYTES_MAX));
    }

    fn into_text(mut self) -> String {
        self.end_line();
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::time::Duration;

    const SHELL: Tool = Tool { program: "sh", package: "dash", progress: e2fsck_progress };

    fn shell(script: &str, cancel: &Cancel) -> Result<Finished, ToolError> {
        SHELL.run(&["-c", script], cancel, &mut |_| {})
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
    fn lines_of_progress_are_told_and_not_kept() {
        let script =
            "printf 'one\\n1 1 2 /dev/x\\ntwo\\n2 5'; sleep 0.2; printf ' 10 /dev/x\\n3 apples\\nend'";
        let mut told = Vec::new();
        let finished = SHELL.run(&["-c", script], &Cancel::new(), &mut |done| told.extend(done)).unwrap();
        assert_eq!(finished.output, "one\ntwo\n3 apples\nend");
        told.dedup();
        assert!((told[0] - 0.35).abs() < 1e-9 && (told[1] - 0.8).abs() < 1e-9, "{told:?}");
        assert_eq!(told.len(), 2);
        for other in ["", "6 1 2 x", "0 1 2 x", "1 3 2 x", "1 1 2", "1 0 0 x", "1 x 2 x"] {
            assert_eq!(e2fsck_progress(other), None, "{other}");
        }
    }

    #[test]
    fn a_stopped_tool_is_killed_with_its_children_and_reaped() {
        let cancel = Cancel::new();
        let start = clock::now();
        let mut ticks = 0;
        let canceller = cancel.clone();
        let mut tick = |_| {
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
        let missing = Tool { program: "no-such-tool", package: "nothing", progress: |_| None };
        assert!(missing.locate().unwrap_err().to_string().contains("install the package nothing"));
    }

    #[test]
    fn a_background_child_that_keeps_the_output_open_is_not_waited_for() {
        let start = clock::now();
        shell("sleep 20 & exit 0", &Cancel::new()).unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

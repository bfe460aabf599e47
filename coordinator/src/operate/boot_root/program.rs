//! Runs the programs that build a boot root, and says which Debian package has one that is missing.

use crate::signal;
use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Of what a program that failed printed the last so many lines are shown.
const LINES_SHOWN: usize = 20;

/// A program and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
}

pub(super) const MMDEBSTRAP: Program = Program { name: "mmdebstrap", package: "mmdebstrap" };
pub(super) const DEPMOD: Program = Program { name: "depmod", package: "kmod" };
/// Copies files out of a FAT file system.
pub(super) const MCOPY: Program = Program { name: "mcopy", package: "mtools" };
/// Copies files out of an ext4 file system.
pub(super) const DEBUGFS: Program = Program { name: "debugfs", package: "e2fsprogs" };
pub(super) const CROSS_LINKER: Program =
    Program { name: "aarch64-linux-gnu-gcc", package: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross" };

impl Program {
    /// Where it is. Programs of administrators are found without their directories in `PATH`.
    pub(super) fn locate(self) -> anyhow::Result<PathBuf> {
        located(self.name).with_context(|| {
            format!("there is no {}: install Debian's package with `apt install {}`", self.name, self.package)
        })
    }
}

/// Where the program `name` is, if it is there.
pub(super) fn located(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let mut directories = std::env::split_paths(&path).chain(usual);
    directories.find_map(|directory| {
        let candidate = directory.join(name);
        candidate.is_file().then_some(candidate)
    })
}

/// A program with what it is given.
#[derive(Debug)]
pub(super) struct Run {
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    directory: Option<PathBuf>,
}

impl Run {
    pub(super) fn new(program: PathBuf) -> Self {
        Run { program, arguments: Vec::new(), variables: Vec::new(), directory: None }
    }

    pub(super) fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(super) fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    pub(super) fn within(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Runs it to its end and returns what it printed. Ctrl-C and SIGTERM end it and all that it started.
    ///
    /// # Errors
    /// When it cannot be started, fails, or is interrupted.
    #[expect(clippy::disallowed_methods, reason = "building is the work of other programs")]
    pub(super) async fn output(self) -> anyhow::Result<String> {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.arguments).envs(self.variables).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let child = command.spawn().with_context(|| format!("failed to start {}", self.program.display()))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let output = child.wait_with_output();
        tokio::pin!(output);
        let (output, interrupted) = tokio::select! {
            output = &mut output => (output, false),
            () = signal::stop() => {
                if let Some(group) = group {
                    let _ = kill_process_group(group, Signal::TERM);
                }
                (output.await, true)
            }
        };
        let output = output.with_context(|| format!("failed to wait for {name}"))?;
        if interrupted {
            bail!("interrupted: nothing was kept");
        }
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = said.lines().collect();
            let last = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
            bail!("{name} failed ({}):\n{last}", output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

//! What a run of the coordinator's process costs: processor time and memory as the kernel counts them, its `fsync`s, and how
//! long its API lets people wait.

use crate::process::mortal_command;
use crate::wait::{seconds, wait_for};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The unit of processor time in `/proc`, a hundredth of a second on every Linux of ours.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processor time of a process so far, in seconds.
///
/// # Errors
/// When it does not run.
pub(super) fn processor_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may have spaces; fields 14 and 15 are the times in user and kernel mode.
    let fields = stat.rsplit_once(") ").context("a process has a name")?.1;
    let ticks = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / TICKS_PER_SECOND)
}

/// Resident memory of a process in MiB: now, and at most so far.
///
/// # Errors
/// When it does not run.
pub(super) fn memory_mib(process: u32) -> anyhow::Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).context("a process has memory")?;
        line.trim().trim_end_matches(" kB").parse::<f64>().context("a number of KiB")
    };
    Ok((kib("VmRSS:")? / 1024.0, kib("VmHWM:")? / 1024.0))
}

/// Counts the `fsync` and `fdatasync` calls of a process by tracepoints, which costs it nothing that could be seen.
pub(super) struct Syncs {
    perf: Child,
    output: PathBuf,
}

impl Syncs {
    /// Begins to count; `directory` takes the result.
    ///
    /// # Errors
    /// When `perf` is missing, or the kernel has no such tracepoints.
    pub(super) fn count(process: u32, directory: &Path) -> anyhow::Result<Syncs> {
        let output = directory.join("syncs");
        let mut perf = mortal_command("unshare");
        perf.args(["--mount", "--", "sh", "-c"]);
        perf.arg("mount -t tracefs nodev /sys/kernel/tracing && exec perf stat -x, \"$@\"").arg("perf");
        perf.args([
            "-e",
            "syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync",
            "-p",
            &process.to_string(),
            "-o",
        ]);
        perf.arg(&output).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut perf =
            perf.spawn().context("setpriv cannot be started; Debian's package util-linux has it")?;
        let descriptors = PathBuf::from(format!("/proc/{}/fd", perf.id()));
        let counts = || {
            let links = fs::read_dir(&descriptors).into_iter().flatten().flatten();
            let mut links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
            links.any(|link| link.to_string_lossy().contains("perf_event"))
                || !matches!(perf.try_wait(), Ok(None))
        };
        wait_for("perf to count", 10.0, counts, |counts| *counts);
        match perf.try_wait()? {
            None => Ok(Syncs { perf, output }),
            Some(_) => anyhow::bail!("perf cannot count them here; Debian's package linux-perf has it"),
        }
    }

    /// How many there were.
    ///
    /// # Errors
    /// When `perf` did not say.
    pub(super) fn counted(mut self) -> anyhow::Result<u64> {
        use rustix::process::{Pid, Signal, kill_process};
        let process =
            i32::try_from(self.perf.id()).ok().and_then(Pid::from_raw).context("a process has a number")?;
        kill_process(process, Signal::INT)?;
        self.perf.wait()?;
        let text = fs::read_to_string(&self.output)?;
        let counts = text.lines().filter_map(|line| line.split(',').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }
}

/// A node as far as a run must know.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) deployment: Option<Held>,
}

/// Its deployment.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Held {
    pub(super) id: piseduce_protocol::id::DeploymentId,
    pub(super) state: piseduce_protocol::state::State,
    pub(super) cause: Option<piseduce_protocol::cause::Cause>,
}

/// Watches the coordinator from beside: its nodes, its answers, its memory.
pub(super) struct Watcher {
    url: String,
    token: String,
    process: u32,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    nodes: Vec<Node>,
    /// How often the list was read.
    looks: u64,
    /// How long each answer took, in seconds.
    answers: Vec<f64>,
    errors: u64,
    is_over: bool,
}

/// The time between two looks, in seconds.
const LOOK_SECONDS: f64 = 0.1;

impl Watcher {
    pub(super) fn new(url: String, token: String, process: u32) -> Watcher {
        Watcher { url, token, process, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until [`Watcher::end`].
    pub(super) fn watch(&self) {
        let config = ureq::Agent::config_builder().timeout_global(Some(std::time::Duration::from_secs(30)));
        let client = ureq::Agent::from(config.proxy(None).build());
        while !self.seen().is_over {
            let began = seconds();
            let answer = self.ask(&client);
            let took = seconds() - began;
            {
                let mut seen = self.seen();
                match answer.as_deref().map(serde_json::from_str) {
                    Ok(Ok(nodes)) => {
                        (seen.nodes, seen.looks) = (nodes, seen.looks + 1);
                        seen.answers.push(took);
                    }
                    _ => seen.errors += 1,
                }
            }
            // A list that takes long is asked for less often, so that looking costs the same share.
            let next = began + LOOK_SECONDS.max(took * 4.0);
            while seconds() < next && !self.seen().is_over {
                crate::wait::pause();
            }
        }
    }

    fn ask(&self, client: &ureq::Agent) -> Result<String, ureq::Error> {
        let request = client.get(&self.url).header("Authorization", format!("Bearer {}", self.token));
        request.call()?.body_mut().with_config().limit(64 << 20).read_to_string()
    }

    /// No more looks.
    pub(super) fn end(&self) {
        self.seen().is_over = true;
    }

    /// The nodes as they were seen after this call.
    ///
    /// # Errors
    /// When the coordinator does not run any more.
    pub(super) fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        let before = self.seen().looks;
        let fresh = || self.seen().looks > before + 1 || memory_mib(self.process).is_err();
        wait_for("the list of nodes", 60.0, fresh, |fresh| *fresh);
        memory_mib(self.process).context("the coordinator has ended")?;
        Ok(self.seen().nodes.clone())
    }

    /// How long answers took since the last call, and how many failed in all.
    pub(super) fn answers(&self) -> (Vec<f64>, u64) {
        let mut seen = self.seen();
        (std::mem::take(&mut seen.answers), seen.errors)
    }
}

/// How a number is spread.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    /// Half are at most this.
    pub median: f64,
    /// 95 of 100 are.
    pub p95: f64,
    /// 99 of 100 are.
    pub p99: f64,
    /// All are.
    pub max: f64,
}

impl Spread {
    /// That of these; zeros when there are none.
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * values.len() as f64).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Spread { median: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_names_values_that_were_there() {
        let spread = Spread::of((1..=200).rev().map(f64::from).collect());
        assert_eq!((spread.median, spread.p95, spread.p99, spread.max), (100.0, 190.0, 198.0, 200.0));
        let one = Spread::of(vec![3.0]);
        assert_eq!((one.median, one.max), (3.0, 3.0));
        assert_eq!(Spread::of(vec![]).max, 0.0);
    }

    #[test]
    fn a_process_has_memory_and_takes_time() {
        let own = std::process::id();
        let (now, most) = memory_mib(own).unwrap();
        assert!(now > 0.5 && most >= now, "{now} of {most}");
        assert!(processor_seconds(own).unwrap() >= 0.0);
    }
}

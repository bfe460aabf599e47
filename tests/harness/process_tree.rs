//! A process and everything below it: found, stopped, signalled.

use crate::wait::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;

/// Stops a process and everything below it, until no more of them appear.
pub(crate) fn freeze(process: u32) {
    let mut frozen = std::collections::BTreeSet::new();
    loop {
        let found = family(process);
        let before = frozen.len();
        frozen.extend(found);
        if frozen.len() == before {
            return;
        }
        frozen.iter().for_each(|process| signal(*process, Signal::STOP));
    }
}

/// A process and all its descendants.
fn family(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|text| {
            text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>()
        })
        .collect();
    [process].into_iter().chain(children.into_iter().flat_map(family)).collect()
}

/// The child of `unshare`: process 1 of its namespace. It appears a moment after `unshare` does.
pub(crate) fn process_one(unshare: u32) -> Option<u32> {
    let children = || fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok();
    let found = wait_for("the board to start", 10.0, children, |children| {
        children.as_ref().is_none_or(|text| !text.trim().is_empty())
    });
    found?.split_ascii_whitespace().next()?.parse().ok()
}

pub(crate) fn signal(process: u32, signal: Signal) {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    // A process that ended by itself in this moment needs no signal any more.
    pid.map(|pid| kill_process(pid, signal));
}

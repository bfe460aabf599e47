//! Whether a switch has restarted: by the time for which it says that it has been running, compared with what it
//! said before, also before the coordinator started.

use super::inbox::Message;
use crate::clock::{self, Instant};
use crate::domain::node::SwitchId;
use crate::power::Line;
use crate::store::{Store, SwitchSaid};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

/// Switches are asked this often. A restarted one takes longer than that to power a node up to its agent.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// What a switch said is kept this often: for a coordinator that starts again.
const KEEP_EVERY: Duration = Duration::from_secs(600);
/// sysUpTime is a counter of 32 bits of hundredths of a second.
const WRAP_MS: u64 = (u32::MAX as u64 + 1) * 10;
/// Answers are late by no more than this, in milliseconds.
const LATE_MS: u64 = 2500;
/// The head's calendar and a switch's clock part by no more than this and a thousandth of the time, in milliseconds.
const APART_MS: u64 = 120_000;

/// Whether a switch that had been running for `before_ms` restarted before it said `now_ms`. `elapsed_ms` lies
/// between; none: nobody knows, as the calendar is not believed.
fn restarted(before_ms: u64, now_ms: u64, elapsed_ms: Option<u64>, tolerance_ms: u64) -> bool {
    let Some(elapsed_ms) = elapsed_ms else { return now_ms < before_ms };
    let expected = before_ms + elapsed_ms;
    match expected.checked_sub(WRAP_MS - tolerance_ms) {
        None => now_ms < before_ms || now_ms + tolerance_ms < expected,
        // The counter has, or may have, begun anew by itself.
        Some(_) => {
            let apart = (expected % WRAP_MS).abs_diff(now_ms);
            apart.min(WRAP_MS.saturating_sub(apart)) > tolerance_ms
        }
    }
}

/// A node's firmware that asks so long after its switch restarted does so because of it.
const RECENT: Duration = Duration::from_secs(60);

/// What a switch said last.
#[derive(Default)]
struct Seen {
    said: Option<(u64, Instant)>,
    restarted: Option<Instant>,
}

/// The watch over one switch. Ends when it is dropped.
pub(super) struct Watch {
    line: Line,
    seen: Arc<Mutex<Seen>>,
    /// Whether the switch has answered for the first time, or cannot.
    is_known: watch::Receiver<bool>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a watch needs.
pub(super) struct Watched {
    pub(super) switch: SwitchId,
    pub(super) line: Line,
    pub(super) store: Store,
    pub(super) inbox: mpsc::WeakSender<Message>,
    /// Whether the coordinator has just started, so that whatever is there is to be looked at.
    pub(super) at_start: bool,
    /// Whether the calendar may be believed.
    pub(super) is_trusted: bool,
}

impl Watch {
    /// Watches a switch, and tells the runner when it restarted.
    pub(super) fn begin(watched: Watched) -> Watch {
        let seen = Arc::default();
        let line = watched.line.clone();
        let (know, is_known) = watch::channel(false);
        let task = tokio::spawn(follow(watched, Arc::clone(&seen), know)).abort_handle();
        Watch { line, seen, is_known, task }
    }

    /// Whether this is the watch over the switch at the end of `line`.
    pub(super) fn is_over(&self, line: &Line) -> bool {
        self.line.is_same(line)
    }

    /// Looks now; whether the switch restarted a moment ago. One that does not answer in time, or cannot tell, has
    /// not.
    pub(super) fn look(&self, limit: Duration) -> impl Future<Output = bool> + Send + use<> {
        let (line, seen, mut is_known) = (self.line.clone(), self.seen.clone(), self.is_known.clone());
        let asked = async move {
            // What it said before the coordinator started is compared first.
            is_known.wait_for(|known| *known).await.ok()?;
            let uptime = line.ask(|switch| switch.uptime()).await.ok()??;
            judge(&seen, uptime);
            let restarted = seen.lock().expect("nobody panics while holding it").restarted;
            restarted.map(|at| clock::now() < at + RECENT)
        };
        async move { tokio::time::timeout(limit, asked).await.ok().flatten().unwrap_or(false) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Compares with what was said before, and remembers.
fn judge(seen: &Mutex<Seen>, uptime: Duration) -> bool {
    let (now, now_ms) = (clock::now(), millis(uptime));
    let mut seen = seen.lock().expect("nobody panics while holding it");
    let before = seen.said.replace((now_ms, now));
    let has = before
        .is_some_and(|(before_ms, at)| restarted(before_ms, now_ms, Some(millis(now.since(at))), LATE_MS));
    if has {
        seen.restarted = Some(now);
    }
    has
}

async fn follow(watched: Watched, seen: Arc<Mutex<Seen>>, know: watch::Sender<bool>) {
    let Watched { switch, line, store, inbox, at_start, is_trusted } = watched;
    let mut is_first = true;
    let mut kept: Option<Instant> = None;
    loop {
        let Ok(uptime) = line.ask(|switch| switch.uptime()).await else {
            tokio::time::sleep(ASK_EVERY).await;
            continue;
        };
        let mut restart = uptime.is_some_and(|uptime| judge(&seen, uptime));
        if let (true, Some(uptime)) = (is_first, uptime) {
            // A store that fails ends the runner in its next turn.
            let before = store.switch_said(switch).await.ok().flatten();
            restart = before.is_some_and(|before| {
                let elapsed = is_trusted.then(|| clock::unix_ms().0.saturating_sub(before.at.0));
                let tolerance = APART_MS + elapsed.unwrap_or(0) / 1000;
                restarted(before.uptime_ms, millis(uptime), elapsed, tolerance)
            });
            if restart {
                seen.lock().expect("nobody panics while holding it").restarted = Some(clock::now());
            }
        }
        if restart || is_first && at_start {
            let Some(inbox) = inbox.upgrade() else { return };
            if inbox.send(Message::SwitchFound { switch, restarted: restart }).await.is_err() {
                return;
            }
        }
        know.send_replace(true);
        let Some(uptime) = uptime else { return };
        // Also one that a look between two turns has found: else it would be found again after a start of ours.
        let last = seen.lock().expect("nobody panics while holding it").restarted;
        let is_new = last.is_some_and(|at| kept.is_none_or(|kept| at > kept));
        if is_new || kept.is_none_or(|at| clock::now() >= at + KEEP_EVERY) {
            let said = SwitchSaid { uptime_ms: millis(uptime), at: clock::unix_ms() };
            // As above.
            let _ = store.keep_switch_said(switch, said).await;
            kept = Some(clock::now());
        }
        is_first = false;
        tokio::time::sleep(ASK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_restart_is_told_from_slow_clocks_and_from_a_counter_that_begins_anew() {
        let check = |before, now, elapsed| restarted(before, now, elapsed, APART_MS);
        assert!(!check(5 * HOUR, 6 * HOUR, Some(HOUR)));
        assert!(!check(5 * HOUR, 6 * HOUR - 60_000, Some(HOUR)), "clocks part");
        assert!(check(5 * HOUR, 2 * HOUR, Some(HOUR)), "it went back");
        assert!(
            check(HOUR, 5 * HOUR, Some(10 * HOUR)),
            "it is ahead of what was, and restarted all the same"
        );
        assert!(check(40_000, 2_000, Some(3_000)), "soon after its start");
        assert!(!check(WRAP_MS - HOUR, HOUR, Some(2 * HOUR)), "497 days are over");
        assert!(check(WRAP_MS - HOUR, HOUR, Some(20 * HOUR)));
        assert!(
            check(5 * HOUR, HOUR, None) && !check(HOUR, 5 * HOUR, None),
            "by itself, when no calendar helps"
        );
    }
}

//! Following deployments: bars on a terminal, plain lines in a pipe or log.

use super::connection::{ClientError, Connection};
use super::tables;
use crate::api::{DeploymentHistory, NodeView, Started};
use crate::print;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use piseduce_protocol::report::Progress;
use piseduce_protocol::state::State;
use piseduce_protocol::status::DeploymentStatus;
use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::Duration;

/// How often the coordinator is asked.
const ASK_EVERY: Duration = Duration::from_millis(400);

/// Follows deployments until each has come to rest; returns how each stands then.
///
/// # Errors
/// When the coordinator does not answer for a minute.
pub(super) fn until_rest(
    connection: &Connection,
    watched: &[Started],
) -> Result<Vec<DeploymentHistory>, ClientError> {
    let mut display = Display::new(watched);
    let mut silent = Duration::ZERO;
    loop {
        match connection.get::<Vec<NodeView>>("nodes") {
            Ok(nodes) => {
                silent = Duration::ZERO;
                let now: HashMap<_, _> = nodes
                    .into_iter()
                    .filter_map(|node| node.deployment.map(|deployment| (deployment.id, deployment)))
                    .collect();
                let statuses = watched.iter().map(|started| now.get(&started.deployment));
                if display.show(watched, statuses) {
                    display.end();
                    return watched.iter().map(|started| history(connection, started)).collect();
                }
            }
            // A restarting coordinator comes back; everything it knew is on disk.
            Err(error) if silent >= Duration::from_secs(60) => return Err(error),
            Err(ClientError::Refused(body)) => return Err(ClientError::Refused(body)),
            Err(_) => silent += ASK_EVERY,
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "the client polls at a steady pace; it waits for nothing else")]
fn pause() {
    std::thread::sleep(ASK_EVERY);
}

fn history(connection: &Connection, started: &Started) -> Result<DeploymentHistory, ClientError> {
    connection.get(&format!("deployments/{}", started.deployment))
}

struct Display {
    bars: Option<Vec<ProgressBar>>,
    said: HashMap<String, String>,
    width: usize,
}

impl Display {
    fn new(watched: &[Started]) -> Self {
        let width = watched.iter().map(|started| started.node.len()).max().unwrap_or_default();
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let style =
                ProgressStyle::with_template("{prefix} [{bar:30}] {wide_msg}").expect("a valid template");
            let bar = |started: &Started| {
                let bar = all.add(ProgressBar::new(1000)).with_style(style.clone().progress_chars("=> "));
                bar.with_prefix(format!("{:<width$}", started.node))
            };
            watched.iter().map(bar).collect()
        });
        Display { bars, said: HashMap::new(), width }
    }

    /// Shows how everything stands; true when nothing is under way any more.
    fn show<'a>(
        &mut self,
        watched: &[Started],
        statuses: impl Iterator<Item = Option<&'a DeploymentStatus>>,
    ) -> bool {
        let mut all_rest = true;
        for (index, (started, status)) in watched.iter().zip(statuses).enumerate() {
            let state = status.map_or(State::Ended, |status| status.state);
            all_rest &= tables::resting(state).is_some();
            let text = status.map_or_else(|| "ended".into(), describe);
            match &self.bars {
                Some(bars) => {
                    bars[index].set_position(permille(state, status.and_then(|status| status.progress)));
                    bars[index].set_message(text);
                }
                None => self.say(&started.node, state, status, &text),
            }
        }
        all_rest
    }

    /// One line a change of state.
    fn say(&mut self, node: &str, state: State, status: Option<&DeploymentStatus>, text: &str) {
        let key = format!("{state} {}", status.map_or(0, |status| status.run.0));
        if self.said.insert(node.into(), key.clone()) != Some(key) {
            print::line(format!("{node:<width$}  {text}", width = self.width));
        }
    }

    fn end(&self) {
        self.bars.iter().flatten().for_each(ProgressBar::abandon);
    }
}

fn describe(status: &DeploymentStatus) -> String {
    let mut text = status.state.to_string();
    if let Some(progress) = status.progress.filter(|progress| progress.total > 0) {
        let (done, total) = (progress.done / 1_000_000, progress.total / 1_000_000);
        text += &format!("  {done} of {total} MB, {:.1} MB/s", progress.rate as f64 / 1e6);
        if let Some(seconds) = progress.seconds_left {
            text += &format!(", {seconds} s left");
        }
    } else if let Some(cause) = &status.cause {
        text += &format!("  {cause}");
    } else if let (Some(waiting), true) = (&status.waiting, waits_long(status.state)) {
        text += &format!("  waiting for {waiting}");
    }
    text
}

/// States in which the user may ask what the node is waiting for.
fn waits_long(state: State) -> bool {
    matches!(
        state,
        State::NfsBootOff
            | State::NfsBootOn
            | State::EnvBoot
            | State::UserScript
            | State::TurnOff
            | State::TurnOn
    )
}

/// How far the normal course is, in thousandths, by the number of states passed.
fn permille(state: State, progress: Option<Progress>) -> u64 {
    let last = State::Deployed as u64;
    let passed = (state as u64).min(last) * 1000;
    let within = progress.filter(|p| p.total > 0).map_or(0, |p| p.done.min(p.total) * 1000 / p.total);
    (passed + within) / last
}

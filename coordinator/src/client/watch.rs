//! Following deployments: bars on a terminal, plain lines in a pipe or log.

use super::connection::Connection;
use super::error::ClientError;
use super::follow::until_seen;
use super::tables;
use crate::api::{DeploymentHistory, NodeView, Started};
use crate::print::{self, Output};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use piseduce_protocol::report::Progress;
use piseduce_protocol::state::State;
use piseduce_protocol::status::DeploymentStatus;
use serde::Serialize;
use std::collections::HashMap;
use std::io::IsTerminal as _;

/// Follows deployments until each has come to rest; returns how each stands then.
///
/// # Errors
/// When the coordinator says no, or does not answer for a minute.
pub(super) fn until_rest(
    connection: &Connection,
    output: Output,
    watched: &[Started],
) -> Result<Vec<DeploymentHistory>, ClientError> {
    let mut display = Display::new(output, watched);
    until_seen(
        || connection.get::<Vec<NodeView>>("nodes"),
        |nodes| {
            let deployments = nodes.into_iter().filter_map(|node| node.deployment);
            let now: HashMap<_, _> = deployments.map(|deployment| (deployment.id, deployment)).collect();
            let statuses = watched.iter().map(|started| now.get(&started.deployment));
            display.show(watched, statuses).then_some(())
        },
    )?;
    display.end();
    watched.iter().map(|started| history(connection, started)).collect()
}

fn history(connection: &Connection, started: &Started) -> Result<DeploymentHistory, ClientError> {
    connection.get(&format!("deployments/{}", started.deployment))
}

/// How one deployment stands, as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    node: &'a str,
    /// None once it has ended.
    deployment: Option<&'a DeploymentStatus>,
}

/// What the watcher sees.
enum Display {
    /// A bar a deployment.
    Bars(Vec<ProgressBar>),
    /// A line a change of state.
    Lines {
        /// What was last said of each node.
        said: HashMap<String, String>,
        width: usize,
    },
    /// A line of JSON a change of anything; none: nothing was said yet.
    Json(HashMap<String, Option<DeploymentStatus>>),
}

impl Display {
    fn new(output: Output, watched: &[Started]) -> Self {
        let width = watched.iter().map(|started| started.node.len()).max().unwrap_or_default();
        match output {
            Output::Json => Display::Json(HashMap::new()),
            Output::Text if !std::io::stderr().is_terminal() => {
                Display::Lines { said: HashMap::new(), width }
            }
            Output::Text => {
                let all = MultiProgress::new();
                let style =
                    ProgressStyle::with_template("{prefix} [{bar:30}] {wide_msg}").expect("a valid template");
                let bar = |started: &Started| {
                    let bar = all.add(ProgressBar::new(1000)).with_style(style.clone().progress_chars("=> "));
                    bar.with_prefix(format!("{:<width$}", started.node))
                };
                Display::Bars(watched.iter().map(bar).collect())
            }
        }
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
            self.show_one(index, &started.node, state, status);
        }
        all_rest
    }

    fn show_one(&mut self, index: usize, node: &str, state: State, status: Option<&DeploymentStatus>) {
        let text = || status.map_or_else(|| "ended".into(), describe);
        match self {
            Display::Bars(bars) => {
                bars[index].set_position(permille(state, status.and_then(|status| status.progress)));
                bars[index].set_message(text());
            }
            Display::Lines { said, width } => {
                let waiting = status.and_then(|status| status.waiting.as_deref()).unwrap_or_default();
                let key = format!("{state} {} {waiting}", status.map_or(0, |status| status.run.0));
                if said.insert(node.into(), key.clone()) != Some(key) {
                    print::line(format!("{node:<width$}  {}", text()));
                }
            }
            Display::Json(said) => {
                if said.insert(node.into(), status.cloned()) != Some(status.cloned()) {
                    Output::Json.tell("status", &Line { node, deployment: status }, |_| String::new());
                }
            }
        }
    }

    fn end(&self) {
        if let Display::Bars(bars) = self {
            bars.iter().for_each(ProgressBar::abandon);
        }
    }
}

fn describe(status: &DeploymentStatus) -> String {
    let state = status.state;
    match (status.progress.filter(|progress| progress.total > 0), &status.cause, &status.waiting) {
        (Some(progress), ..) => format!("{state}  {}", tables::progress(&progress)),
        (None, Some(cause), _) => format!("{state}  {cause}"),
        (None, None, Some(waiting)) => format!("{state}  waiting for {waiting}"),
        (None, None, None) => state.to_string(),
    }
}

/// How far the normal course is, in thousandths, by the number of states passed.
fn permille(state: State, progress: Option<Progress>) -> u64 {
    let last = State::Deployed as u64;
    let passed = (state as u64).min(last) * 1000;
    let within = progress.filter(|p| p.total > 0).map_or(0, |p| p.done.min(p.total) * 1000 / p.total);
    (passed + within) / last
}

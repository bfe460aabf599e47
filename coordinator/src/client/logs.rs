//! `piseduce deployment logs`: what happened in a run and what its agent logged, side by side in time, and
//! what its script printed; and the end of the node's console when the run came to a bad end.

use super::connection::Connection;
use super::deploy::Ended;
use super::deployments::find;
use super::error::ClientError;
use super::follow::until_seen;
use super::interrupt::until_interrupted;
use super::table::printable;
use super::tables;
use super::time::local_seconds;
use crate::api::{JournalEntry, LogsView};
use crate::print::{self, Output};
use clap::Args;
use piseduce_protocol::id::{DeploymentId, Run};
use piseduce_protocol::state::Process;
use std::cell::Cell;

/// What `deployment logs` takes.
#[derive(Clone, Debug, Args)]
pub struct LogsOptions {
    /// Its number, or the name of the node that it is on
    deployment: String,
    /// Which run; the present one if none is named
    #[arg(long, value_name = "NUMBER")]
    run: Option<u32>,
    /// Go on until the run comes to rest
    #[arg(long, short)]
    follow: bool,
}

pub(super) fn logs(
    connection: &Connection,
    output: Output,
    options: &LogsOptions,
) -> Result<Ended, ClientError> {
    let started = find(connection, &options.deployment)?;
    let id = started.deployment;
    let logs: LogsView = connection.get(&path(id, options.run.map(Run), Seen::default()))?;
    if !options.follow {
        output.tell("logs", &logs, text);
        return Ok(Ended::Well);
    }
    let connection = connection.clone();
    until_interrupted(vec![started], move || follow(&connection, output, logs))
}

/// How far the logs are known.
#[derive(Clone, Copy, Default)]
struct Seen {
    entry: u64,
    line: u64,
    script: bool,
    console: bool,
}

fn path(id: DeploymentId, run: Option<Run>, seen: Seen) -> String {
    let run = run.map(|run| format!("&run={run}")).unwrap_or_default();
    format!("deployments/{id}/logs?after_entry={}&after_line={}{run}", seen.entry, seen.line)
}

/// Tells what is new until the run is over.
fn follow(connection: &Connection, output: Output, first: LogsView) -> Result<Ended, ClientError> {
    let (id, run) = (first.deployment, first.run);
    let mut first = Some(first);
    let seen = Cell::new(Seen::default());
    until_seen(
        || match first.take() {
            Some(first) => Ok(first),
            None => connection.get(&path(id, Some(run), seen.get())),
        },
        |logs: LogsView| {
            seen.set(tell_new(output, &logs, seen.get()));
            let is_over = logs.run < logs.present_run || tables::resting(logs.state).is_some();
            is_over.then(|| Ended::in_state(logs.state))
        },
    )
}

/// Tells what was not seen before; returns how far the logs are known then.
fn tell_new(output: Output, logs: &LogsView, mut seen: Seen) -> Seen {
    match output {
        Output::Text => timeline(logs).iter().for_each(print::line),
        Output::Json => {
            logs.journal.iter().for_each(|entry| output.tell("entry", entry, |_| String::new()));
            logs.agent.iter().for_each(|line| output.tell("line", line, |_| String::new()));
        }
    }
    seen.entry = logs.journal.iter().map(|entry| entry.id).max().unwrap_or_default().max(seen.entry);
    seen.line = logs.agent.iter().map(|line| line.id).max().unwrap_or_default().max(seen.line);
    if let (false, Some(script)) = (seen.script, &logs.script) {
        seen.script = true;
        output.tell("script", script, tables::script);
    }
    if let (false, Some(console)) = (seen.console, &logs.console) {
        seen.console = true;
        output.tell("console", console, tables::console_end);
    }
    seen
}

fn text(logs: &LogsView) -> String {
    let mut lines = vec![format!("deployment {} on {}, run {}", logs.deployment, logs.node, logs.run)];
    lines.extend(timeline(logs));
    match &logs.script {
        Some(script) => lines.push(tables::script(script)),
        None => lines.push("no script has ended in this run".into()),
    }
    lines.extend(logs.console.as_ref().map(tables::console_end));
    lines.join("\n")
}

/// What happened and what the agent logged, by time.
fn timeline(logs: &LogsView) -> Vec<String> {
    let happened = logs.journal.iter().map(|entry| (entry.unix_ms, "state", change(entry)));
    let logged = logs.agent.iter().map(|line| (line.unix_ms, "agent", line.text.clone()));
    let mut all: Vec<(u64, &str, String)> = happened.chain(logged).collect();
    all.sort_by_key(|(unix_ms, ..)| *unix_ms);
    let line = |(unix_ms, who, what): (u64, &str, String)| {
        format!("{}  {who}  {}", local_seconds(unix_ms), printable(what.trim()))
    };
    all.into_iter().map(line).collect()
}

fn change(entry: &JournalEntry) -> String {
    let mut text = match entry.process {
        Process::Deploy => entry.state.to_string(),
        process => format!("{process}: {}", entry.state),
    };
    if let Some(phase) = entry.phase.as_ref().filter(|phase| *phase != "work") {
        text += &format!(", {phase}");
    }
    if let Some(cause) = &entry.cause {
        text += &format!(", {cause}");
    }
    if let Some(detail) = entry.detail.as_ref().filter(|detail| !detail.is_empty()) {
        // What led to the state.
        text += &format!(" ({detail})");
    }
    match entry.actor.as_str() {
        "machine" => text,
        actor => format!("{text}, by {actor}"),
    }
}

//! What agents told of themselves and of their work: for people who look for a cause, never for the machine.

use super::schema::StoreError;
use super::{Store, rows};
use crate::clock::UnixMs;
use crate::domain::node::NodeId;
use piseduce_protocol::id::{BootNumber, DeploymentId, Run};
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::collections::HashMap;

/// The most of an agent's log that is kept of one run, in bytes; older lines make room.
const RUN_BYTES_MAX: u64 = 256 << 10;

/// What a line takes beside its text, so that empty ones are bounded too.
const LINE_BYTES: u64 = 64;

/// What an agent told in one boot of one run.
#[derive(Clone, Debug)]
pub struct AgentWords {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The run.
    pub run: Run,
    /// The boot of the boot root.
    pub boot: BootNumber,
    /// When it was heard.
    pub at: UnixMs,
    /// Its hello as JSON, if it is one.
    pub hello: Option<String>,
    /// Lines of its log.
    pub lines: Vec<AgentWord>,
}

/// One line that an agent told.
#[derive(Clone, Debug)]
pub struct AgentWord {
    /// Microseconds since the boot.
    pub boot_us: u64,
    /// The same in calendar time.
    pub at: UnixMs,
    /// The line.
    pub text: String,
}

/// One line of an agent's log as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentLine {
    /// Its number; grows with the time at which it was told.
    pub id: u64,
    /// The boot of the boot root.
    pub boot: BootNumber,
    /// When it was logged.
    pub at: UnixMs,
    /// The line.
    pub text: String,
}

/// What an agent said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentHello {
    /// The run.
    pub run: Run,
    /// The boot of the boot root.
    pub boot: BootNumber,
    /// When.
    pub at: UnixMs,
    /// Its words as JSON.
    pub hello: String,
}

/// What a script left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptOutput {
    /// The run.
    pub run: Run,
    /// Its exit code.
    pub exit_code: i32,
    /// The end of its output.
    pub output: Vec<u8>,
    /// When it was reported.
    pub at: UnixMs,
}

/// The end of a node's console at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleEnd {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The run.
    pub run: Run,
    /// What was said.
    pub said: Vec<u8>,
    /// Until when.
    pub at: UnixMs,
}

/// Keeps what an agent told, within the bound of its run. What is told twice is kept once.
pub(super) fn keep(connection: &Connection, words: &AgentWords) -> Result<(), StoreError> {
    let (deployment, run, boot) = (words.deployment.0, words.run.0, words.boot.0);
    if let Some(hello) = &words.hello {
        let put = "INSERT INTO agent_hellos (deployment_id, run, boot, hello, unix_ms) VALUES (?, ?, ?, ?, ?)
                   ON CONFLICT DO UPDATE SET hello = excluded.hello, unix_ms = excluded.unix_ms";
        connection.prepare_cached(put)?.execute((deployment, run, boot, hello, words.at.0))?;
    }
    if words.lines.is_empty() {
        return Ok(());
    }
    let mut put = connection.prepare_cached(
        "INSERT INTO agent_lines (deployment_id, run, boot, boot_us, unix_ms, line) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )?;
    let mut added = 0;
    for line in &words.lines {
        // The agent says when; a time that no column holds is none.
        let boot_us = i64::try_from(line.boot_us).unwrap_or(i64::MAX);
        if put.execute((deployment, run, boot, boot_us, line.at.0, &line.text))? > 0 {
            added += line.text.len() as u64 + LINE_BYTES;
        }
    }
    let count = "INSERT INTO agent_log_sizes (deployment_id, run, bytes) VALUES (?, ?, ?)
                 ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes RETURNING bytes";
    let mut count = connection.prepare_cached(count)?;
    let bytes: u64 = count.query_row((deployment, run, added), |row| row.get(0))?;
    if bytes > RUN_BYTES_MAX { shorten(connection, words) } else { Ok(()) }
}

/// Forgets the oldest lines of a run whose log is too long, and counts what is left.
fn shorten(connection: &Connection, words: &AgentWords) -> Result<(), StoreError> {
    let (deployment, run) = (words.deployment.0, words.run.0);
    let bound = "DELETE FROM agent_lines WHERE id IN (SELECT id FROM (
                   SELECT id, sum(octet_length(line) + ?4) OVER (ORDER BY boot DESC, boot_us DESC) AS bytes
                   FROM agent_lines WHERE deployment_id = ?1 AND run = ?2) WHERE bytes > ?3)";
    connection.prepare_cached(bound)?.execute((deployment, run, RUN_BYTES_MAX, LINE_BYTES))?;
    let count = "UPDATE agent_log_sizes SET bytes = (
                   SELECT ifnull(sum(octet_length(line) + ?3), 0) FROM agent_lines
                   WHERE deployment_id = ?1 AND run = ?2) WHERE deployment_id = ?1 AND run = ?2";
    connection.prepare_cached(count)?.execute((deployment, run, LINE_BYTES))?;
    Ok(())
}

fn line(row: &Row<'_>) -> Result<AgentLine, StoreError> {
    Ok(AgentLine {
        id: row.get("id")?,
        boot: BootNumber(row.get("boot")?),
        at: UnixMs(row.get("unix_ms")?),
        text: row.get("line")?,
    })
}

fn hello(row: &Row<'_>) -> Result<AgentHello, StoreError> {
    Ok(AgentHello {
        run: Run(row.get("run")?),
        boot: BootNumber(row.get("boot")?),
        at: UnixMs(row.get("unix_ms")?),
        hello: row.get("hello")?,
    })
}

/// What the agent of each node last said of itself.
///
/// # Errors
/// When a row cannot be read.
pub(super) fn last_hellos(connection: &Connection) -> Result<HashMap<NodeId, String>, StoreError> {
    let query = "SELECT d.node_id, h.hello FROM agent_hellos h JOIN deployments d ON d.id = h.deployment_id
                 ORDER BY h.unix_ms, d.id, h.run, h.boot";
    let told = rows::all(connection, query, (), |row| Ok((NodeId(row.get(0)?), row.get(1)?)))?;
    // The last one stays.
    Ok(told.into_iter().collect())
}

fn output(row: &Row<'_>) -> Result<ScriptOutput, StoreError> {
    Ok(ScriptOutput {
        run: Run(row.get("run")?),
        exit_code: row.get("exit_code")?,
        output: row.get("output")?,
        at: UnixMs(row.get("unix_ms")?),
    })
}

fn console_end(row: &Row<'_>) -> Result<ConsoleEnd, StoreError> {
    Ok(ConsoleEnd {
        deployment: DeploymentId(row.get("deployment_id")?),
        run: Run(row.get("run")?),
        said: row.get("said")?,
        at: UnixMs(row.get("unix_ms")?),
    })
}

/// Keeps the end of a console; the last one of each run.
pub(super) fn keep_console_end(connection: &Connection, end: &ConsoleEnd) -> Result<(), StoreError> {
    let put = "INSERT INTO console_ends (deployment_id, run, said, unix_ms) VALUES (?, ?, ?, ?)
               ON CONFLICT DO UPDATE SET said = excluded.said, unix_ms = excluded.unix_ms";
    let row = (end.deployment.0, end.run.0, &end.said, end.at.0);
    connection.prepare_cached(put)?.execute(row)?;
    Ok(())
}

impl Store {
    /// The ends of the node's console that are kept of a deployment, by run.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn console_ends(&self, deployment: DeploymentId) -> Result<Vec<ConsoleEnd>, StoreError> {
        let query = "SELECT * FROM console_ends WHERE deployment_id = ? ORDER BY run";
        self.read(move |connection| rows::all(connection, query, [deployment.0], console_end)).await
    }

    /// The agents' log of a run as far as it is kept, in order; only lines told after the one numbered `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn agent_lines(
        &self,
        deployment: DeploymentId,
        run: Run,
        after: u64,
    ) -> Result<Vec<AgentLine>, StoreError> {
        let query = "SELECT * FROM agent_lines WHERE deployment_id = ? AND run = ? AND id > ?
                     ORDER BY boot, boot_us";
        self.read(move |connection| rows::all(connection, query, (deployment.0, run.0, after), line)).await
    }

    /// What each agent of a deployment said of itself, in order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn agent_hellos(&self, deployment: DeploymentId) -> Result<Vec<AgentHello>, StoreError> {
        let query = "SELECT * FROM agent_hellos WHERE deployment_id = ? ORDER BY run, boot";
        self.read(move |connection| rows::all(connection, query, [deployment.0], hello)).await
    }

    /// What the agent of a node last said of itself, in whatever deployment.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_hello(&self, node: NodeId) -> Result<Option<AgentHello>, StoreError> {
        let query = "SELECT h.* FROM agent_hellos h JOIN deployments d ON d.id = h.deployment_id
                     WHERE d.node_id = ? ORDER BY h.unix_ms DESC, d.id DESC, h.run DESC, h.boot DESC LIMIT 1";
        let mut last = self.read(move |connection| rows::all(connection, query, [node.0], hello)).await?;
        Ok(last.pop())
    }

    /// Keeps the end of a script's output; the first report of a run counts. Its deployment ends with it, so it is
    /// kept on a full disk as well.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep_output(
        &self,
        deployment: DeploymentId,
        run: Run,
        exit_code: i32,
        output: Vec<u8>,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.record(move |connection| {
            let put = "INSERT INTO script_outputs (deployment_id, run, exit_code, output, unix_ms)
                VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
            let row = (deployment.0, run.0, exit_code, &output, at.0);
            connection.prepare_cached(put)?.execute(row)?;
            Ok(())
        })
        .await
    }

    /// The exit code of a run's script and the end of its output.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn output(
        &self,
        deployment: DeploymentId,
        run: Run,
    ) -> Result<Option<(i32, Vec<u8>)>, StoreError> {
        self.read(move |connection| {
            let query = "SELECT exit_code, output FROM script_outputs WHERE deployment_id = ? AND run = ?";
            let mut query = connection.prepare_cached(query)?;
            let found = query.query_row((deployment.0, run.0), |row| Ok((row.get(0)?, row.get(1)?)));
            Ok(found.optional()?)
        })
        .await
    }

    /// What the scripts of a deployment left behind, by run.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn outputs(&self, deployment: DeploymentId) -> Result<Vec<ScriptOutput>, StoreError> {
        let query = "SELECT * FROM script_outputs WHERE deployment_id = ? ORDER BY run";
        self.read(move |connection| rows::all(connection, query, [deployment.0], output)).await
    }
}

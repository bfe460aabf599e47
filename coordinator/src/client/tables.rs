//! Tables as text: columns as wide as their widest cell.

use crate::api::{DeploymentHistory, DeploymentView, EnvironmentView, JournalEntry, NodeView};
use crate::domain::reservation::utc;
use piseduce_protocol::state::{Process, State};

/// Rows under a heading, aligned.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(heading.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".into(), |text| text.to_string())
}

/// Nodes and who has them.
pub(super) fn nodes(nodes: &[NodeView]) -> String {
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            let deployment = node.deployment.as_ref();
            vec![
                node.name.clone(),
                deployment.map_or("free".into(), |d| d.state.to_string()),
                or_dash(deployment.and_then(|d| d.environment.clone())),
                or_dash(deployment.map(|d| &d.owner)),
                or_dash(node.until_unix_ms.map(utc)),
                node.model.clone(),
                format!("{}/{}", node.switch, node.port),
                node.serial.to_string(),
            ]
        })
        .collect();
    table(&["NODE", "STATE", "ENVIRONMENT", "HELD BY", "UNTIL", "MODEL", "PORT", "SERIAL"], &rows)
}

/// Deployments, one a line.
pub(super) fn deployments(deployments: &[DeploymentView]) -> String {
    let rows: Vec<Vec<String>> = deployments
        .iter()
        .map(|deployment| {
            let status = &deployment.status;
            let why = status
                .cause
                .as_ref()
                .map(ToString::to_string)
                .or_else(|| status.waiting.as_ref().map(|waiting| format!("waiting for {waiting}")));
            vec![
                status.id.to_string(),
                deployment.node.clone(),
                status.state.to_string(),
                or_dash(status.environment.clone()),
                status.owner.clone(),
                utc(status.since_unix_ms),
                why.unwrap_or_default(),
            ]
        })
        .collect();
    table(&["ID", "NODE", "STATE", "ENVIRONMENT", "HELD BY", "SINCE", "WHY"], &rows)
}

/// Environments, one a line.
pub(super) fn environments(environments: &[EnvironmentView]) -> String {
    let rows: Vec<Vec<String>> = environments
        .iter()
        .map(|environment| {
            vec![
                environment.name.clone(),
                environment.family.clone(),
                or_dash(environment.architecture.clone()),
                format!("{} MB", environment.image_bytes / 1_000_000),
                utc(environment.added_unix_ms),
                environment.family_evidence.clone(),
            ]
        })
        .collect();
    table(&["ENVIRONMENT", "FAMILY", "ARCHITECTURE", "IMAGE", "ADDED", "RECOGNISED BY"], &rows)
}

/// What happened to a deployment, one change a line.
pub(super) fn history(journal: &[JournalEntry]) -> String {
    let rows: Vec<Vec<String>> = journal
        .iter()
        .map(|entry| {
            let cause = entry.cause.as_ref().map(ToString::to_string);
            vec![
                utc(entry.unix_ms),
                entry.run.to_string(),
                entry.process.to_string(),
                entry.state.to_string(),
                or_dash(entry.phase.clone()),
                entry.actor.clone(),
                cause.or_else(|| entry.detail.clone()).unwrap_or_default(),
            ]
        })
        .collect();
    table(&["WHEN", "RUN", "PROCESS", "STATE", "PHASE", "BY", "WHAT"], &rows)
}

/// Seconds that each node spent in each state of its last run, nodes side by side.
pub(super) fn seconds_by_state(histories: &[DeploymentHistory]) -> String {
    let mut heading = vec!["STATE".to_owned()];
    heading.extend(histories.iter().map(|history| history.deployment.node.clone()));
    let spent: Vec<Vec<(State, u64)>> = histories.iter().map(spent).collect();
    let in_state = |spent: &[(State, u64)], state| {
        spent.iter().filter(|(known, _)| *known == state).map(|(_, ms)| ms).sum::<u64>()
    };
    let mut rows = Vec::new();
    let deploying =
        State::ALL.iter().filter(|state| **state > State::Initialized && **state < State::Deployed);
    for state in deploying {
        let mut row = vec![state.to_string()];
        row.extend(spent.iter().map(|spent| seconds(in_state(spent, *state))));
        rows.push(row);
    }
    let mut total = vec!["total".to_owned()];
    total.extend(spent.iter().map(|spent| seconds(spent.iter().map(|(_, ms)| ms).sum())));
    rows.push(total);
    table(&heading.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

fn seconds(ms: u64) -> String {
    format!("{}.{:02}", ms / 1000, ms % 1000 / 10)
}

/// Milliseconds in each state of the last run's `deploy`, in the order of the journal.
fn spent(history: &DeploymentHistory) -> Vec<(State, u64)> {
    let run = history.deployment.status.run;
    let of_run: Vec<&JournalEntry> = history
        .journal
        .iter()
        .filter(|entry| entry.run == run && entry.state != State::Initialized)
        .collect();
    let pairs = of_run
        .windows(2)
        .filter(|pair| pair[0].process == Process::Deploy && resting(pair[0].state).is_none());
    pairs.map(|pair| (pair[0].state, pair[1].unix_ms.saturating_sub(pair[0].unix_ms))).collect()
}

/// `state`, if nothing is under way in it.
pub(super) fn resting(state: State) -> Option<State> {
    matches!(state, State::Deployed | State::Lost | State::Failed | State::Quarantined | State::Ended)
        .then_some(state)
}

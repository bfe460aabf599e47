//! The API's values as text for eyes. Calendar times are those of the reader's zone, with its name.

mod boards;
mod switches;

pub(super) use boards::{alarms, boot_files, checked, discovered};
pub(super) use switches::{detected, switch, switches, watts};

use super::table::{Cell, Look, pairs, printable, table};
use super::time::{local, local_seconds};
use crate::api::{
    ConsoleEndView, ConsoleView, DeploymentHistory, DeploymentView, EnvironmentView, EvidenceView, ImageView,
    JournalEntry, NodeView, PartitionView, ScriptView,
};
use crate::print::Screen;
use piseduce_protocol::report::Progress;
use piseduce_protocol::state::{Process, State};
use piseduce_protocol::status::DeploymentStatus;

fn or_dash(text: Option<impl ToString>) -> Cell {
    text.map_or_else(|| "-".into(), |text| text.to_string()).into()
}

fn state(state: State) -> Cell {
    let look = match state {
        State::Deployed => Look::Good,
        State::Lost | State::Failed | State::Quarantined => Look::Bad,
        State::Initialized | State::Ended => Look::Plain,
        _ => Look::Moving,
    };
    Cell::looking(state.to_string(), look)
}

/// How far the work is and why it stops or waits, as far as there is something to say.
fn why(status: &DeploymentStatus) -> String {
    let progress = status.progress.filter(|progress| progress.total > 0);
    let mut parts: Vec<String> = progress.map(|known| self::progress(&known)).into_iter().collect();
    parts.extend(status.cause.as_ref().map(ToString::to_string));
    parts.extend(status.waiting.as_ref().map(|waiting| format!("waiting for {waiting}")));
    parts.join("; ")
}

/// How far a piece of work is.
pub(super) fn progress(progress: &Progress) -> String {
    let (done, total) = (progress.done / 1_000_000, progress.total / 1_000_000);
    let mut text = format!("{done} of {total} MB, {:.1} MB/s", progress.rate as f64 / 1e6);
    if let Some(seconds) = progress.seconds_left {
        text += &format!(", {seconds} s left");
    }
    text
}

/// A node that nobody has.
fn unused(node: &NodeView) -> Cell {
    match node.out_of_service {
        Some(_) => Cell::looking("drained", Look::Bad),
        None => "free".into(),
    }
}

/// Why a node is as it is, and why nobody gets it.
fn with_service(why: String, node: &NodeView) -> String {
    let out = node.out_of_service.as_ref().map(|out| {
        let reason = printable(&out.reason);
        format!("{}{reason} ({})", if node.deployment.is_some() { "draining: " } else { "" }, out.by)
    });
    let parts = [Some(why).filter(|why| !why.is_empty()), out];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Nodes and who has them.
pub(super) fn nodes(nodes: &[NodeView], screen: Screen) -> String {
    let row = |node: &NodeView| {
        let deployment = node.deployment.as_ref();
        vec![
            node.name.as_str().into(),
            deployment.map_or_else(|| unused(node), |d| state(d.state)),
            or_dash(deployment.and_then(|d| d.environment.clone())),
            or_dash(deployment.map(|d| &d.owner)),
            or_dash(node.until_unix_ms.map(local)),
            node.power.map_or("-", |on| if on { "on" } else { "off" }).into(),
            or_dash(node.ip),
            with_service(deployment.map(why).unwrap_or_default(), node).into(),
        ]
    };
    let heading = ["NODE", "STATE", "ENVIRONMENT", "HELD BY", "UNTIL", "POWER", "ADDRESS", "WHY"];
    table(&heading, nodes.iter().map(row).collect(), screen)
}

/// One node.
pub(super) fn node(node: &NodeView, screen: Screen) -> String {
    let power = node.power.map_or("unknown", |on| if on { "on" } else { "off" });
    let mut lines = vec![
        ("node", node.name.as_str().into()),
        ("model", node.model.as_str().into()),
        ("serial", node.serial.to_string().into()),
        ("mac", node.mac.as_str().into()),
        ("ip", or_dash(node.ip.as_ref().map(ToString::to_string).as_ref())),
        ("switch", node.switch.as_str().into()),
        ("port", node.port.as_str().into()),
        ("power", power.into()),
    ];
    if !node.labels.is_empty() {
        lines.push(("labels", node.labels.join(" ").into()));
    }
    lines.extend(node.out_of_service.as_ref().map(|out| {
        let since = local(out.since_unix_ms);
        ("out of service", format!("since {since} by {}: {}", out.by, printable(&out.reason)).into())
    }));
    lines.extend(node.alarm.as_deref().map(|alarm| ("alarm", alarm.into())));
    lines.extend(node.console.as_ref().map(|it| ("console", console(it).into())));
    if let Some(owes) = &node.owes {
        let owed = format!(
            "a wipe ({}) before another user deploys: content of {} is on it",
            owes.wipe, owes.used_by
        );
        lines.push(("card owes", owed.into()));
    }
    match &node.deployment {
        None => lines.push(("state", unused(node))),
        Some(deployment) => {
            let see = format!("{0}: see `piseduce deployment show {0}`", deployment.id);
            lines.push(("deployment", see.into()));
            lines.extend(standing(deployment, node.until_unix_ms));
        }
    }
    pairs(lines, screen)
}

/// Where a deployment is, why, and whose it is.
fn standing(status: &DeploymentStatus, until_unix_ms: Option<u64>) -> Vec<(&'static str, Cell)> {
    let until = until_unix_ms.map(|until| format!(", until {}", local(until))).unwrap_or_default();
    let mut lines = vec![
        ("state", state(status.state)),
        ("since", local(status.since_unix_ms).into()),
        ("process", status.process.to_string().into()),
        ("run", status.run.to_string().into()),
        ("environment", or_dash(status.environment.as_ref())),
        ("held by", format!("{}{until}", status.owner).into()),
    ];
    let progress = status.progress.filter(|progress| progress.total > 0);
    lines.extend(progress.map(|known| ("progress", self::progress(&known).into())));
    lines.extend(status.cause.as_ref().map(|cause| ("cause", Cell::looking(cause.to_string(), Look::Bad))));
    lines.extend(status.waiting.as_ref().map(|waiting| ("waiting for", waiting.as_str().into())));
    lines
}

/// Deployments, one a line.
pub(super) fn deployments(deployments: &[DeploymentView], screen: Screen) -> String {
    let row = |deployment: &DeploymentView| {
        let status = &deployment.status;
        vec![
            status.id.to_string().into(),
            deployment.node.as_str().into(),
            state(status.state),
            or_dash(status.environment.as_ref()),
            status.owner.as_str().into(),
            local(status.since_unix_ms).into(),
            why(status).into(),
        ]
    };
    let heading = ["ID", "NODE", "STATE", "ENVIRONMENT", "HELD BY", "SINCE", "WHY"];
    table(&heading, deployments.iter().map(row).collect(), screen)
}

/// One deployment and everything that happened to it.
pub(super) fn deployment(history: &DeploymentHistory, screen: Screen) -> String {
    let deployment = &history.deployment;
    let mut lines = vec![
        ("deployment", deployment.status.id.to_string().into()),
        ("node", deployment.node.as_str().into()),
    ];
    lines.extend(standing(&deployment.status, Some(deployment.until_unix_ms)));
    lines.push(("registered", deployment.registered.to_string().into()));
    lines.push(("restarts", deployment.restarts.to_string().into()));
    lines.extend(deployment.evidence.as_ref().map(|evidence| ("evidence", evidence.as_str().into())));
    lines.extend(deployment.fingerprint.as_ref().map(|print| ("host key", print.as_str().into())));
    let mut parts = vec![pairs(lines, screen)];
    // On a line of its own, to be copied whole.
    parts.extend(deployment.known_hosts.as_ref().map(|line| format!("known_hosts: {line}")));
    if !deployment.boot_evidence.is_empty() {
        parts.extend([String::new(), boot_evidence(&deployment.boot_evidence, screen)]);
    }
    parts.push(String::new());
    parts.push(self::history(&history.journal, screen));
    if let (Some(code), Some(output)) = (history.exit_code, &history.output) {
        parts.push(script_text(code, output));
    }
    parts.join("\n")
}

/// What was seen of the last boot of the boot root.
fn boot_evidence(evidence: &[EvidenceView], screen: Screen) -> String {
    let row = |piece: &EvidenceView| {
        let look = match piece.standing.as_str() {
            "seen" => Look::Good,
            "missing" | "changed" => Look::Bad,
            _ => Look::Plain,
        };
        let standing = Cell::looking(piece.standing.replace('_', " "), look);
        vec![piece.name.replace('_', " ").into(), standing, printable(&piece.seen).into()]
    };
    table(&["LAST BOOT", "EVIDENCE", "SEEN"], evidence.iter().map(row).collect(), screen)
}

/// What a script left behind.
pub(super) fn script(script: &ScriptView) -> String {
    script_text(script.exit_code, &script.output)
}

/// The end of a node's console.
pub(super) fn console_end(end: &ConsoleEndView) -> String {
    // UARTs end lines with both; what else moves a cursor is shown, not done.
    let text = end.text.replace('\r', "");
    format!("the end of the node's console at {}:\n{}", local(end.unix_ms), printable(text.trim_end()))
}

/// What is at a node's UART.
fn console(console: &ConsoleView) -> String {
    let ConsoleView { device, speed, write, trouble } = console;
    let use_of_it = if *write { "" } else { ", for reading only" };
    match trouble {
        None => format!("{device}, {speed} baud{use_of_it}"),
        Some(trouble) => trouble.clone(),
    }
}

fn script_text(exit_code: i32, output: &str) -> String {
    match output.trim_end() {
        "" => format!("script ended with exit code {exit_code} and printed nothing"),
        output => {
            format!("script ended with exit code {exit_code}; the end of its output:\n{}", printable(output))
        }
    }
}

/// Environments, one a line.
pub(super) fn environments(environments: &[EnvironmentView], screen: Screen) -> String {
    let row = |environment: &EnvironmentView| {
        vec![
            environment.name.as_str().into(),
            environment.family.as_str().into(),
            or_dash(environment.architecture.as_ref()),
            megabytes(environment.image_bytes).into(),
            local(environment.added_unix_ms).into(),
            environment.family_evidence.as_str().into(),
        ]
    };
    let heading = ["ENVIRONMENT", "FAMILY", "ARCHITECTURE", "IMAGE", "ADDED", "RECOGNISED BY"];
    table(&heading, environments.iter().map(row).collect(), screen)
}

/// One environment.
pub(super) fn environment(environment: &EnvironmentView, screen: Screen) -> String {
    let image = format!("{} ({} bytes)", megabytes(environment.image_bytes), environment.image_bytes);
    let sizes = environment.image.as_ref().map(|image| {
        let [defined, stored] = [image.defined_bytes, image.stored_bytes].map(megabytes);
        format!("{defined} of it in use, stored in {stored}")
    });
    let facts = pairs(
        vec![
            ("environment", environment.name.as_str().into()),
            ("family", environment.family.as_str().into()),
            ("recognised by", environment.family_evidence.as_str().into()),
            ("architecture", or_dash(environment.architecture.as_ref())),
            ("image", image.into()),
            ("sizes", or_dash(sizes)),
            ("manifest", environment.manifest.to_string().into()),
            ("added", local(environment.added_unix_ms).into()),
        ],
        screen,
    );
    let partitions = environment.image.as_ref().map(|one| self::image(one, screen));
    [Some(facts), partitions].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

/// What an image consists of, one partition a line.
fn image(image: &ImageView, screen: Screen) -> String {
    let row = |partition: &PartitionView| {
        let uses = match (partition.is_boot, partition.is_root) {
            (true, true) => Some("boot, root"),
            (true, false) => Some("boot"),
            (false, true) => Some("root"),
            (false, false) => None,
        };
        vec![
            partition.number.to_string().into(),
            partition.file_system.as_str().into(),
            or_dash(partition.label.as_ref()),
            megabytes(partition.start).into(),
            megabytes(partition.bytes).into(),
            or_dash(uses),
        ]
    };
    let heading = ["PARTITION", "HOLDS", "LABEL", "AT", "SIZE", "USE"];
    table(&heading, image.partitions.iter().map(row).collect(), screen)
}

/// What happened to a deployment, one change a line.
fn history(journal: &[JournalEntry], screen: Screen) -> String {
    let row = |entry: &JournalEntry| {
        let cause = entry.cause.as_ref().map(ToString::to_string);
        vec![
            local_seconds(entry.unix_ms).into(),
            entry.run.to_string().into(),
            entry.process.to_string().into(),
            state(entry.state),
            or_dash(entry.phase.as_ref()),
            entry.actor.as_str().into(),
            cause.or_else(|| entry.detail.clone()).unwrap_or_default().into(),
        ]
    };
    let heading = ["WHEN", "RUN", "PROCESS", "STATE", "PHASE", "BY", "WHAT LED THERE"];
    table(&heading, journal.iter().map(row).collect(), screen)
}

/// Seconds that each deployment spent in each state of its last run, side by side under their names.
pub(super) fn seconds_by_state(
    names: impl Iterator<Item = String>,
    histories: &[DeploymentHistory],
) -> String {
    let heading: Vec<String> = std::iter::once("STATE".to_owned()).chain(names).collect();
    let spent: Vec<Vec<(State, u64)>> = histories.iter().map(spent).collect();
    let in_state = |spent: &[(State, u64)], state| {
        spent.iter().filter(|(known, _)| *known == state).map(|(_, ms)| ms).sum::<u64>()
    };
    let mut rows = Vec::new();
    let deploying =
        State::ALL.iter().filter(|state| **state > State::Initialized && **state < State::Deployed);
    for state in deploying {
        let mut row: Vec<Cell> = vec![state.to_string().into()];
        row.extend(spent.iter().map(|spent| seconds(in_state(spent, *state)).into()));
        rows.push(row);
    }
    let mut total: Vec<Cell> = vec!["total".into()];
    total.extend(spent.iter().map(|spent| seconds(spent.iter().map(|(_, ms)| ms).sum()).into()));
    rows.push(total);
    table(&heading.iter().map(String::as_str).collect::<Vec<_>>(), rows, Screen::default())
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

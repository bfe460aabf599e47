//! The rounds of a swarm: all nodes are held, deployed and freed, and what that took is read from the journal.

use super::board::{Board, Shared};
use super::measure::{Node, Spread, Syncs, Watcher, memory_mib, processor_seconds};
use super::report::{LinkedRound, Report, Round};
use super::{ENVIRONMENT, Options, USER};
use crate::coordinator::Coordinator;
use crate::wait::{pause, seconds};
use anyhow::{Context as _, bail};
use piseduce_coordinator::api::{DeploymentHistory, JournalEntry};
use piseduce_coordinator::clock;
use piseduce_protocol::id::DeploymentId;
use piseduce_protocol::state::{Process, State};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The round before the others, by which they are measured.
const FEW: usize = 4;
/// A round takes no longer than this many seconds, and as many for each node.
const ROUND_SECONDS: f64 = 120.0;
const NODE_SECONDS: f64 = 0.2;
/// For so long all agents are there at once: each beats twice.
const LINKED_SECONDS: f64 = 10.0;

/// What rounds need.
struct Rounds<'a> {
    coordinator: &'a Coordinator,
    process: u32,
    watcher: &'a Watcher,
    directory: &'a Path,
    names: Vec<String>,
    shared: &'a Shared,
    options: Options,
}

/// Runs all rounds.
///
/// # Errors
/// When a node gets stuck, or the coordinator ends.
pub(super) fn all(
    coordinator: &Coordinator,
    directory: &Path,
    boards: &[Arc<Board>],
    shared: &Shared,
    options: Options,
    tell: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Report> {
    let process = coordinator.process();
    let token = fs::read_to_string(coordinator.token_file(USER))?.trim().to_owned();
    let watcher = Watcher::new(format!("http://{}/api/v1/nodes", coordinator.people), token, process);
    let names = boards.iter().map(|board| board.name()).collect();
    let rounds = Rounds { coordinator, process, watcher: &watcher, directory, names, shared, options };
    std::thread::scope(|scope| {
        scope.spawn(|| watcher.watch());
        let report = rounds.all(tell);
        watcher.end();
        report
    })
}

impl Rounds<'_> {
    fn all(&self, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Report> {
        let Options { nodes, rounds, work, batch } = self.options;
        let mut report = Report::new(nodes, work.as_secs_f64(), batch.min(nodes));
        report.registered_mib = memory_mib(self.process)?.0;
        if nodes > FEW {
            report.few = Some(self.round(&self.names[..FEW])?);
        }
        // Answers to few nodes are not what is measured.
        self.watcher.answers();
        for number in 1..=rounds {
            let round = self.round(&self.names)?;
            tell(&round.line(number));
            report.rounds.push(round);
        }
        let linked = self.linked()?;
        tell(&linked.line());
        report.linked = Some(linked);
        let (answers, errors) = self.watcher.answers();
        report.answers = answers.len();
        report.answer_ms = Spread::of(answers.into_iter().map(|seconds| seconds * 1000.0).collect());
        report.answer_errors = errors;
        report.peak_mib = memory_mib(self.process)?.1;
        report.own_processor_seconds = processor_seconds(std::process::id())?;
        report.faults = self.shared.faults.named();
        Ok(report)
    }

    /// All of `names` are deployed, looked at and freed.
    fn round(&self, names: &[String]) -> anyhow::Result<Round> {
        self.reserve(names)?;
        let syncs = Syncs::count(self.process, self.directory);
        let before = processor_seconds(self.process)?;
        let asked = clock::unix_ms();
        let began = seconds();
        self.deploy(names)?;
        let command_seconds = seconds() - began;
        let nodes = self.rest(names)?;
        let processor = processor_seconds(self.process)? - before;
        let syncs = syncs.and_then(Syncs::counted).ok();
        let mut round = self.read(&nodes, asked.0)?;
        round.command_seconds = command_seconds;
        round.processor_ms = processor * 1000.0 / names.len() as f64;
        round.syncs = syncs;
        let began = seconds();
        self.destroy(names)?;
        round.free_seconds = seconds() - began;
        round.memory_mib = memory_mib(self.process)?.0;
        Ok(round)
    }

    /// All agents are there at once, for a while.
    fn linked(&self) -> anyhow::Result<LinkedRound> {
        self.shared.copies_wait.send_replace(true);
        self.reserve(&self.names)?;
        self.deploy(&self.names)?;
        let linked = || self.shared.linked.load(Ordering::Relaxed);
        let limit = seconds() + self.limit(self.names.len());
        while linked() < self.names.len() && seconds() < limit {
            pause();
        }
        let (began, before) = (seconds(), processor_seconds(self.process)?);
        let (mut memory, mut fewest) = (0f64, linked());
        while seconds() < began + LINKED_SECONDS {
            memory = memory.max(memory_mib(self.process)?.0);
            fewest = fewest.min(linked());
            pause();
        }
        let cores = (processor_seconds(self.process)? - before) / (seconds() - began);
        self.shared.copies_wait.send_replace(false);
        let nodes = self.rest(&self.names)?;
        let mut bad = Vec::new();
        for node in nodes {
            bad.extend(fault(&node));
        }
        self.destroy(&self.names)?;
        Ok(LinkedRound { agents: fewest, memory_mib: memory, cores, bad })
    }

    fn limit(&self, nodes: usize) -> f64 {
        ROUND_SECONDS + nodes as f64 * NODE_SECONDS + self.options.work.as_secs_f64() * 20.0
    }

    fn reserve(&self, names: &[String]) -> anyhow::Result<()> {
        self.command(&["reserve"], names, &["--for", "12h"])?;
        Ok(())
    }

    /// Gives all commands at once, and waits for their answers.
    fn deploy(&self, names: &[String]) -> anyhow::Result<()> {
        let key = self.directory.join("key.pub");
        let key = key.to_string_lossy();
        let mut commands = Vec::new();
        for batch in names.chunks(self.options.batch.max(1)) {
            let arguments: Vec<&str> =
                ["deploy"].into_iter().chain(batch.iter().map(String::as_str)).collect();
            let form = ["--environment", ENVIRONMENT, "--ssh-key", &key];
            let mut command = self.coordinator.cli_command(USER, &[&arguments[..], &form].concat());
            commands.push(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?);
        }
        let ends: Vec<_> = commands.into_iter().map(Child::wait_with_output).collect();
        for end in ends {
            let end = end?;
            let said = String::from_utf8_lossy(&end.stderr).into_owned();
            anyhow::ensure!(end.status.success(), "deploy was refused: {}", said.trim());
        }
        Ok(())
    }

    /// Waits until all deployments have come to rest.
    fn rest(&self, names: &[String]) -> anyhow::Result<Vec<Node>> {
        let rests = |node: &Node| {
            let held = node.deployment.as_ref();
            held.is_some_and(|held| {
                matches!(held.state, State::Deployed | State::Lost | State::Failed | State::Quarantined)
            })
        };
        self.nodes(names, "come to rest", rests)
    }

    fn destroy(&self, names: &[String]) -> anyhow::Result<()> {
        self.command(&["destroy"], names, &[])?;
        self.nodes(names, "be free", |node| node.deployment.is_none()).map(drop)
    }

    fn command(&self, verb: &[&str], names: &[String], more: &[&str]) -> anyhow::Result<String> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.coordinator.cli(USER, &[verb, &names, more].concat())
    }

    /// Waits until all nodes are so.
    fn nodes(
        &self,
        names: &[String],
        what: &str,
        is_so: impl Fn(&Node) -> bool,
    ) -> anyhow::Result<Vec<Node>> {
        let limit = seconds() + self.limit(names.len());
        loop {
            let mut nodes = self.watcher.nodes()?;
            nodes.retain(|node| names.contains(&node.name));
            let missing: Vec<&Node> = nodes.iter().filter(|node| !is_so(node)).collect();
            if missing.is_empty() {
                return Ok(nodes);
            }
            if seconds() > limit {
                let first = missing[0];
                bail!("{} of {} nodes do not {what}, such as {first:?}", missing.len(), names.len());
            }
        }
    }

    /// What the journal says about these deployments, which were asked for at `asked`, in milliseconds since 1970.
    fn read(&self, nodes: &[Node], asked: u64) -> anyhow::Result<Round> {
        let work = self.options.work.as_secs_f64() * State::AGENTS.len() as f64;
        let (mut totals, mut states, mut bad, mut restarts) = (Vec::new(), BTreeMap::new(), Vec::new(), 0);
        for node in nodes {
            bad.extend(fault(node));
            let id = node.deployment.as_ref().context("only who is held comes to rest")?.id;
            let history = self.history(id)?;
            restarts += history.deployment.restarts;
            let steps = steps(&history.journal);
            for pair in steps.windows(2) {
                let [(state, from), (_, to)] = pair else { continue };
                states.entry(*state).or_insert_with(Vec::new).push(to.saturating_sub(*from) as f64 / 1000.0);
            }
            let deployed = steps.iter().find(|(state, _)| *state == State::Deployed);
            totals.extend(deployed.map(|(_, at)| at.saturating_sub(asked) as f64 / 1000.0));
        }
        let order = |state: &State| piseduce_coordinator::machine::table::position(*state);
        let mut states: Vec<(State, Spread)> =
            states.into_iter().map(|(state, seconds)| (state, Spread::of(seconds))).collect();
        states.sort_by_key(|(state, _)| order(state));
        Ok(Round {
            nodes: nodes.len(),
            added: Spread::of(totals.iter().map(|total| total - work).collect()),
            total_seconds: totals.iter().copied().fold(0.0, f64::max),
            states,
            restarts,
            bad,
            ..Round::default()
        })
    }

    fn history(&self, id: DeploymentId) -> anyhow::Result<DeploymentHistory> {
        self.coordinator.get(USER, &format!("deployments/{id}"))
    }
}

/// Why a node is not deployed.
fn fault(node: &Node) -> Option<String> {
    let held = node.deployment.as_ref()?;
    let cause = || held.cause.as_ref().map(ToString::to_string).unwrap_or_default();
    (held.state != State::Deployed).then(|| format!("{}: {} {}", node.name, held.state, cause()))
}

/// When a deployment came into each state, in milliseconds since 1970.
fn steps(journal: &[JournalEntry]) -> Vec<(State, u64)> {
    let mut steps: Vec<(State, u64)> = Vec::new();
    let is_of_it =
        |entry: &&JournalEntry| entry.process == Process::Deploy && entry.state != State::Initialized;
    for entry in journal.iter().filter(is_of_it) {
        if steps.last().is_none_or(|(state, _)| *state != entry.state) {
            steps.push((entry.state, entry.unix_ms));
        }
    }
    steps
}

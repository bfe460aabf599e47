//! What a swarm measured, and how that stands beside the goals.

use super::measure::Spread;
use piseduce_protocol::state::State;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a swarm measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How many nodes there are.
    pub nodes: usize,
    /// How long the work of each of the agent's states took, in seconds.
    pub work_seconds: f64,
    /// How many nodes one command named.
    pub batch: usize,
    /// Resident memory with all nodes registered, in MiB.
    pub registered_mib: f64,
    /// The round of four nodes, by which the others are measured.
    pub few: Option<Round>,
    /// All rounds.
    pub rounds: Vec<Round>,
    /// What it is like when all agents are there at once.
    pub linked: Option<LinkedRound>,
    /// How long `GET /nodes` took meanwhile, in milliseconds.
    pub answer_ms: Spread,
    /// How often it was asked.
    pub answers: usize,
    /// How often it was not answered.
    pub answer_errors: u64,
    /// The most memory that was resident, in MiB.
    pub peak_mib: f64,
    /// Processor time of all virtual nodes and of what measures, in seconds.
    pub own_processor_seconds: f64,
    /// What should not happen, by name.
    pub faults: BTreeMap<&'static str, u64>,
}

/// One round.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Round {
    /// How many nodes it had.
    pub nodes: usize,
    /// From the command until a node is deployed, without the work, in seconds.
    pub added: Spread,
    /// From the command until the last node is deployed, in seconds.
    pub total_seconds: f64,
    /// Until the command was answered, in seconds.
    pub command_seconds: f64,
    /// The seconds in each state, in their order.
    pub states: Vec<(State, Spread)>,
    /// The coordinator's processor time for one deployment, in milliseconds.
    pub processor_ms: f64,
    /// How often it waited for the disk from the command to the last deployed node; none: not counted.
    pub syncs: Option<u64>,
    /// Restarts from the nodes' budgets.
    pub restarts: u32,
    /// From `destroy` until all nodes are free, in seconds.
    pub free_seconds: f64,
    /// Resident memory then, in MiB.
    pub memory_mib: f64,
    /// The nodes that were not deployed, and why.
    pub bad: Vec<String>,
}

/// All agents at once.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LinkedRound {
    /// How many were linked all the time.
    pub agents: usize,
    /// The most resident memory meanwhile, in MiB.
    pub memory_mib: f64,
    /// How many cores their beats and progress kept busy.
    pub cores: f64,
    /// The nodes that were not deployed afterwards, and why.
    pub bad: Vec<String>,
}

/// Added seconds, by the number of nodes up to which they are promised.
const ADDED_SECONDS: [(usize, f64); 2] = [(20, 0.2), (1000, 3.0)];
/// Resident memory with up to a thousand agents.
const MEMORY_MIB: f64 = 150.0;
/// How long 99 of 100 answers of `GET /nodes` may take, in milliseconds.
const ANSWER_MS: f64 = 30.0;

impl Round {
    /// A line for eyes.
    pub fn line(&self, number: usize) -> String {
        let syncs = self.syncs.map_or("not counted".into(), |syncs| syncs.to_string());
        let Spread { median, p95, max, .. } = self.added;
        format!(
            "round {number}: {} nodes, added {median:.2} {p95:.2} {max:.2} s (median, p95, max), command {:.2} s, \
             {:.1} ms of processor a deployment, fsyncs {syncs}, {} restarts, free after {:.1} s, {:.0} MiB",
            self.nodes,
            self.command_seconds,
            self.processor_ms,
            self.restarts,
            self.free_seconds,
            self.memory_mib
        )
    }
}

impl LinkedRound {
    /// A line for eyes.
    pub fn line(&self) -> String {
        format!("linked: {} agents at once, {:.0} MiB, {:.2} cores", self.agents, self.memory_mib, self.cores)
    }
}

impl Report {
    pub(super) fn new(nodes: usize, work_seconds: f64, batch: usize) -> Report {
        Report { nodes, work_seconds, batch, ..Report::default() }
    }

    /// The nodes that were not deployed, and why.
    pub fn bad(&self) -> Vec<&String> {
        let rounds = self.rounds.iter().chain(&self.few).flat_map(|round| &round.bad);
        rounds.chain(self.linked.iter().flat_map(|linked| &linked.bad)).collect()
    }

    /// A table for eyes: seconds by state of the last round, and the goals.
    pub fn table(&self) -> String {
        let mut table = String::new();
        if let Some(round) = self.rounds.last() {
            table += "state                 median     p95     max\n";
            for (state, spread) in &round.states {
                let Spread { median, p95, max, .. } = spread;
                // Writing to a string cannot fail.
                let _ = writeln!(table, "{:<20} {median:>7.3} {p95:>7.3} {max:>7.3}", state.to_string());
            }
        }
        table += "\ngoal                                            limit   measured  verdict\n";
        for (goal, limit, measured) in self.goals() {
            let verdict = match limit {
                Some(limit) if measured <= limit => "met",
                Some(_) => "missed",
                None => "",
            };
            let limit = limit.map_or("-".into(), |limit| limit.to_string());
            let _ = writeln!(table, "{goal:<44} {limit:>8} {measured:>10.2}  {verdict}");
        }
        for (fault, count) in self.faults.iter().filter(|(_, count)| **count > 0) {
            let _ = writeln!(table, "{count} × {fault}");
        }
        self.bad().iter().take(20).for_each(|bad| table += &format!("{bad}\n"));
        table
    }

    /// What is promised or told: name, limit, measured.
    fn goals(&self) -> Vec<(String, Option<f64>, f64)> {
        let middle = |value: fn(&Round) -> f64| Spread::of(self.rounds.iter().map(value).collect()).median;
        let mut goals = Vec::new();
        if let Some(few) = &self.few {
            goals.push((format!("added seconds at {}", few.nodes), promised(few.nodes), few.added.max));
        }
        let nodes = self.nodes;
        goals.push((format!("added seconds at {nodes}"), promised(nodes), middle(|round| round.added.max)));
        if let Some(few) = self.few.as_ref().filter(|few| few.total_seconds > 0.0) {
            let ratio = middle(|round| round.total_seconds) / few.total_seconds;
            goals.push((format!("T({nodes})/T({})", few.nodes), None, ratio));
        }
        goals.push(("processor of a deployment, ms".into(), None, middle(|round| round.processor_ms)));
        let memory = (nodes <= 1000).then_some(MEMORY_MIB);
        goals.push(("memory with all nodes registered, MiB".into(), None, self.registered_mib));
        if let Some(linked) = &self.linked {
            goals.push((
                format!("memory with {} agents linked, MiB", linked.agents),
                memory,
                linked.memory_mib,
            ));
        }
        if let Some(last) = self.rounds.last() {
            let name = format!("memory after round {}, MiB", self.rounds.len());
            goals.push((name, memory, last.memory_mib));
        }
        goals.push(("memory at most, MiB".into(), None, self.peak_mib));
        goals.push((
            format!("GET /nodes, p99 of {}, ms", self.answers),
            (nodes <= 1000).then_some(ANSWER_MS),
            self.answer_ms.p99,
        ));
        goals.push(("GET /nodes, median, ms".into(), None, self.answer_ms.median));
        goals.push(("GET /nodes, max, ms".into(), None, self.answer_ms.max));
        goals.push(("GET /nodes without an answer".into(), Some(0.0), self.answer_errors as f64));
        goals.push(("nodes lost or failed".into(), Some(0.0), self.bad().len() as f64));
        goals.push(("processor of the swarm itself, s".into(), None, self.own_processor_seconds));
        goals
    }
}

fn promised(nodes: usize) -> Option<f64> {
    ADDED_SECONDS.iter().find_map(|(most, seconds)| (nodes <= *most).then_some(*seconds))
}

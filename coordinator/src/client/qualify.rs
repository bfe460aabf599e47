//! `piseduce node qualify`: deploys to a node, cuts its power and gives it back, again and again, and writes down how that went as a
//! page for others who have such a board.

use super::connection::{Connection, level};
use super::deploy::{Ended, keys};
use super::error::ClientError;
use super::follow::until_seen;
use super::interrupt::until_interrupted;
use super::nodes::by_name;
use super::tables::{self, resting};
use super::time::local;
use crate::api::{
    DeployRequest, DeploymentHistory, EnvironmentView, NodeCheckView, NodeView, ReservationView,
    ReserveRequest, SilenceRequest, Started, SwitchView,
};
use crate::print::{self, Output};
use clap::Args;
use piseduce_protocol::id::DeploymentId;
use piseduce_protocol::state::State;
use serde::Serialize;
use std::fs;
use std::path::PathBuf;

/// For how long a node is held for one cycle.
const HOLD_S: u64 = 4 * 3600;

/// For how long a node is not answered: longer than its restarts within one boot of the card last.
const SILENCE_S: u64 = 900;

/// What `qualify` takes.
#[derive(Clone, Debug, Args)]
pub struct QualifyOptions {
    /// A free node
    node: String,
    /// What is deployed on it; see `piseduce environment list`
    #[arg(long, value_name = "NAME")]
    environment: String,
    /// File with SSH public keys that may log in meanwhile; may be given more than once
    #[arg(long, value_name = "FILE", required = true)]
    ssh_key: Vec<PathBuf>,
    /// How often
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    cycles: u32,
    /// Also cut power while TFTP answers this node nothing, as if the head were away: it must boot its card all the same. For
    /// administrators; not for a Pi 3, which boots over the network only
    #[arg(long)]
    head_down: bool,
    /// The file to write the page to
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

/// How the cycles went.
#[derive(Debug, Serialize)]
struct Qualified {
    /// Those that went as they should.
    passed: u32,
    /// What the last one came to if it did not.
    stopped: Option<String>,
    /// What happened in each.
    cycles: Vec<DeploymentHistory>,
}

/// Ends badly when a cycle does not go as it should; the node stays as it is then.
pub(super) fn qualify(
    connection: &Connection,
    output: Output,
    options: &QualifyOptions,
) -> Result<Ended, ClientError> {
    let environment: EnvironmentView =
        connection.get(&format!("environments/{}", level(&options.environment)))?;
    let work = {
        let (connection, options) = (connection.clone(), options.clone());
        move || cycles(&connection, output, &options)
    };
    let qualified = until_interrupted(vec![], work).inspect_err(|error| {
        if matches!(error, ClientError::Interrupted(_)) {
            if options.head_down {
                // What cannot be said now ends by itself.
                let _ = silence(connection, options, 0);
            }
            print::aside(format_args!(
                "the node stays as it is: `piseduce destroy {}` frees it",
                options.node
            ));
        }
    })?;
    let page = page(connection, options, &environment, &qualified)?;
    if let Some(file) = &options.page {
        fs::write(file, format!("{page}\n"))
            .map_err(|source| ClientError::Write { file: file.clone(), source })?;
    }
    output.tell("qualified", &qualified, |_| page);
    Ok(if qualified.stopped.is_none() { Ended::Well } else { Ended::Badly })
}

fn cycles(
    connection: &Connection,
    output: Output,
    options: &QualifyOptions,
) -> Result<Qualified, ClientError> {
    if options.head_down {
        // Whoever may not, or cannot, is told before anything is begun.
        silence(connection, options, 0)?;
    }
    let mut qualified = Qualified { passed: 0, stopped: None, cycles: vec![] };
    for number in 1..=options.cycles {
        let deployment = begin(connection, options)?;
        let cycle = Cycle { connection, output, options, number, deployment };
        let end = cycle.run()?;
        qualified.cycles.push(connection.get(&format!("deployments/{deployment}"))?);
        match end {
            None => qualified.passed += 1,
            Some(why) => {
                qualified.stopped = Some(why);
                break;
            }
        }
    }
    Ok(qualified)
}

fn begin(connection: &Connection, options: &QualifyOptions) -> Result<DeploymentId, ClientError> {
    let nodes = vec![options.node.clone()];
    let hold = ReserveRequest { nodes: nodes.clone(), seconds: HOLD_S };
    let request = DeployRequest {
        nodes,
        environment: options.environment.clone(),
        ssh_keys: keys(&options.ssh_key)?,
        password_hash: None,
        script: None,
        rerun_script: false,
        script_seconds: None,
        part_size: None,
    };
    let _: ReservationView = connection.post("reservations", &hold)?;
    let started: Vec<Started> = connection.post("deployments", &request)?;
    Ok(started[0].deployment)
}

/// Has TFTP not answer the node for a while; for no time: from now on again.
fn silence(connection: &Connection, options: &QualifyOptions, seconds: u64) -> Result<(), ClientError> {
    let path = format!("nodes/{}/silence", level(&options.node));
    connection.post::<()>(&path, &SilenceRequest { seconds })
}

/// One deployment from its beginning to its end.
struct Cycle<'a> {
    connection: &'a Connection,
    output: Output,
    options: &'a QualifyOptions,
    number: u32,
    deployment: DeploymentId,
}

impl Cycle<'_> {
    /// Why it did not go as it should, if so.
    fn run(&self) -> Result<Option<String>, ClientError> {
        self.tell("boot root, copy, boot of the card");
        if cuts_the_copy(self.number) {
            self.until(|state| state >= State::EnvCopy)?;
            self.tell("power cut in the copy");
            self.ask("reboot")?;
        }
        if let Some(why) = self.rests_in(State::Deployed)? {
            return Ok(Some(why));
        }
        self.tell("power cut under the running system");
        self.ask("reboot")?;
        if let Some(why) = self.rests_in(State::Deployed)? {
            return Ok(Some(why));
        }
        if self.options.head_down {
            self.tell("power cut while the head does not answer");
            silence(self.connection, self.options, SILENCE_S)?;
            self.ask("reboot")?;
            let end = self.rests_in(State::Deployed);
            // Whatever became of it: it is answered again.
            silence(self.connection, self.options, 0)?;
            if let Some(why) = end? {
                return Ok(Some(format!("{why}, while the head did not answer")));
            }
        }
        self.tell("back into the boot root, and wiped");
        self.ask("destroy")?;
        self.rests_in(State::Ended)
    }

    fn tell(&self, what: &str) {
        if self.output == Output::Text {
            print::aside(format_args!("cycle {} of {}: {what} …", self.number, self.options.cycles));
        }
    }

    fn ask(&self, request: &str) -> Result<(), ClientError> {
        let path = format!("nodes/{}/{request}", level(&self.options.node));
        self.connection.post::<Started>(&path, &()).map(drop)
    }

    /// Waits for a state, or for any that is the last.
    fn until(&self, is_it: impl Fn(State) -> bool) -> Result<(State, String), ClientError> {
        until_seen(
            || by_name(self.connection, &self.options.node),
            |node: NodeView| match node.deployment.filter(|now| now.id == self.deployment) {
                None => Some((State::Ended, String::new())),
                Some(now) if is_it(now.state) || resting(now.state).is_some() => {
                    Some((now.state, now.cause.map(|cause| format!(", {cause}")).unwrap_or_default()))
                }
                Some(_) => None,
            },
        )
    }

    /// What it came to instead of resting in `wanted`.
    fn rests_in(&self, wanted: State) -> Result<Option<String>, ClientError> {
        let (state, cause) = self.until(|_| false)?;
        Ok((state != wanted).then(|| format!("{state} instead of {wanted}{cause}")))
    }
}

/// Every other copy is cut off.
fn cuts_the_copy(number: u32) -> bool {
    number.is_multiple_of(2)
}

/// What others may want to know, without what identifies the board.
fn page(
    connection: &Connection,
    options: &QualifyOptions,
    environment: &EnvironmentView,
    qualified: &Qualified,
) -> Result<String, ClientError> {
    let node = by_name(connection, &options.node)?;
    let check: NodeCheckView = connection.get(&format!("nodes/{}/check", level(&options.node)))?;
    let switches: Vec<SwitchView> = connection.get("switches")?;
    let driver = switches.into_iter().find(|switch| switch.name == node.switch).map(|switch| switch.driver);
    let last = qualified.cycles.last().and_then(|cycle| cycle.journal.last()).map(|entry| entry.unix_ms);
    let facts: Vec<String> = check.facts.iter().map(|(name, value)| format!("`{name}={value}`")).collect();
    let card = check.card.map_or("none".into(), |card| {
        format!("{} bytes, CID {}", card.bytes, card.cid.as_deref().unwrap_or("unknown"))
    });
    let restarts: Vec<String> =
        qualified.cycles.iter().map(|cycle| cycle.deployment.restarts.to_string()).collect();
    let mut lines = vec![
        format!("# {}", check.model.unwrap_or(node.model)),
        String::new(),
        format!(
            "{} of {} cycles passed on {}, with PiSeduce {}. A cycle: boot root, copy, boot of the card; power cut under the running \
             system{}; back into the boot root, and wiped. In every other one power is cut in the copy, too.",
            qualified.passed,
            options.cycles,
            last.map_or("an unknown day".into(), local),
            env!("CARGO_PKG_VERSION"),
            if options.head_down { ", and once more while TFTP does not answer" } else { "" },
        ),
        String::new(),
        format!("- bootloader: {}", if facts.is_empty() { "not read".into() } else { facts.join(" ") }),
        format!("- card: {card}"),
        format!("- switch: driver `{}`", driver.unwrap_or_default()),
        format!("- environment: {}, {} bytes", environment.name, environment.image_bytes),
        format!("- restarts: {}", restarts.join(" ")),
    ];
    lines.extend(check.findings.iter().map(|finding| format!("- `{}`: {}", finding.name, finding.seen)));
    lines.extend(qualified.stopped.as_ref().map(|why| format!("- **stopped**: {why}")));
    let names = (1..=qualified.cycles.len()).map(|number| format!("CYCLE {number}"));
    let seconds = tables::seconds_by_state(names, &qualified.cycles);
    lines.extend([
        String::new(),
        "Seconds by state:".into(),
        String::new(),
        "```".into(),
        seconds,
        "```".into(),
    ]);
    Ok(lines.join("\n"))
}

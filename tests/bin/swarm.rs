//! Deploys to a swarm of virtual nodes and says what the coordinator itself costs. Goals are for people: only a node that is
//! lost or failed makes it fail.

use clap::Parser;
use piseduce_coordinator::print;
use piseduce_tests::swarm::{self, BOARDS_MAX, Options};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Deploys to a swarm of virtual nodes and says what the coordinator itself costs.
#[derive(Parser)]
struct Arguments {
    /// How many nodes
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// How often all of them are deployed and freed
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// How long the work of each state takes, in milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS")]
    work: u64,
    /// How many nodes one command names; commands are given at once
    #[arg(long, default_value_t = BOARDS_MAX, value_name = "NODES")]
    batch: usize,
    /// Also writes everything that was measured into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print::error(format!("{error:#}"), "");
            ExitCode::FAILURE
        }
    }
}

/// Whether all nodes were deployed.
fn measure(arguments: &Arguments) -> anyhow::Result<bool> {
    let Arguments { nodes, rounds, work, batch, json } = arguments;
    let options =
        Options { nodes: *nodes, rounds: *rounds, work: Duration::from_millis(*work), batch: *batch };
    let report = swarm::run(options, &|line| print::line(line))?;
    print::line(report.table());
    if let Some(file) = json {
        std::fs::write(file, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(report.bad().is_empty())
}

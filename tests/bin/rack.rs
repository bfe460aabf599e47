//! `make rack`: a rehearsal of the whole main job on a virtual rack. Real kernels boot over DHCP and TFTP, powered by SNMP; it ends
//! when each node lets its user in on its own card.

use anyhow::Context as _;
use clap::Parser;
use piseduce_coordinator::api::NodeView;
use piseduce_coordinator::print;
use piseduce_protocol::state::State;
use piseduce_tests::firmware::{From, Model};
use piseduce_tests::process::{command, need_root, programs};
use piseduce_tests::rack_network::HEAD;
use piseduce_tests::show::{Show, wants_to_keep};
use piseduce_tests::virtual_lab::{ENVIRONMENT, Made, USER, VirtualLab, tail};
use piseduce_tests::virtual_rack::{Board, Happened, VirtualRack, idle_seconds};
use piseduce_tests::wait::seconds;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

const PREFIX: &str = "piseduce-rack-";
/// Of the console of a node that is not deployed so many lines are shown.
const LINES_SHOWN: usize = 25;

/// Deploys a real Debian to a rack of virtual Raspberry Pis over a real network boot.
#[derive(Parser)]
struct Arguments {
    /// How many boards; each takes about 1 GB of memory
    #[arg(long, env = "NODES", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=40))]
    nodes: u16,
    /// Which boards, such as pi4,pi3b+; the last stands for all that follow
    #[arg(long, env = "MODELS", value_delimiter = ',', value_parser = model, default_value = "pi4")]
    models: Vec<Model>,
}

fn model(text: &str) -> Result<Model, String> {
    match text {
        "pi3" | "pi3b" => Ok(Model::Pi3),
        "pi3b+" => Ok(Model::Pi3Plus),
        "pi4" => Ok(Model::Pi4),
        "pi5" => Ok(Model::Pi5),
        _ => Err("pi3b, pi3b+, pi4 and pi5 are the boards that there are".into()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let show = Show::begin(PREFIX, USER);
    let result = rehearse(&show, &arguments);
    show.end();
    match result {
        Ok((well, count)) => {
            print::line(format!("rack: {well} of {count} nodes deployed"));
            if well == count { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            print::error(format!("{error:#}"), "");
            ExitCode::FAILURE
        }
    }
}

fn rehearse(show: &Show, arguments: &Arguments) -> anyhow::Result<(usize, usize)> {
    need_root()?;
    let began = seconds();
    let made = Made::ready(&|line| print::line(line))?;
    print::line(format!(
        "boot root and image are ready after {:.1} s; they are kept in target/images",
        seconds() - began
    ));
    let count = usize::from(arguments.nodes);
    let last = *arguments.models.last().context("a rack has a model")?;
    let models: Vec<Model> =
        arguments.models.iter().copied().chain(std::iter::repeat(last)).take(count).collect();
    let directory = show.directory()?;
    let rack = VirtualRack::new(&directory.join("rack"), &models)?;
    // Programs end with the thread that started them, and all of them belong into the rack's network.
    rack.network.head.within(|| deploy(show, &directory, &rack, &made))
}

fn deploy(show: &Show, directory: &Path, rack: &VirtualRack, made: &Made) -> anyhow::Result<(usize, usize)> {
    for board in rack.boards.iter() {
        let identity = &board.identity;
        print::line(format!(
            "{}: {}, {}, console {}",
            identity.name,
            identity.model.name(),
            identity.mac,
            board.console.display()
        ));
    }
    print::line(format!(
        "a PoE switch speaks SNMP v3 at {}; the head is {HEAD}, with dnsmasq and a coordinator",
        rack.switch.address()
    ));
    let idle = idle_seconds(rack, &made.boot_files())?;
    let lab = VirtualLab::new(directory, rack, made, "boot_spacing_ms = 200\n")?;
    lab.use_boot_root(&made.boot_roots.image, &["--model", Model::Pi5.name()])?;
    let (coordinator, names) = (&lab.coordinator, lab.names());
    anyhow::ensure!(show.run(coordinator, &["node", "import", &lab.inventory()?])?, "no nodes");
    let settings = coordinator.settings();
    let add = [
        "environment",
        "add",
        ENVIRONMENT,
        &made.image.to_string_lossy(),
        "--config",
        &settings.to_string_lossy(),
    ]
    .map(str::to_owned);
    let add: Vec<&str> = add.iter().map(String::as_str).collect();
    anyhow::ensure!(show.run(coordinator, &add)?, "no environment");
    anyhow::ensure!(
        show.run(coordinator, &[&["reserve"], &names[..], &["--for", "4h"]].concat())?,
        "the nodes cannot be held"
    );
    let key = lab.public_key();
    let form = ["--environment", ENVIRONMENT, "--ssh-key", &key, "--wait"];
    // How it ended is told by the nodes, below.
    show.run(coordinator, &[&["deploy"], &names[..], &form].concat())?;
    let mut well = 0;
    for board in rack.boards.iter() {
        match look(&lab, board) {
            Ok(text) => {
                print::line(format!("{}: {text}", board.identity.name));
                well += 1;
            }
            Err(error) => {
                print::line(format!("{}: {error:#}; its console ends with", board.identity.name));
                print::line(tail(&board.said(), LINES_SHOWN));
            }
        }
    }
    print::line(boot_times(&lab, idle));
    if wants_to_keep() {
        keep(show, &lab)?;
    }
    Ok((well, rack.boards.len()))
}

/// Makes sure that a node is deployed and lets its user in on its own card.
fn look(lab: &VirtualLab, board: &Board) -> anyhow::Result<String> {
    let node: NodeView = lab.coordinator.get(USER, &format!("nodes/{}", board.identity.name))?;
    let state = node.deployment.map(|deployment| deployment.state);
    anyhow::ensure!(state == Some(State::Deployed), "it is not deployed but {state:?}");
    let question = "cat /etc/hostname; uname -m; df --output=source,size -B 1M / | tail -1";
    let answer = lab.log_in(board, question)?;
    let words: Vec<&str> = answer.split_ascii_whitespace().collect();
    let [name, machine, root, size] = words[..] else { anyhow::bail!("it says `{answer}`") };
    anyhow::ensure!(name == board.identity.name && root.starts_with("/dev/mmcblk0p"), "it says `{answer}`");
    Ok(format!(
        "its user logs in over SSH, its host key is the announced one: {machine}, root {root} of {size} MB"
    ))
}

/// From power to the agent's hello, beside what no boot root can beat.
fn boot_times(lab: &VirtualLab, idle: f64) -> String {
    let of = |board: &Board| -> Option<String> {
        let journal = lab.history(&board.identity.name).ok()?.journal;
        let at = journal.iter().position(|entry| entry.state == State::NfsBootOn)?;
        let hello = journal[at..].iter().find(|entry| entry.state != State::NfsBootOn)?;
        let seconds = hello.unix_ms.saturating_sub(journal[at].unix_ms) as f64 / 1000.0;
        let happened = board.happened();
        let on = happened.iter().find(|(_, what)| *what == Happened::On)?.0;
        let kernel = happened.iter().find(|(_, what)| *what == Happened::Kernel(From::Network))?.0;
        Some(format!("{} {seconds:.1} s (firmware {:.1} s)", board.identity.name, kernel - on))
    };
    let times: Vec<String> = lab.rack.boards.iter().filter_map(of).collect();
    format!(
        "power to the agent's hello: {}; a bare kernel with an idle first process, alone: {idle:.1} s",
        times.join(", ")
    )
}

/// Leaves everything up: a shell in the rack's network where there is a terminal, else until Ctrl-C.
fn keep(show: &Show, lab: &VirtualLab) -> anyhow::Result<()> {
    let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap_or_default());
    let url = format!("http://{}", lab.coordinator.people);
    let token = lab.coordinator.token_file(USER);
    if std::io::stdin().is_terminal() {
        print::line("the rack stays up as long as this shell; try `piseduce node list` (exit ends it)");
        let mut shell = command(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
        shell.env("PATH", path).env("PISEDUCE_URL", url).env("PISEDUCE_TOKEN_FILE", token);
        shell.status().context("the shell cannot be started")?;
        return Ok(());
    }
    print::line(format!(
        "the rack stays up until Ctrl-C; in another terminal:\n  sudo nsenter --net={} env \
         PATH={} PISEDUCE_URL={url} PISEDUCE_TOKEN_FILE={} piseduce node list",
        lab.rack.network.head.path(),
        programs().display(),
        token.display()
    ));
    show.wait_for_stop();
    Ok(())
}

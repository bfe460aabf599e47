//! `make demo`: a real Debian image deployed to four bench nodes, state by state, and a look at each card.
//!
//! `IMAGE=path` deploys another image, `KEY=path` another public key, `NODES=n` to another number of
//! nodes; `KEEP=1` leaves everything running until Ctrl-C and says how to reach it.

use anyhow::Context as _;
use piseduce_coordinator::{print, signal};
use piseduce_tests::coordinator::Coordinator;
use piseduce_tests::lab::SSH_KEY;
use piseduce_tests::process::need_root;
use piseduce_tests::rack::Rack;
use piseduce_tests::switch::SimulatedSwitch;
use piseduce_tests::{cards, images, wait};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

const PREFIX: &str = "piseduce-demo-";
const USER: &str = "you";
const CARD_BYTES: u64 = 4 << 30;

const SCRIPT: &str = "#!/bin/sh\n\
    # Runs once on each deployed node.\n\
    echo \"hello from $(cat /etc/hostname)\" | tee /root/hello\n";

fn main() -> ExitCode {
    match demo() {
        Ok((well, count)) => {
            print::line(format!("demo: {well} of {count} nodes deployed"));
            if wants_to_keep() {
                wait_for_stop();
            }
            clean_up();
            if well == count { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            print::error(format!("{error:#}"), "");
            clean_up();
            ExitCode::FAILURE
        }
    }
}

/// What keeps the rack powered until the program ends.
static RUNNING: std::sync::Mutex<Option<(SimulatedSwitch, Rack, Coordinator)>> = std::sync::Mutex::new(None);

fn clean_up() {
    drop(RUNNING.lock().expect("nobody panics while holding it").take());
    remove_directories();
}

fn remove_directories() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        // What cannot be removed now is tried again by the next demo.
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// Whether Ctrl-C is what ends a demo that is kept running.
static KEPT: AtomicBool = AtomicBool::new(false);
/// Whether it came.
static STOPPED: AtomicBool = AtomicBool::new(false);

fn wants_to_keep() -> bool {
    std::env::var_os("KEEP").is_some_and(|keep| keep != "0")
}

/// Ends the program cleanly on Ctrl-C and SIGTERM; every child dies with it.
fn end_on_signal() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(signal::stop());
        if KEPT.load(Ordering::SeqCst) {
            STOPPED.store(true, Ordering::SeqCst);
            return;
        }
        print::error("interrupted", "");
        remove_directories();
        std::process::exit(130);
    });
}

fn wait_for_stop() {
    KEPT.store(true, Ordering::SeqCst);
    while !STOPPED.load(Ordering::SeqCst) {
        wait::pause();
    }
}

fn demo() -> anyhow::Result<(usize, usize)> {
    need_root()?;
    end_on_signal();
    let cleaned = cards::clean_up(&std::env::temp_dir().join(PREFIX))?;
    remove_directories();
    if cleaned > 0 {
        print::line(format!("cleaned up {cleaned} loop devices of an earlier demo"));
    }
    let image = match std::env::var_os("IMAGE") {
        Some(path) => PathBuf::from(path),
        None => {
            print::line(
                "image: Debian, made by mmdebstrap the first time (about a minute) and kept in target/images",
            );
            images::debian()?
        }
    };
    let count: usize = match std::env::var("NODES") {
        Ok(text) => text.parse().context("NODES is no number")?,
        Err(_) => 4,
    };
    let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?.keep();
    let rack = Rack::new(&directory.join("rack"), count, CARD_BYTES)?;
    let coordinator = Coordinator::start(&directory.join("head"), "boot_spacing_ms = 200\n")?;
    rack.connect(&coordinator.nodes.to_string());
    let switch = rack.poe_switch()?;
    let names: Vec<String> = rack.nodes.iter().map(|node| node.name.clone()).collect();
    *RUNNING.lock().expect("nobody panics while holding it") = Some((switch, rack, coordinator));
    let running = RUNNING.lock().expect("nobody panics while holding it");
    let (switch, rack, coordinator) = running.as_ref().context("just put there")?;
    prepare(coordinator, switch, rack, &directory, &image)?;
    deploy(coordinator, &directory, &names)?;
    shown(coordinator, &["switch", "show", "bench"])?;
    let well = look(rack, coordinator, &names)?;
    if wants_to_keep() {
        keep(coordinator, &names)?;
    }
    Ok((well, count))
}

/// Shows a command line and runs it with this terminal.
fn shown(coordinator: &Coordinator, arguments: &[&str]) -> anyhow::Result<bool> {
    print::line(format!("$ piseduce {}", arguments.join(" ")));
    let status = coordinator.cli_command(USER, arguments).status().context("piseduce cannot be started")?;
    Ok(status.success())
}

fn prepare(
    coordinator: &Coordinator,
    switch: &SimulatedSwitch,
    rack: &Rack,
    directory: &Path,
    image: &Path,
) -> anyhow::Result<()> {
    let settings = coordinator.settings();
    let settings = settings.to_string_lossy();
    coordinator.add_user(USER, "admin")?;
    let inventory = directory.join("rack.toml");
    let entry = switch.entry(directory, "bench", "3")?;
    print::line(format!("a PoE switch speaks SNMP v3 at {}; its ports power the nodes", switch.address()));
    fs::write(&inventory, rack.inventory_behind(&entry))?;
    anyhow::ensure!(shown(coordinator, &["node", "import", &inventory.to_string_lossy()])?, "no nodes");
    let image = image.to_string_lossy();
    // Bench nodes run what this machine runs.
    let add = ["environment", "add", "demo", &image, "--any-architecture", "--config", &settings];
    let added = shown(coordinator, &add)?;
    anyhow::ensure!(added, "no environment");
    Ok(())
}

fn deploy(coordinator: &Coordinator, directory: &Path, names: &[String]) -> anyhow::Result<()> {
    let key = match std::env::var_os("KEY") {
        Some(path) => PathBuf::from(path),
        None => {
            let path = directory.join("key.pub");
            fs::write(&path, format!("{SSH_KEY}\n"))?;
            path
        }
    };
    let script = directory.join("hello.sh");
    fs::write(&script, SCRIPT)?;
    let (key, script) = (key.to_string_lossy(), script.to_string_lossy());
    let names = names.iter().map(String::as_str);
    let reserve: Vec<&str> = ["reserve"].into_iter().chain(names.clone()).chain(["--for", "4h"]).collect();
    anyhow::ensure!(shown(coordinator, &reserve)?, "the nodes cannot be held");
    let form = ["--environment", "demo", "--ssh-key", &key, "--script", &script, "--wait"];
    let deploy: Vec<&str> = ["deploy"].into_iter().chain(names).chain(form).collect();
    // How it ended is told by the cards, below.
    shown(coordinator, &deploy).map(drop)
}

/// Powers the boards off and looks at what is on their cards; counts those that are deployed.
fn look(rack: &Rack, coordinator: &Coordinator, names: &[String]) -> anyhow::Result<usize> {
    use piseduce_coordinator::api::NodeView;
    use piseduce_protocol::state::State;
    let mut well = 0;
    for (index, name) in names.iter().enumerate() {
        let node: NodeView = coordinator.get(USER, &format!("nodes/{name}"))?;
        let state = node.deployment.map(|deployment| deployment.state);
        rack.crash(index);
        match rack.with_card(index, |card| card.look(describe)) {
            Ok(text) => {
                print::line(format!("{name}: {text}"));
                well += usize::from(state == Some(State::Deployed));
            }
            Err(error) => print::line(format!("{name}: its card cannot be read: {error:#}")),
        }
    }
    Ok(well)
}

fn describe(root: &Path) -> anyhow::Result<String> {
    let read = |path: &str| fs::read_to_string(root.join(path)).map(|text| text.trim().to_owned());
    let space = rustix::fs::statvfs(root)?;
    let megabytes = space.f_blocks * space.f_frsize / 1_000_000;
    let home = ["home/pi", "home/ubuntu"].into_iter().find(|home| root.join(home).join(".ssh").is_dir());
    let key = read(&format!("{}/.ssh/authorized_keys", home.unwrap_or("root")))?;
    let hello = read("root/hello").unwrap_or_else(|_| "nothing".into());
    Ok(format!("host name {}, root {megabytes} MB, key {key}, script said: {hello}", read("etc/hostname")?))
}

/// Brings the nodes back up and says how to reach them.
fn keep(coordinator: &Coordinator, names: &[String]) -> anyhow::Result<()> {
    let reboot: Vec<&str> =
        ["reboot"].into_iter().chain(names.iter().map(String::as_str)).chain(["--wait"]).collect();
    shown(coordinator, &reboot)?;
    print::line(format!(
        "the coordinator runs until Ctrl-C; in another terminal:\n  export PISEDUCE_URL=http://{}",
        coordinator.people
    ));
    print::line(format!("  export PISEDUCE_TOKEN_FILE={}", coordinator.token_file(USER).display()));
    print::line(format!("  {} node list", piseduce_tests::process::program("piseduce").display()));
    print::line(format!(
        "  mosquitto_sub -h {} -p {} -u {USER} -P \"$(cat $PISEDUCE_TOKEN_FILE)\" -t 'piseduce/main/status/#'",
        coordinator.broker.ip(),
        coordinator.broker.port()
    ));
    Ok(())
}

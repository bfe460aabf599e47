//! `make demo`: a real Debian image deployed to four bench nodes, state by state, and a look at each card.
//!
//! `IMAGE=path` deploys another image, `KEY=path` another public key, `NODES=n` to another number of
//! nodes; `KEEP=1` leaves everything running until Ctrl-C and says how to reach it.

use anyhow::Context as _;
use piseduce_coordinator::print;
use piseduce_tests::bench_boot_root;
use piseduce_tests::board::BootSource;
use piseduce_tests::coordinator::{Coordinator, Place};
use piseduce_tests::lab::SSH_KEY;
use piseduce_tests::process::need_root;
use piseduce_tests::rack::{Rack, macs};
use piseduce_tests::rack_network::RackNetwork;
use piseduce_tests::relay::Relay;
use piseduce_tests::show::{Show, wants_to_keep};
use piseduce_tests::switch::SimulatedSwitch;
use piseduce_tests::{cards, images};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const PREFIX: &str = "piseduce-demo-";
const USER: &str = "you";
const CARD_BYTES: u64 = 4 << 30;

const SCRIPT: &str = "#!/bin/sh\n\
    # Runs once on each deployed node.\n\
    echo \"hello from $(cat /etc/hostname)\" | tee /root/hello\n";

fn main() -> ExitCode {
    let show = Show::begin(PREFIX, USER);
    let result = demo(&show);
    let code = match &result {
        Ok((well, count)) => {
            print::line(format!("demo: {well} of {count} nodes deployed"));
            if wants_to_keep() {
                show.wait_for_stop();
            }
            if well == count { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            print::error(format!("{error:#}"), "");
            ExitCode::FAILURE
        }
    };
    drop(RUNNING.lock().expect("nobody panics while holding it").take());
    show.end();
    code
}

/// What keeps the rack powered until the program ends.
static RUNNING: std::sync::Mutex<Option<(SimulatedSwitch, Rack, Coordinator, Doors)>> =
    std::sync::Mutex::new(None);

/// Where people reach the head from this machine's own network.
struct Doors {
    people: Relay,
    broker: Relay,
}

fn demo(show: &Show) -> anyhow::Result<(usize, usize)> {
    need_root()?;
    let cleaned = cards::clean_up(&std::env::temp_dir().join(PREFIX))?;
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
    let directory = show.directory()?;
    let (network, place) = (RackNetwork::new(&macs(count))?, Place::of_head());
    // What is made from here on is on the rack's own network; whoever looks is not.
    let doors = Doors {
        people: Relay::into(&network.head, place.people)?,
        broker: Relay::into(&network.head, place.broker)?,
    };
    network.head.enter();
    let rack = Rack::new(&directory.join("rack"), &network, CARD_BYTES)?;
    let mut coordinator =
        Coordinator::prepare_at(&place, &directory.join("head"), "boot_spacing_ms = 200\n")?;
    bench_boot_root::add_bench(&coordinator.data())?;
    coordinator.resume()?;
    rack.connect(&BootSource::Head);
    let switch = rack.poe_switch()?;
    let names: Vec<String> = rack.nodes.iter().map(|node| node.name.clone()).collect();
    *RUNNING.lock().expect("nobody panics while holding it") = Some((switch, rack, coordinator, doors));
    let running = RUNNING.lock().expect("nobody panics while holding it");
    let (switch, rack, coordinator, doors) = running.as_ref().context("just put there")?;
    prepare(show, coordinator, switch, rack, &directory, &image)?;
    deploy(show, coordinator, &directory, &names)?;
    show.run(coordinator, &["switch", "show", "bench"])?;
    let well = look(rack, coordinator, &names)?;
    if wants_to_keep() {
        keep(show, coordinator, doors, &names)?;
    }
    Ok((well, count))
}

fn prepare(
    show: &Show,
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
    anyhow::ensure!(show.run(coordinator, &["node", "import", &inventory.to_string_lossy()])?, "no nodes");
    let image = image.to_string_lossy();
    // Bench nodes run what this machine runs.
    let add = ["environment", "add", "demo", &image, "--any-architecture", "--config", &settings];
    let added = show.run(coordinator, &add)?;
    anyhow::ensure!(added, "no environment");
    Ok(())
}

fn deploy(show: &Show, coordinator: &Coordinator, directory: &Path, names: &[String]) -> anyhow::Result<()> {
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
    anyhow::ensure!(show.run(coordinator, &reserve)?, "the nodes cannot be held");
    let form = ["--environment", "demo", "--ssh-key", &key, "--script", &script, "--wait"];
    let deploy: Vec<&str> = ["deploy"].into_iter().chain(names).chain(form).collect();
    // How it ended is told by the cards, below.
    show.run(coordinator, &deploy).map(drop)
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
fn keep(show: &Show, coordinator: &Coordinator, doors: &Doors, names: &[String]) -> anyhow::Result<()> {
    let reboot: Vec<&str> =
        ["reboot"].into_iter().chain(names.iter().map(String::as_str)).chain(["--wait"]).collect();
    show.run(coordinator, &reboot)?;
    print::line(format!(
        "the coordinator runs until Ctrl-C; in another terminal:\n  export PISEDUCE_URL=http://{}",
        doors.people.address()
    ));
    print::line(format!("  export PISEDUCE_TOKEN_FILE={}", coordinator.token_file(USER).display()));
    print::line(format!("  {} node list", piseduce_tests::process::program("piseduce").display()));
    print::line(format!(
        "  mosquitto_sub -h {} -p {} -u {USER} -P \"$(cat $PISEDUCE_TOKEN_FILE)\" -t 'piseduce/main/status/#'",
        doors.broker.address().ip(),
        doors.broker.address().port()
    ));
    Ok(())
}

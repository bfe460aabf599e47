//! Power cuts and killed programs at any moment: whatever was registered, it goes on from there.

use piseduce_protocol::state::State;
use piseduce_tests::cards::Card;
use piseduce_tests::lab::{Lab, USER};
use piseduce_tests::monitor::Monitor;
use piseduce_tests::wait::{pause, seconds, wait_for};
use std::collections::BTreeSet;

/// Every state of the normal course behind the open form.
fn active_states() -> impl Iterator<Item = State> {
    State::ALL.iter().copied().filter(|state| (State::NfsBootConf..State::Deployed).contains(state))
}

/// A pause of up to `limit` milliseconds that follows from `seed` alone (SplitMix64).
fn seeded_pause(seed: u64, limit: u64) {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let until = seconds() + ((z ^ (z >> 31)) % limit) as f64 / 1000.0;
    while seconds() < until {
        pause();
    }
}

#[test]
fn a_board_that_is_cut_off_at_any_moment_goes_on_from_its_registered_state() {
    let lab = Lab::new(1);
    lab.deploy(&[]);
    let id = lab.wait_for(0, State::Deployed, 60.0).id;
    let monitor = Monitor::connect(&lab.coordinator);
    let mut hit = BTreeSet::new();
    // Some states last milliseconds: each is aimed at three times, and again until it was hit.
    for round in 0..12 {
        for state in State::AGENTS {
            if round >= 3 && hit.contains(&state) {
                continue;
            }
            lab.deploy_again_on_blank_card(0);
            monitor.wait_for(lab.run_of(0), state, 30.0);
            let seed = round * 100 + state as u64;
            seeded_pause(seed, if round == 0 || round >= 3 { 1 } else { 120 });
            // A dead board, whose kernel's memory still reaches the card, and a power cut, where it is lost.
            if round % 2 == 0 {
                lab.rack.cut_power(0)
            } else {
                lab.rack.crash(0)
            }
            let registered = lab.history(id).deployment.registered;
            hit.insert(registered);
            let bootable = lab.rack.with_card(0, Card::is_bootable).unwrap();
            let committed = registered >= State::UserConf;
            assert!(
                !bootable || committed,
                "seed {seed}: a card cut off in {registered} would boot half-made"
            );
            if registered >= State::EnvBoot {
                // So late a cut may interrupt the user's script, which is not repeated: another story.
                continue;
            }
            lab.coordinator.cli(USER, &["reboot", "pi-1"]).unwrap();
            lab.wait_for(0, State::Deployed, 60.0);
            check_system(&lab, seed);
        }
    }
    let missed: Vec<&State> = State::AGENTS.iter().filter(|state| !hit.contains(state)).collect();
    assert!(missed.is_empty(), "never cut off in {missed:?}");
}

/// The deployed card is what the user asked for, whatever happened on the way.
fn check_system(lab: &Lab, seed: u64) {
    lab.rack.crash(0);
    let looked = lab.rack.with_card(0, |card| {
        let device = card.device().to_string_lossy().into_owned();
        card.look(|root| Ok(std::fs::read_to_string(root.join("etc/hostname"))?)).and_then(|name| {
            // The file system is checked as a kernel would see it after the cut: journal replayed.
            let checked = piseduce_tests::process::run("e2fsck", &["-f", "-p", &format!("{device}p2")]);
            checked.map(|_| name)
        })
    });
    let name = looked.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    assert_eq!(name.trim(), "pi-1", "seed {seed}");
}

#[test]
fn a_coordinator_that_is_killed_in_any_state_takes_every_deployment_up_again() {
    let mut lab = Lab::new(1);
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 60.0);
    for state in active_states() {
        let monitor = Monitor::connect(&lab.coordinator);
        lab.coordinator.cli(USER, &["deploy-again", "pi-1"]).unwrap();
        monitor.wait_for(lab.run_of(0), state, 30.0);
        lab.coordinator.kill();
        lab.coordinator.resume().unwrap();
        let status = lab.wait_for(0, State::Deployed, 90.0);
        let history = lab.history(status.id);
        assert_eq!(
            history.deployment.restarts, 0,
            "killed in {state}: a restart of ours costs the node nothing"
        );
    }
}

#[test]
fn an_agent_that_dies_and_starts_again_in_the_same_boot_goes_on() {
    let lab = Lab::new(1);
    lab.deploy(&[]);
    let id = lab.wait_for(0, State::Deployed, 60.0).id;
    let monitor = Monitor::connect(&lab.coordinator);
    for state in [State::EnvCopy, State::WaitResizing, State::UserConf] {
        // Some of these last milliseconds: each is tried until its agent died in it.
        let died_in_it = (0..20).any(|_| {
            lab.deploy_again_on_blank_card(0);
            let before = trace(&lab);
            monitor.wait_for(lab.run_of(0), state, 30.0);
            kill_agent(&lab);
            let died_in_it = lab.history(id).deployment.registered == state;
            lab.wait_for(0, State::Deployed, 60.0);
            assert_eq!(lab.history(id).deployment.restarts, 0, "a dead agent costs the node nothing");
            let trace = &trace(&lab)[before.len()..];
            assert_eq!(
                trace.matches("boots the boot root with credentials").count(),
                1,
                "one boot only:\n{trace}"
            );
            died_in_it && trace.matches("agent started").count() == 2
        });
        assert!(died_in_it, "the agent never died in {state}");
        check_system(&lab, state as u64);
    }
}

/// What happened to the board so far.
fn trace(lab: &Lab) -> String {
    std::fs::read_to_string(lab.rack.place(0).join("trace.log")).unwrap()
}

/// Kills the agent process of the board, and nothing else of it.
fn kill_agent(lab: &Lab) {
    let program = piseduce_tests::process::program("piseduce-agent");
    let card = lab.rack.with_card(0, |card| card.device().to_string_lossy().into_owned());
    let is_it = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        words.first() == Some(&program.as_os_str().as_encoded_bytes()) && words.contains(&card.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.unwrap().file_name().to_string_lossy().parse::<u32>().ok());
    for pid in pids.filter(is_it) {
        // It may have ended by itself in this moment.
        let _ = piseduce_tests::process::run("kill", &["-KILL", &pid.to_string()]);
    }
}

#[test]
fn everything_ends_cleanly_when_it_is_asked_to() {
    let mut lab = Lab::new(1);
    let monitor = Monitor::connect(&lab.coordinator);
    lab.deploy(&[]);
    monitor.wait_for(lab.run_of(0), State::EnvCopy, 30.0);
    let status = lab.coordinator.terminate();
    assert!(status.success(), "the coordinator ended with {status}");
    lab.coordinator.resume().unwrap();

    // A follower is interrupted; the deployment is not.
    let mut watch = lab.coordinator.cli_command(USER, &["deployment", "watch", "pi-1"]).spawn().unwrap();
    piseduce_tests::process::run("kill", &["-TERM", &watch.id().to_string()]).unwrap();
    let ended = wait_for("the follower to end", 5.0, || watch.try_wait().unwrap(), Option::is_some);
    assert!(!ended.unwrap().success());
    lab.wait_for(0, State::Deployed, 60.0);
}

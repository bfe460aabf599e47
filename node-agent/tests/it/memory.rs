//! The agent's memory: whatever the size of an image, it stays within 64 MiB.

use crate::binary::agent;
use crate::card::LoopCard;
use crate::image::Image;
use crate::rig::Rig;
use crate::site::{self, Site};
use crate::wait;
use piseduce_protocol::report::Outcome;
use piseduce_protocol::state::State;
use std::fs;
use std::process::{Child, Stdio};

/// What README and ARCHITECTURE promise, in KiB.
const RESIDENT_KIB_MAX: u64 = 64 * 1024;

const IMAGE_BYTES: u64 = 1 << 30;

/// The most memory that the process ever had, in KiB.
fn peak_kib(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn copying_and_checking_a_gibibyte_takes_no_more_than_64_mebibytes() {
    let mut site = Site::new();
    site.end_agent(true);
    let image = Image::of_noise(IMAGE_BYTES);
    site.rig = Rig::with(&image, LoopCard::new(IMAGE_BYTES));
    let tree = site::identity_tree(&site::parameters(site.broker.port, &site.rig.head.address));
    site.forget();
    let mut command = agent(tree.path());
    command.arg("--card").arg(&site.rig.card.path).args(["--beat-seconds", "1", "--lock-memory"]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    site.until("a hello of the program", |heard| heard.hellos() == 1);
    for (seq, state) in [(1, State::EnvCopy), (2, State::EnvCheck)] {
        site.perform(seq, state);
        let outcome = wait::until_patiently(&format!("the end of {state}"), || {
            site.look(|heard| heard.ends_of(seq).first().map(|end| (*end).clone()).ok_or(heard.beats.len()))
        });
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    }
    let peak = peak_kib(&child);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!((1000..=RESIDENT_KIB_MAX).contains(&peak), "{peak} KiB");
    let beats = site.look(|heard| heard.beats.iter().map(|beat| beat.resident_kib).max());
    assert!(beats.is_some_and(|most| (1000..=RESIDENT_KIB_MAX).contains(&most.into())), "{beats:?} KiB");
}

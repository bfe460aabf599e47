//! Power cuts inside the grow: a repeated `wait_resizing` mends what they left.
//!
//! The agent works in a process namespace of its own, so that one kill ends it and its tools at once, as
//! a power cut would.

use crate::card::LoopCard;
use crate::deploy::assert_deployed;
use crate::image::{self, ROOT_BYTES, ROOT_START};
use crate::program;
use crate::rig::{CARD_BYTES, Rig};
use crate::wait;
use piseduce_protocol::state::State;
use std::sync::Mutex;
use std::time::Duration;

/// Set in the child: the card and the head that it is to work with.
const CHILD_CARD: &str = "PISEDUCE_TEST_CARD";
const CHILD_HEAD: &str = "PISEDUCE_TEST_HEAD";

/// Not a test of its own: the agent's work in the child of the test below.
#[test]
fn child_performs_wait_resizing() {
    let (Ok(card), Ok(head)) = (std::env::var(CHILD_CARD), std::env::var(CHILD_HEAD)) else { return };
    let mut rig = Rig::over(image::get(), (), card.into());
    rig.node.head = head;
    loop {
        rig.perform_all(&mut None, &[State::WaitResizing]);
    }
}

#[test]
fn the_grow_is_planned_with_both_sizes_and_shows_progress_with_an_end() {
    let rig = Rig::with(image::get(), LoopCard::new(CARD_BYTES));
    let mut session = None;
    rig.perform_all(&mut session, &State::AGENTS[..5]);
    let plan = rig.perform(&mut session, State::ResizePartition).unwrap();
    let grown = CARD_BYTES - ROOT_START;
    assert_eq!(plan, format!("the root file system has {ROOT_BYTES} bytes and grows into {grown}"));
    let seen = Mutex::new(Vec::new());
    let watch = |done, total| seen.lock().unwrap().push((done, total));
    let done = rig.perform_watched(&mut session, State::WaitResizing, &watch).unwrap();
    assert_eq!(done, format!("the root file system grew from {ROOT_BYTES} to {grown} bytes"));
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().any(|(_, total)| *total > 0), "{seen:?}");
    assert!(seen.is_sorted_by_key(|(done, _)| *done), "{seen:?}");
}

#[test]
fn a_grow_that_was_killed_anywhere_is_mended_by_the_next_one() {
    for milliseconds in [5, 25, 60] {
        let mut rig = Rig::with(image::get(), LoopCard::new(CARD_BYTES));
        rig.perform_all(&mut None, &State::AGENTS[..4]);
        let before = rig.head.requests().len();
        let mut child = program::command("unshare")
            .args(["--pid", "--mount", "--fork", "--kill-child=KILL"])
            .arg(std::env::current_exe().unwrap())
            .args(["resize::child_performs_wait_resizing", "--exact", "--nocapture"])
            .env(CHILD_CARD, &rig.card.path)
            .env(CHILD_HEAD, &rig.head.address)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait::until("the child's first request", || match rig.head.requests().len() {
            count if count > before => Ok(()),
            count => Err(count),
        });
        wait::pause(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        rig.work.attempt = 2;
        rig.perform_all(&mut None, &State::AGENTS[6..]);
        assert_deployed(&rig.card, CARD_BYTES - ROOT_START);
    }
}

#[test]
fn a_grow_of_which_only_some_blocks_reached_the_card_is_mended_or_named() {
    const BLOCK: usize = 4096;
    let mut rig = Rig::with(image::get(), LoopCard::new(CARD_BYTES));
    rig.perform_all(&mut None, &State::AGENTS[..6]);
    let bytes = usize::try_from(CARD_BYTES).unwrap();
    let before = rig.card.read(0, bytes);
    rig.perform_all(&mut None, &[State::WaitResizing]);
    let after = rig.card.read(0, bytes);
    let changed: Vec<usize> =
        (0..bytes).step_by(BLOCK).filter(|at| before[*at..at + BLOCK] != after[*at..at + BLOCK]).collect();
    assert!(changed.len() > 4, "{changed:?}");
    let mut mended = 0;
    for seed in 0..10 {
        rig.card.forget_partitions();
        rig.card.write(0, &before);
        let count = changed.len();
        for at in
            changed.iter().enumerate().filter(|(place, _)| survives(seed, *place, count)).map(|(_, at)| at)
        {
            rig.card.write(*at as u64, &after[*at..at + BLOCK]);
        }
        rig.work.attempt = 2;
        let rest = match rig.perform(&mut None, State::WaitResizing) {
            Ok(_) => {
                mended += 1;
                &State::AGENTS[7..]
            }
            // What the coordinator does then: everything again, once, from the restart budget.
            Err(cause) => {
                assert!(cause.starts_with("filesystem_broken"), "seed {seed}: {cause}");
                &State::AGENTS[..]
            }
        };
        rig.perform_all(&mut None, rest);
        assert_deployed(&rig.card, CARD_BYTES - ROOT_START);
    }
    assert!(mended > 0, "no cut could be mended");
}

/// Whether the block at `place` of `count` changed ones reached the card before the cut: for seeds 0 to 3 in
/// patterns, for others a quarter, half or three quarters of them by chance that follows from the seed.
fn survives(seed: usize, place: usize, count: usize) -> bool {
    match seed {
        0 => place < count / 2,
        1 => place >= count / 2,
        2 => place.is_multiple_of(2),
        3 => place == 0,
        _ => {
            let chance = blake3::hash(format!("{seed} {place}").as_bytes()).as_bytes()[0];
            usize::from(chance) < 64 * (1 + seed % 3)
        }
    }
}

#[test]
fn what_e2fsck_will_not_repair_unasked_is_refused_first_and_repaired_after_a_cut() {
    let mut rig = Rig::with(image::get(), LoopCard::new(CARD_BYTES));
    rig.perform_all(&mut None, &State::AGENTS[..4]);
    let file = format!("{}?offset={ROOT_START}", rig.card.file().display());
    program::run("debugfs", &["-w", "-R", "clri /boot/firmware", &file]);
    let cause = rig.perform(&mut None, State::MountPartition).unwrap_err();
    assert!(cause.starts_with("filesystem_broken: rootfs: "), "{cause}");
    rig.work.attempt = 2;
    rig.perform_all(&mut None, &State::AGENTS[4..]);
    assert_deployed(&rig.card, CARD_BYTES - ROOT_START);
}

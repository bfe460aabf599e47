//! Cards that fail, shrink or are taken out while the agent works on them: always a named cause.

use crate::card::LoopCard;
use crate::image;
use crate::program;
use crate::rig::{CARD_BYTES, Rig};
use piseduce_agent::cancel::Cancel;
use piseduce_agent::card::device::{Device, Sharing};
use piseduce_agent::card::mount::{Mounted, Scratch, Writing};
use piseduce_agent::card::{CardError, partition};
use piseduce_protocol::state::State;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

/// A rig whose card loses everything behind `left` bytes when half of the copy is done; what the copy says.
fn copy_to_a_card_that_shrinks_to(left: u64, tell_the_kernel: bool) -> String {
    let rig = Rig::with(image::get(), LoopCard::new(CARD_BYTES));
    let half = image::get().manifest.defined_bytes() / 2;
    let shrunk = AtomicBool::new(false);
    let watch = |done, _| {
        if done >= half && !shrunk.swap(true, Ordering::SeqCst) {
            File::options().write(true).open(rig.card.file()).unwrap().set_len(left).unwrap();
            if tell_the_kernel {
                program::run("losetup", &["--set-capacity".as_ref(), rig.card.path.as_os_str()]);
            }
        }
    };
    let mut session = None;
    let cause = match rig.perform_watched(&mut session, State::EnvCopy, &watch) {
        // A sparse file that is written behind its end grows again: then the check finds what is missing.
        Ok(_) => rig.perform(&mut session, State::EnvCheck).unwrap_err(),
        Err(cause) => cause,
    };
    assert!(!rig.card.boots());
    cause
}

/// Not how long it is now: a write that is under way lets the file below it grow again.
fn is_another(cause: &str) -> bool {
    let named = cause.strip_prefix("card_missing: /dev/loop").and_then(|rest| rest.split_once(' '));
    let left = named.and_then(|(_, why)| {
        why.strip_prefix("was taken out or exchanged: it had 268435456 bytes and has ")?.parse().ok()
    });
    left.is_some_and(|left: u64| left < 256 << 20)
}

#[test]
fn a_card_that_is_taken_out_is_missing() {
    let cause = copy_to_a_card_that_shrinks_to(0, true);
    assert!(is_another(&cause), "{cause}");
}

#[test]
fn a_card_that_became_shorter_is_not_the_card_that_was_opened() {
    let cause = copy_to_a_card_that_shrinks_to(16 << 20, true);
    assert!(is_another(&cause), "{cause}");
}

#[test]
fn a_card_that_loses_what_was_written_is_found_by_the_check() {
    let cause = copy_to_a_card_that_shrinks_to(0, false);
    let is_named = cause.starts_with("hash_mismatch: chunk 0, bytes 0 to 1048576 of /dev/loop")
        || cause.starts_with("card_error: failed to ");
    assert!(is_named, "{cause}");
}

#[test]
fn a_file_system_that_somebody_else_has_mounted_is_busy_and_not_broken() {
    let rig = Rig::with(image::get(), LoopCard::new(CARD_BYTES));
    rig.perform_all(&mut None, &[State::EnvCopy, State::CreatePartition]);
    let card = Device::open(&rig.card.path, Sharing::Shared).unwrap();
    let (one, other) = (Scratch::new().unwrap(), Scratch::new().unwrap());
    let root = partition::node(&card, 2, &one).unwrap();
    let mounted = Mounted::new(&root, Writing::No, &one).unwrap();
    let busy = Mounted::new(&root, Writing::Yes, &other);
    assert!(matches!(busy, Err(CardError::Busy(_))), "{busy:?}");
    mounted.unmount(&Cancel::new()).unwrap();
    Mounted::new(&root, Writing::Yes, &other).unwrap().unmount(&Cancel::new()).unwrap();
}

#[test]
fn a_card_that_is_taken_out_between_two_states_is_missing_in_each() {
    for state in State::AGENTS.into_iter().skip(1) {
        let rig = Rig::with(image::get(), LoopCard::new(CARD_BYTES));
        let mut session = None;
        rig.perform_all(&mut session, &[State::EnvCopy]);
        File::options().write(true).open(rig.card.file()).unwrap().set_len(0).unwrap();
        program::run("losetup", &["--set-capacity".as_ref(), rig.card.path.as_os_str()]);
        let cause = rig.perform(&mut session, state).unwrap_err();
        assert!(cause.starts_with("card_missing: "), "{state}: {cause}");
    }
}

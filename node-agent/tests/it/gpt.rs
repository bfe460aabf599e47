//! Images with a GPT: its backup finds the end of the card, and both headers come with the commit only.

use crate::card::LoopCard;
use crate::deploy::{assert_deployed, assert_image_deployed};
use crate::image::{self, IMAGE_BYTES, Image, Label, MIB, ROOT_BYTES, ROOT_START};
use crate::program;
use crate::rig::{CARD_BYTES, Rig};
use piseduce_protocol::state::State;
use piseduce_protocol::table::{GPT_SIGNATURE, SECTOR_BYTES};

/// Asserts that sgdisk finds nothing wrong, backup included.
fn assert_sound(card: &LoopCard) {
    let verified = program::run("sgdisk", &["--verify".as_ref(), card.file().as_os_str()]);
    assert!(verified.contains("No problems found."), "{verified}");
}

#[test]
fn a_used_card_of_any_size_becomes_the_environment_and_has_no_gpt_before() {
    for (card_bytes, root_bytes) in [
        (IMAGE_BYTES, ROOT_BYTES),
        (IMAGE_BYTES + SECTOR_BYTES, ROOT_BYTES),
        (CARD_BYTES, CARD_BYTES - ROOT_START - MIB),
    ] {
        let rig = Rig::with(image::with_gpt(), LoopCard::dirty(card_bytes, IMAGE_BYTES));
        // An earlier environment had a GPT too.
        for at in [SECTOR_BYTES, card_bytes - SECTOR_BYTES] {
            rig.card.write(at, GPT_SIGNATURE);
        }
        rig.card.write(510, &[0x55, 0xaa]);
        let mut session = None;
        for state in State::AGENTS {
            let done = rig.perform(&mut session, state).unwrap_or_else(|cause| panic!("{state}: {cause}"));
            assert_eq!(rig.card.boots(), state == State::UserConf, "after {state}: {done}");
        }
        assert_sound(&rig.card);
        assert_image_deployed(image::with_gpt(), &rig.card, root_bytes);
    }
}

#[test]
fn every_step_on_a_gpt_works_as_the_first_of_a_fresh_agent_and_may_be_repeated() {
    let mut rig = Rig::with(image::with_gpt(), LoopCard::dirty(CARD_BYTES, IMAGE_BYTES));
    rig.work.part_size = "150M".parse().unwrap();
    for state in State::AGENTS {
        for attempt in [1, 2] {
            rig.work.attempt = attempt;
            rig.work.recopy_boot = attempt > 1;
            rig.perform_all(&mut None, &[state]);
            rig.card.forget_partitions();
        }
    }
    assert_sound(&rig.card);
    assert_image_deployed(image::with_gpt(), &rig.card, 150 * MIB);
}

#[test]
fn an_opaque_environment_keeps_its_partitions_and_gets_its_backup_moved() {
    let opaque = Image::cut(Label::Gpt, image::with_gpt().bytes.clone(), "opaque");
    let rig = Rig::with(&opaque, LoopCard::dirty(CARD_BYTES, IMAGE_BYTES));
    rig.perform_all(&mut None, &State::AGENTS);
    assert_sound(&rig.card);
    let root = rig.card.table().entry(2).unwrap();
    assert_eq!((root.start * SECTOR_BYTES, root.sectors * SECTOR_BYTES), (ROOT_START, ROOT_BYTES));
    let entries = 2 * SECTOR_BYTES as usize..34 * SECTOR_BYTES as usize;
    assert_eq!(rig.card.read(2 * SECTOR_BYTES, entries.len()), opaque.bytes[entries]);
}

#[test]
fn what_only_looks_like_a_header_in_an_image_without_a_gpt_comes_back_with_the_commit() {
    let mut bytes = image::get().bytes.clone();
    let last = bytes.len() - SECTOR_BYTES as usize;
    for at in [SECTOR_BYTES as usize, last] {
        bytes[at..at + GPT_SIGNATURE.len()].copy_from_slice(GPT_SIGNATURE);
    }
    // The label only says whether the end of the image is defined; here it must be.
    let stray = Image::cut(Label::Gpt, bytes, "opaque");
    let rig = Rig::with(&stray, LoopCard::dirty(IMAGE_BYTES, IMAGE_BYTES));
    let mut session = None;
    rig.perform_all(&mut session, &State::AGENTS[..8]);
    assert!(!rig.card.boots());
    rig.perform_all(&mut session, &[State::UserConf]);
    for range in [0..1024, last..last + 512] {
        assert_eq!(rig.card.read(range.start as u64, range.len()), stray.bytes[range]);
    }
}

#[test]
fn one_kind_of_table_replaces_the_other_and_nothing_of_it_is_left() {
    let mut card = LoopCard::new(CARD_BYTES);
    for label in [Label::Gpt, Label::Mbr, Label::Gpt] {
        let image = if label == Label::Gpt { image::with_gpt() } else { image::get() };
        let rig = Rig::with(image, card);
        rig.perform_all(&mut None, &State::AGENTS);
        card = rig.card;
        match label {
            Label::Gpt => assert_sound(&card),
            Label::Mbr => {
                assert_deployed(&card, CARD_BYTES - ROOT_START);
                let last = CARD_BYTES - SECTOR_BYTES;
                let headers = [SECTOR_BYTES, last].map(|at| card.read(at, 8) == GPT_SIGNATURE);
                assert_eq!(headers, [false, false]);
            }
        }
    }
}

#[test]
fn a_byte_of_the_table_that_changes_on_the_card_is_found_by_the_check() {
    let rig = Rig::with(image::with_gpt(), LoopCard::new(IMAGE_BYTES));
    let mut session = None;
    rig.perform_all(&mut session, &[State::EnvCopy, State::EnvCheck]);
    // The entries, and their backup; the headers themselves are not there yet.
    for at in [2 * SECTOR_BYTES, IMAGE_BYTES - 33 * SECTOR_BYTES] {
        let old = rig.card.read(at, 1)[0];
        rig.card.write(at, &[old ^ 1]);
        let cause = rig.perform(&mut session, State::EnvCheck).unwrap_err();
        assert!(cause.starts_with(&format!("hash_mismatch: chunk {}, ", at / MIB)), "{cause}");
        rig.card.write(at, &[old]);
    }
    rig.perform_all(&mut session, &[State::EnvCheck]);
}

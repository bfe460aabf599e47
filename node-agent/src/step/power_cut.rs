//! Whatever a power cut leaves of a deployment on the card, it boots only when everything was done.
//!
//! The sequence of writes from `env_copy` to the commit runs on a card of memory, and power is cut after
//! every single one; of what was not flushed nothing, everything or anything may have survived.

use crate::cancel::Cancel;
use crate::card::memory::MemoryCard;
use crate::card::window::Window;
use crate::card::{Card as _, fat, sector};
use crate::image::chunk::ChunkSet;
use crate::image::sample::{CHUNK, Sample, noise};
use crate::image::{Scene, check, copy, plan};
use crate::os::cmdline;
use crate::step::cause::StepError;
use piseduce_protocol::manifest::ChunkKind;
use std::io::{self, Write as _};

const FAT_START: usize = CHUNK;
const FAT_BYTES: usize = 2 * CHUNK;
const CARD_BYTES: usize = 6 * CHUNK;

/// An image whose chunks 1 and 2 are a FAT with a command line.
fn image() -> Sample {
    let card = MemoryCard::new(CARD_BYTES);
    let mut window = Window::new(&card, FAT_START as u64, FAT_BYTES as u64);
    let sectors = u32::try_from(FAT_BYTES / 512).unwrap();
    let options = fatfs::FormatVolumeOptions::new().total_sectors(sectors);
    fatfs::format_volume(&mut window, options).unwrap();
    window.flush().unwrap();
    fat::edit(&card, FAT_START as u64, FAT_BYTES as u64, |fat| fat.write("cmdline.txt", b"quiet resize\n"))
        .unwrap();
    let bytes = card.durable();
    let chunk = |index: usize| bytes[index * CHUNK..(index + 1) * CHUNK].to_vec();
    Sample::of(vec![
        (ChunkKind::Data, noise(0, CHUNK), None),
        (ChunkKind::Data, chunk(1), None),
        (ChunkKind::Data, chunk(2), None),
        (ChunkKind::Zero, vec![0; CHUNK], None),
    ])
}

/// A card with an earlier deployment that boots.
fn used_card() -> MemoryCard {
    let card = MemoryCard::new(CARD_BYTES);
    card.fill(0x77);
    card.put(510, &[0x55, 0xaa]);
    card.put(512, b"EFI PART");
    card
}

/// Everything that a deployment writes, in its order.
fn deploy(card: &MemoryCard, image: &Sample) -> Result<(), StepError> {
    let scene = Scene {
        card,
        manifest: &image.manifest,
        sector0: &image.sector0,
        cancel: &Cancel::new(),
        advance: &|_, _| {},
    };
    sector::invalidate(card)?;
    copy::copy(scene, image, &ChunkSet::new(4))?;
    check::check(scene, &plan::defined(&image.manifest))?;
    let boot = FAT_START as u64..(FAT_START + FAT_BYTES) as u64;
    copy::copy_range(scene, image, &boot)?;
    fat::edit(card, boot.start, boot.end - boot.start, |fat| {
        let old = fat.read("cmdline.txt")?.unwrap_or_default();
        fat.write("cmdline.txt", cmdline::disarmed(&String::from_utf8_lossy(&old)).as_bytes())
    })?;
    card.flush()?;
    assert!(sector::commit(card, &image.sector0)?, "the card holds what was written");
    Ok(())
}

fn boots(card: &[u8]) -> bool {
    card[510..512] == [0x55, 0xaa] || &card[512..520] == b"EFI PART"
}

/// Whether everything that a deployment does is on the card.
fn is_complete(card: &[u8], image: &Sample) -> bool {
    let copy = MemoryCard::new(CARD_BYTES);
    copy.put(0, card);
    let line = fat::edit(&copy, FAT_START as u64, FAT_BYTES as u64, |fat| fat.read("cmdline.txt"));
    card[..CHUNK] == image.chunks[&image.manifest.chunks[0].hash]
        && card[3 * CHUNK..4 * CHUNK].iter().all(|byte| *byte == 0)
        && line.is_ok_and(|line| line.as_deref() == Some(b"quiet\n"))
}

#[test]
fn a_power_cut_after_any_write_leaves_a_card_that_boots_only_when_all_is_done() {
    let image = image();
    let whole = used_card();
    deploy(&whole, &image).unwrap();
    assert!(boots(&whole.durable()) && is_complete(&whole.durable(), &image));
    for writes in 1..whole.writes() {
        let card = used_card();
        card.cut_after(writes);
        assert!(deploy(&card, &image).is_err(), "power was cut after {writes} writes");
        let survivors: [&dyn Fn(usize) -> bool; 4] =
            [&|_| false, &|_| true, &|index| index % 2 == 0, &|index| index % 2 == 1];
        for (number, survives) in survivors.iter().enumerate() {
            let left = card.after_cut(survives);
            // The very first write makes the card unbootable; until it is flushed the old system may be whole.
            let untouched = left[1024..] == used_card().durable()[1024..];
            assert!(
                !boots(&left) || untouched || is_complete(&left, &image),
                "after {writes} writes, of which those of pattern {number} survived"
            );
        }
    }
}

#[test]
fn any_failing_request_is_told_as_the_cards_and_a_repetition_mends_it() {
    let image = image();
    let probe = used_card();
    deploy(&probe, &image).unwrap();
    for number in 0..probe.requests() {
        let card = used_card();
        card.fail(number, io::ErrorKind::Other);
        match deploy(&card, &image) {
            Err(StepError::Failed(cause)) => {
                assert_eq!(cause.name.as_str(), "card_error", "request {number}")
            }
            // Workers compare more or less depending on who is faster; the last requests may not come.
            Ok(()) => assert!(number + 8 > card.requests(), "request {number} failed unnoticed"),
            Err(StepError::Cancelled) => panic!("nothing was stopped"),
        }
        deploy(&card, &image).unwrap();
        assert!(is_complete(&card.durable(), &image), "after request {number} had failed");
    }
}

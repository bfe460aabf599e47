//! Whatever a power cut or a failing card leaves of a deployment, it boots only when everything was done.
//!
//! The sequence of requests from `env_copy` to the commit runs on cards of memory, with an MBR and with a
//! GPT: power is cut after every single write, and every single request fails or is the first that finds
//! the card gone. Of what was not flushed nothing, everything or anything may have survived.

use crate::cancel::Cancel;
use crate::card::memory::MemoryCard;
use crate::card::window::Window;
use crate::card::{fat, sector};
use crate::image::chunk::ChunkSet;
use crate::image::sample::{CHUNK, Sample, noise};
use crate::image::withheld::Withheld;
use crate::image::{Scene, check, copy, plan};
use crate::step::cause::StepError;
use crate::step::commit::put_table;
use piseduce_protocol::boot_files;
use piseduce_protocol::manifest::ChunkKind;
use piseduce_protocol::table::{GPT_SIGNATURE, SECTOR_BYTES, Table};
use rustix::io::Errno;
use std::convert::Infallible;
use std::io::Write as _;

const FAT_START: usize = CHUNK;
const FAT_BYTES: usize = 2 * CHUNK;
const IMAGE_BYTES: usize = 4 * CHUNK;
const SECTOR: usize = SECTOR_BYTES as usize;

/// An image and the card that it comes to.
struct Case {
    image: Sample,
    bytes: Vec<u8>,
    withheld: Withheld,
    table: Table,
    card_bytes: usize,
}

impl Case {
    /// An image with an MBR, and one with a GPT on a card of the same size and on a larger one.
    fn all() -> [Case; 3] {
        let larger = IMAGE_BYTES + CHUNK + SECTOR;
        [Case::new(put_mbr, larger), Case::new(put_gpt, IMAGE_BYTES), Case::new(put_gpt, larger)]
    }

    /// An image whose chunks 1 and 2 are a FAT with a command line.
    fn new(put_table: fn(&mut [u8]), card_bytes: usize) -> Case {
        let card = MemoryCard::new(IMAGE_BYTES);
        let mut window = Window::new(&card, FAT_START as u64, FAT_BYTES as u64);
        let sectors = u32::try_from(FAT_BYTES / SECTOR).unwrap();
        let options = fatfs::FormatVolumeOptions::new().total_sectors(sectors);
        fatfs::format_volume(&mut window, options).unwrap();
        window.flush().unwrap();
        let write = |fat: &fat::Fat<'_, '_>| fat.write("cmdline.txt", b"quiet resize\n");
        fat::edit(&card, FAT_START as u64, FAT_BYTES as u64, write).unwrap();
        card.put(100 * SECTOR, &noise(0, CHUNK - 100 * SECTOR));
        let mut bytes = card.durable();
        put_table(&mut bytes);
        let kind = |chunk: &[u8]| match chunk.iter().all(|byte| *byte == 0) {
            true => ChunkKind::Zero,
            false => ChunkKind::Data,
        };
        let image = Sample::of(bytes.chunks(CHUNK).map(|raw| (kind(raw), raw.to_vec(), None)).collect());
        let read = |at: u64, into: &mut [u8]| {
            into.copy_from_slice(&bytes[at as usize..][..into.len()]);
            Ok::<(), Infallible>(())
        };
        let mut table = Table::read((IMAGE_BYTES / SECTOR) as u64, read).unwrap();
        table.fit((card_bytes / SECTOR) as u64).unwrap();
        Case { withheld: image.withheld(card_bytes as u64), bytes: image.bytes(), image, table, card_bytes }
    }

    /// A card with an earlier deployment that boots, by whichever table a firmware prefers.
    fn used_card(&self) -> MemoryCard {
        let card = MemoryCard::new(self.card_bytes);
        card.fill(0x77);
        card.put(510, &[0x55, 0xaa]);
        card.put(SECTOR, GPT_SIGNATURE);
        card.put(self.card_bytes - SECTOR, GPT_SIGNATURE);
        card
    }

    /// Everything that a deployment asks of the card, in its order.
    fn deploy(&self, card: &MemoryCard) -> Result<(), StepError> {
        let scene = Scene {
            card,
            manifest: &self.image.manifest,
            withheld: &self.withheld,
            cancel: &Cancel::new(),
            advance: &|_, _| {},
        };
        sector::invalidate(card)?;
        copy::copy(scene, &self.image, &ChunkSet::new(4))?;
        check::check(scene, &plan::defined(&self.image.manifest))?;
        let boot = FAT_START as u64..(FAT_START + FAT_BYTES) as u64;
        copy::copy_range(scene, &self.image, &boot)?;
        fat::edit(card, boot.start, boot.end - boot.start, |fat| {
            let old = fat.read("cmdline.txt")?.unwrap_or_default();
            fat.write("cmdline.txt", boot_files::disarmed(&String::from_utf8_lossy(&old)).as_bytes())
        })?;
        Ok(put_table(card, &self.table, &self.withheld)?)
    }

    /// Whether everything but the table that a deployment does is on the card.
    fn is_complete(&self, card: &[u8]) -> bool {
        let copy = MemoryCard::new(self.card_bytes);
        copy.put(0, card);
        let line = fat::edit(&copy, FAT_START as u64, FAT_BYTES as u64, |fat| fat.read("cmdline.txt"));
        let image = &self.bytes;
        let rest = 3 * CHUNK..IMAGE_BYTES - 100 * SECTOR;
        card[100 * SECTOR..CHUNK] == image[100 * SECTOR..CHUNK]
            && card[rest.clone()] == image[rest]
            && line.is_ok_and(|line| line.as_deref() == Some(b"quiet\n"))
    }

    /// Whether the table on the card is the one that was meant.
    fn has_table(&self, card: &[u8]) -> bool {
        let read = |at: u64, into: &mut [u8]| {
            into.copy_from_slice(&card[at as usize..][..into.len()]);
            Ok::<(), Infallible>(())
        };
        Table::read((self.card_bytes / SECTOR) as u64, read).is_ok_and(|table| table == self.table)
    }

    /// Asserts that a card which was left like this does not boot half-made.
    fn assert_safe(&self, left: &[u8], when: &str) {
        // The first writes make the card unbootable; until they are flushed the old system may be whole.
        let old = self.used_card().durable();
        let untouched =
            left[2 * SECTOR..self.card_bytes - SECTOR] == old[2 * SECTOR..self.card_bytes - SECTOR];
        assert!(!boots(left) || untouched || self.is_complete(left), "{when}");
    }
}

/// An MBR with the FAT as its first partition.
fn put_mbr(image: &mut [u8]) {
    let (start, sectors) = ((FAT_START / SECTOR) as u32, (FAT_BYTES / SECTOR) as u32);
    put_mbr_entry(image, 0x0c, start, sectors);
}

fn put_mbr_entry(image: &mut [u8], kind: u8, start: u32, sectors: u32) {
    image[446 + 4] = kind;
    image[446 + 8..446 + 12].copy_from_slice(&start.to_le_bytes());
    image[446 + 12..446 + 16].copy_from_slice(&sectors.to_le_bytes());
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
}

/// A GPT of four entries with the FAT as its first partition, and its backup.
fn put_gpt(image: &mut [u8]) {
    let sectors = (image.len() / SECTOR) as u64;
    put_mbr_entry(image, 0xee, 1, (sectors - 1) as u32);
    let mut entries = [0; SECTOR];
    entries[..32].fill(0x42);
    let (first, last) = (FAT_START / SECTOR, (FAT_START + FAT_BYTES) / SECTOR - 1);
    entries[32..40].copy_from_slice(&(first as u64).to_le_bytes());
    entries[40..48].copy_from_slice(&(last as u64).to_le_bytes());
    for (own, other, place) in [(1, sectors - 1, 2), (sectors - 1, 1, sectors - 2)] {
        let mut header = [0; SECTOR];
        header[..8].copy_from_slice(GPT_SIGNATURE);
        header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
        for (at, value) in [(24, own), (32, other), (40, 3), (48, sectors - 3), (72, place)] {
            header[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
        }
        header[80..88].copy_from_slice(&[4, 0, 0, 0, 128, 0, 0, 0]);
        header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        let checksum = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        image[own as usize * SECTOR..][..SECTOR].copy_from_slice(&header);
        image[place as usize * SECTOR..][..SECTOR].copy_from_slice(&entries);
    }
}

/// Whether any firmware or kernel would find a table: an MBR, a GPT, or the backup of one.
fn boots(card: &[u8]) -> bool {
    let has_header = |at: usize| card[at..].starts_with(GPT_SIGNATURE);
    card[510..512] == [0x55, 0xaa] || has_header(SECTOR) || has_header(card.len() - SECTOR)
}

#[test]
fn a_power_cut_after_any_write_leaves_a_card_that_boots_only_when_all_is_done() {
    for (place, case) in Case::all().iter().enumerate() {
        let whole = case.used_card();
        case.deploy(&whole).unwrap();
        assert!(case.is_complete(&whole.durable()) && case.has_table(&whole.durable()), "case {place}");
        for writes in 1..whole.writes() {
            let card = case.used_card();
            card.cut_after(writes);
            assert!(case.deploy(&card).is_err(), "case {place}: power was cut after {writes} writes");
            let survivors: [&dyn Fn(usize) -> bool; 4] =
                [&|_| false, &|_| true, &|index| index % 2 == 0, &|index| index % 2 == 1];
            for (number, survives) in survivors.iter().enumerate() {
                let when = format!("case {place}, {writes} writes, pattern {number} of survivors");
                case.assert_safe(&card.after_cut(survives), &when);
            }
        }
    }
}

#[test]
fn any_failing_request_is_told_as_the_cards_and_a_repetition_mends_it() {
    for (place, case) in Case::all().iter().enumerate() {
        let probe = case.used_card();
        case.deploy(&probe).unwrap();
        for number in 0..probe.requests() {
            let when = format!("case {place}, request {number}");
            let card = case.used_card();
            card.fail(number, Errno::IO);
            assert_eq!(cause_of(case.deploy(&card)), "card_error", "{when}");
            case.assert_safe(&card.after_cut(|_| false), &when);
            case.assert_safe(&card.durable(), &when);
            case.deploy(&card).unwrap();
            assert!(case.is_complete(&card.durable()) && case.has_table(&card.durable()), "{when}");
        }
    }
}

#[test]
fn a_card_that_is_taken_out_at_any_request_is_missing_and_does_not_boot() {
    for (place, case) in Case::all().iter().enumerate() {
        let probe = case.used_card();
        case.deploy(&probe).unwrap();
        for number in 0..probe.requests() {
            let when = format!("case {place}, request {number}");
            let card = case.used_card();
            card.remove_at(number);
            assert_eq!(cause_of(case.deploy(&card)), "card_missing", "{when}");
            case.assert_safe(&card.after_cut(|_| false), &when);
            case.assert_safe(&card.durable(), &when);
        }
    }
}

fn cause_of(result: Result<(), StepError>) -> String {
    match result {
        Err(StepError::Failed(cause)) => cause.name.as_str().to_owned(),
        Err(StepError::Cancelled) => panic!("nothing was stopped"),
        Ok(()) => "none".to_owned(),
    }
}

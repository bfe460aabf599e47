//! The GPT: a header in sector 1 and entries behind it, the same once more at the end of the disk, and a
//! protective MBR in sector 0.
//!
//! The backup is not read: an image whose primary table is damaged is refused, and the backup is rendered
//! anew for the disk it is for. Bytes that nothing here understands come out as they went in. Source: UEFI
//! 2.10, chapter 5.3.

use super::mbr::Mbr;
use super::{Area, Entry, GPT_SIGNATURE, NUMBER_MAX, SECTOR_BYTES, TableError, check_overlaps};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// The bytes of a disk are counted in 64 bits.
const SECTORS_MAX: u64 = u64::MAX / SECTOR_BYTES;
const HEADER_BYTES_MIN: usize = 92;
/// Tables are 16 KiB as a rule; a larger one than this is a mistake or malice.
const ENTRIES_BYTES_MAX: u64 = 1 << 20;
const ENTRY_BYTES_MIN: u64 = 128;
const ENTRY_BYTES_MAX: u64 = 4096;

// Fields of a header.
const REVISION: Range<usize> = 8..12;
const HEADER_BYTES: Range<usize> = 12..16;
const HEADER_CRC: Range<usize> = 16..20;
const OWN_SECTOR: Range<usize> = 24..32;
const OTHER_SECTOR: Range<usize> = 32..40;
const FIRST_USABLE: Range<usize> = 40..48;
const LAST_USABLE: Range<usize> = 48..56;
const ENTRIES_SECTOR: Range<usize> = 72..80;
const ENTRIES_COUNT: Range<usize> = 80..84;
const ENTRY_BYTES: Range<usize> = 84..88;
const ENTRIES_CRC: Range<usize> = 88..92;

// Fields of an entry.
const KIND: Range<usize> = 0..16;
const UNIQUE: Range<usize> = 16..32;
const FIRST: Range<usize> = 32..40;
const LAST: Range<usize> = 40..48;

/// Where the primary header stands.
const PRIMARY_SECTOR: u64 = 1;

fn read(bytes: &[u8], field: Range<usize>) -> u64 {
    bytes[field].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn set(bytes: &mut [u8], field: Range<usize>, value: u64) {
    let length = field.len();
    bytes[field].copy_from_slice(&value.to_le_bytes()[..length]);
}

/// A sound header and the rest of its sector.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Header {
    sector: Box<[u8; 512]>,
}

impl Header {
    /// The primary header in this sector.
    pub(super) fn parse(sector: &[u8]) -> Result<Self, TableError> {
        let header = Header { sector: Box::new(sector.try_into().expect("one sector")) };
        let bytes = read(sector, HEADER_BYTES) as usize;
        let wrong = |what| Err(TableError::Gpt(what));
        if !sector.starts_with(GPT_SIGNATURE) {
            return wrong("header is missing");
        }
        // The upper half of the revision is the major one.
        if read(sector, REVISION) >> 16 != 1 || !(HEADER_BYTES_MIN..=sector.len()).contains(&bytes) {
            return wrong("header is of an unknown version");
        }
        if header.checksum() != read(sector, HEADER_CRC) {
            return wrong("header does not have its checksum");
        }
        if read(sector, OWN_SECTOR) != PRIMARY_SECTOR {
            return wrong("header stands in another sector than it says");
        }
        let size = read(sector, ENTRY_BYTES);
        let is_size = size.is_power_of_two() && (ENTRY_BYTES_MIN..=ENTRY_BYTES_MAX).contains(&size);
        let count = read(sector, ENTRIES_COUNT);
        if !is_size || count == 0 || count * size > ENTRIES_BYTES_MAX {
            return wrong("entries have an impossible number or length");
        }
        Ok(header)
    }

    /// Where its entries are on a disk of `disk_sectors`: the first sector and the number of them.
    pub(super) fn entries_place(&self, disk_sectors: u64) -> Result<(u64, u64), TableError> {
        let (start, count) = (self.get(ENTRIES_SECTOR), self.entries_sectors());
        let end = start.checked_add(count);
        let is_room = start > PRIMARY_SECTOR
            && end.is_some_and(|end| end <= self.get(FIRST_USABLE) && end <= disk_sectors);
        if is_room { Ok((start, count)) } else { Err(TableError::Gpt("entries lie where they cannot be")) }
    }

    fn get(&self, field: Range<usize>) -> u64 {
        read(&self.sector[..], field)
    }

    fn entries_bytes(&self) -> usize {
        (self.get(ENTRIES_COUNT) * self.get(ENTRY_BYTES)) as usize
    }

    fn entries_sectors(&self) -> u64 {
        (self.entries_bytes() as u64).div_ceil(SECTOR_BYTES)
    }

    fn set(&mut self, field: Range<usize>, value: u64) {
        set(&mut self.sector[..], field, value);
        let checksum = self.checksum();
        set(&mut self.sector[..], HEADER_CRC, checksum);
    }

    /// What its checksum must be: that of itself with the checksum taken for 0.
    fn checksum(&self) -> u64 {
        let mut counted = *self.sector;
        counted[HEADER_CRC].fill(0);
        crc32fast::hash(&counted[..self.get(HEADER_BYTES) as usize]).into()
    }

    /// The same header in sector `own`, whose twin is in `other` and whose entries begin in `entries`.
    fn placed(&self, own: u64, other: u64, entries: u64) -> Area {
        let mut header = self.clone();
        header.set(OWN_SECTOR, own);
        header.set(OTHER_SECTOR, other);
        header.set(ENTRIES_SECTOR, entries);
        Area { start: own, bytes: header.sector.to_vec() }
    }
}

/// A GPT with its guard.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Gpt {
    guard: Mbr,
    header: Header,
    /// All entries, whole sectors.
    entries: Vec<u8>,
}

impl core::fmt::Debug for Gpt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let backup = self.header.get(OTHER_SECTOR);
        f.debug_struct("Gpt").field("backup", &backup).field("entries", &self.entries()).finish()
    }
}

impl Gpt {
    /// The GPT of these parts, checked against each other.
    pub(super) fn new(guard: Mbr, header: Header, entries: Vec<u8>) -> Result<Self, TableError> {
        let gpt = Gpt { guard, header, entries };
        if gpt.entries_checksum() != gpt.header.get(ENTRIES_CRC) {
            return Err(TableError::Gpt("entries do not have their checksum"));
        }
        gpt.check()?;
        Ok(gpt)
    }

    fn check(&self) -> Result<(), TableError> {
        let (first, last) = (self.header.get(FIRST_USABLE), self.header.get(LAST_USABLE));
        if last >= SECTORS_MAX {
            return Err(TableError::Gpt("usable sectors lie beyond every disk"));
        }
        if first > last + 1 {
            return Err(TableError::Gpt("usable sectors end before they begin"));
        }
        if self.header.get(OTHER_SECTOR) <= last + self.header.entries_sectors() {
            return Err(TableError::Gpt("backup lies among the usable sectors"));
        }
        for (index, raw) in self.used() {
            let number = u8::try_from(index + 1).ok().filter(|number| *number <= NUMBER_MAX);
            let number = number.ok_or(TableError::Number(index as u32 + 1))?;
            let (start, end) = (read(raw, FIRST), read(raw, LAST));
            if start > end || start < first || end > last {
                return Err(TableError::Entry(number));
            }
        }
        check_overlaps(&self.entries())
    }

    /// Places, from 0, and bytes of the entries that are in use.
    fn used(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let size = self.header.get(ENTRY_BYTES) as usize;
        let entries = self.entries[..self.header.entries_bytes()].chunks_exact(size).enumerate();
        entries.filter(|(_, raw)| raw[KIND].iter().any(|byte| *byte != 0))
    }

    fn entries_checksum(&self) -> u64 {
        crc32fast::hash(&self.entries[..self.header.entries_bytes()]).into()
    }

    pub(super) fn protective(&self) -> &Mbr {
        &self.guard
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let entry = |(index, raw): (usize, &[u8])| {
            let (start, end) = (read(raw, FIRST), read(raw, LAST) + 1);
            Entry { number: index as u8 + 1, start, sectors: end - start }
        };
        self.used().map(entry).collect()
    }

    /// The unique id of the entry of this number as text: its first three groups are little-endian.
    pub(super) fn part_uuid(&self, number: u8) -> String {
        let id = &self.entries[self.place(number)][UNIQUE];
        let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        let mut text = String::new();
        for (place, at) in order.into_iter().enumerate() {
            let separator = if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" };
            text += &format!("{separator}{:02x}", id[at]);
        }
        text
    }

    pub(super) fn usable_end(&self) -> u64 {
        self.header.get(LAST_USABLE) + 1
    }

    /// How large a disk must be whose partitions end before sector `end`.
    pub(super) fn disk_sectors_for(&self, end: u64) -> u64 {
        end.max(self.header.get(FIRST_USABLE)) + self.header.entries_sectors() + 1
    }

    /// Makes it the table of a disk of `disk_sectors`, which are enough.
    pub(super) fn fit(&mut self, disk_sectors: u64) {
        let backup = disk_sectors - 1;
        let last_usable = backup - self.header.entries_sectors() - 1;
        self.header.set(OTHER_SECTOR, backup);
        self.header.set(LAST_USABLE, last_usable);
        self.guard = self.guard.guarding(disk_sectors);
    }

    /// Gives the entry of that number the length of `entry`.
    pub(super) fn resize(&mut self, entry: Entry) {
        let place = self.place(entry.number);
        set(&mut self.entries[place], LAST, entry.end() - 1);
        let checksum = self.entries_checksum();
        self.header.set(ENTRIES_CRC, checksum);
    }

    pub(super) fn areas(&self) -> Vec<Area> {
        let backup = self.header.get(OTHER_SECTOR);
        let (own_entries, other_entries) =
            (self.header.get(ENTRIES_SECTOR), backup - self.header.entries_sectors());
        let entries = |start| Area { start, bytes: self.entries.clone() };
        vec![
            entries(other_entries),
            self.header.placed(backup, PRIMARY_SECTOR, other_entries),
            entries(own_entries),
            self.header.placed(PRIMARY_SECTOR, backup, own_entries),
            Area { start: 0, bytes: self.guard.sector().to_vec() },
        ]
    }

    fn place(&self, number: u8) -> Range<usize> {
        let size = self.header.get(ENTRY_BYTES) as usize;
        let at = size * usize::from(number - 1);
        at..at + size
    }
}

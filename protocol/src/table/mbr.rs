//! The MBR: four entries in sector 0. Boot code, disk id and the other entries come out as they went in.
//!
//! Sources: the layout as in UEFI 2.10, 5.2.1; Linux derives PARTUUID from disk id and number.

use super::{Entry, TableError, check_overlaps};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// No partition reaches beyond this sector: entries count in 32 bits.
pub(super) const END_MAX: u64 = u32::MAX as u64;

const ENTRIES_AT: usize = 446;
const ENTRY_BYTES: usize = 16;
const DISK_ID_AT: usize = 440;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
const PROTECTIVE: u8 = 0xee;
/// "Beyond what cylinder, head and sector can say", as every current tool writes it.
const CHS_BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];

/// Sector 0 with the signature of a table.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Mbr {
    sector: Box<[u8; 512]>,
}

impl core::fmt::Debug for Mbr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mbr").field("disk_id", &self.disk_id()).field("entries", &self.entries()).finish()
    }
}

impl Mbr {
    /// The table in this sector 0, whatever its entries say.
    pub(super) fn new(sector: &[u8]) -> Result<Self, TableError> {
        let sector = Box::new(sector.try_into().expect("one sector"));
        let mbr = Mbr { sector };
        if mbr.sector[510..] == SIGNATURE { Ok(mbr) } else { Err(TableError::Signature) }
    }

    /// Whether this is only the guard of a GPT: one entry of that type from sector 1 on, and no other.
    pub(super) fn announces_gpt(&self) -> Result<bool, TableError> {
        let entries = self.entries();
        let is_guard = |entry: &Entry| self.raw(entry.number)[4] == PROTECTIVE;
        match entries.iter().find(|entry| is_guard(entry)) {
            None => Ok(false),
            Some(guard) if entries.len() == 1 && guard.start == 1 => Ok(true),
            Some(_) => Err(TableError::Hybrid),
        }
    }

    /// Refuses entries that contradict each other.
    pub(super) fn check(&self) -> Result<(), TableError> {
        let entries = self.entries();
        match entries.iter().find(|entry| entry.start == 0 || entry.end() > END_MAX) {
            Some(entry) => Err(TableError::Entry(entry.number)),
            None => check_overlaps(&entries),
        }
    }

    pub(super) fn sector(&self) -> &[u8; 512] {
        &self.sector
    }

    pub(super) fn disk_id(&self) -> u32 {
        u32::from_le_bytes(self.sector[DISK_ID_AT..DISK_ID_AT + 4].try_into().expect("four bytes"))
    }

    pub(super) fn part_uuid(&self, number: u8) -> String {
        alloc::format!("{:08x}-{number:02x}", self.disk_id())
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let entry = |number| {
            let raw = self.raw(number);
            let word = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().expect("four bytes"));
            let (kind, sectors) = (raw[4], word(12));
            let entry = Entry { number, start: word(8).into(), sectors: sectors.into() };
            (kind != 0 && sectors != 0).then_some(entry)
        };
        (1..=4).filter_map(entry).collect()
    }

    /// Gives the partition of that number the length of `entry`, which ends before [`END_MAX`].
    pub(super) fn resize(&mut self, entry: Entry) {
        let at = place(entry.number);
        self.sector[at + 5..at + 8].copy_from_slice(&CHS_BEYOND);
        self.set_sectors(entry.number, entry.sectors);
    }

    /// The same guard for a disk of another size.
    pub(super) fn guarding(&self, disk_sectors: u64) -> Self {
        let mut guard = self.clone();
        let sectors = (disk_sectors - 1).min(END_MAX);
        self.entries().iter().for_each(|entry| guard.set_sectors(entry.number, sectors));
        guard
    }

    fn set_sectors(&mut self, number: u8, sectors: u64) {
        let sectors = u32::try_from(sectors).expect("no partition is longer than 2^32 sectors");
        let at = place(number);
        self.sector[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    }

    fn raw(&self, number: u8) -> &[u8] {
        let at = place(number);
        &self.sector[at..at + ENTRY_BYTES]
    }
}

/// Where the entry of this number begins.
fn place(number: u8) -> usize {
    ENTRIES_AT + ENTRY_BYTES * usize::from(number - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{ReadError, Table};
    use core::convert::Infallible;

    /// Number, type, start and length.
    type Row = (u8, u8, u32, u32);

    fn sector(rows: &[Row]) -> [u8; 512] {
        let mut sector = [0; 512];
        sector[..3].copy_from_slice(&[0xfa, 0xb8, 0x00]);
        sector[DISK_ID_AT..DISK_ID_AT + 4].copy_from_slice(&0x1234_abcdu32.to_le_bytes());
        sector[510..].copy_from_slice(&SIGNATURE);
        for (number, kind, start, sectors) in rows {
            let at = place(*number);
            sector[at + 4] = *kind;
            sector[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            sector[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        }
        sector
    }

    fn parse(sector: &[u8; 512]) -> Result<Table, TableError> {
        let read = |at: u64, into: &mut [u8]| {
            assert_eq!((at, into.len()), (0, 512), "an MBR is one sector");
            into.copy_from_slice(sector);
            Ok::<(), Infallible>(())
        };
        Table::read(1 << 33, read).map_err(|error| match error {
            ReadError::Table(error) => error,
            ReadError::Disk(never) => match never {},
        })
    }

    const BOOT: Row = (1, 0x0c, 8192, 1000);
    const ROOT: Row = (2, 0x83, 16384, 5000);

    #[test]
    fn growing_keeps_everything_but_the_end() {
        let before = sector(&[BOOT, ROOT]);
        let mut table = parse(&before).unwrap();
        table.fit(1 << 20).unwrap();
        assert_eq!(table.grow(2, 90_000), Ok(Entry { number: 2, start: 16384, sectors: 90_000 }));
        assert_eq!(table.part_uuid(2).as_deref(), Some("1234abcd-02"));
        assert_eq!(table.part_uuid(3), None);
        let [area] = &table.areas()[..] else { panic!("{table:?}") };
        let changed: Vec<usize> = (0..512).filter(|at| before[*at] != area.bytes[*at]).collect();
        let last = place(2) + 5..place(2) + 16;
        assert!(area.start == 0 && changed.iter().all(|at| last.contains(at)), "{changed:?}");
        assert_eq!(area.bytes[place(2) + 8..place(2) + 12], before[place(2) + 8..place(2) + 12]);
    }

    #[test]
    fn only_the_last_partition_grows_and_none_shrinks() {
        let mut table = parse(&sector(&[BOOT, ROOT])).unwrap();
        assert_eq!(table.grow(1, 2000), Err(TableError::NotLast { number: 1, behind: 2 }));
        assert_eq!(table.grow(3, 2000), Err(TableError::Missing(3)));
        assert_eq!(table.grow(2, 4999), Err(TableError::Shrink { number: 2, sectors: 5000, wanted: 4999 }));
        for sectors in [END_MAX, u64::MAX] {
            assert_eq!(table.grow(2, sectors), Err(TableError::Entry(2)));
        }
        let longest = END_MAX - 16384;
        assert_eq!(table.grow(2, longest).map(|entry| entry.end()), Ok(END_MAX));
        assert_eq!(table.usable_end(), END_MAX);
    }

    #[test]
    fn a_disk_that_is_too_small_for_the_partitions_is_refused() {
        let mut table = parse(&sector(&[BOOT, ROOT])).unwrap();
        let error = TableError::DiskTooSmall { sectors: 21_383, needed: 21_384 };
        assert_eq!(table.fit(21_383), Err(error));
        assert_eq!(table.fit(21_384), Ok(()));
        assert_eq!(table.grow(2, 5001), Err(TableError::Entry(2)));
    }

    #[test]
    fn a_sector_that_is_no_sound_mbr_is_refused() {
        assert_eq!(parse(&[0; 512]), Err(TableError::Signature));
        assert_eq!(parse(&sector(&[BOOT, (2, 0xee, 1, 99)])), Err(TableError::Hybrid));
        assert_eq!(parse(&sector(&[(1, 0xee, 2, 99)])), Err(TableError::Hybrid));
        assert_eq!(parse(&sector(&[(1, 0x83, 0, 99)])), Err(TableError::Entry(1)));
        assert_eq!(parse(&sector(&[(1, 0x83, u32::MAX, 2)])), Err(TableError::Entry(1)));
        assert_eq!(parse(&sector(&[(1, 0x83, 100, 10), (2, 0x83, 105, 10)])), Err(TableError::Overlap(1, 2)));
        assert_eq!(parse(&sector(&[])).map(|table| table.entries()), Ok(Vec::new()));
    }
}

//! MBR partition tables: 512 bytes to entries and back. Pure; nothing here touches a device.
//!
//! Boot code, disk id and the other entries come out as they went in. Sources: the layout as in UEFI
//! 2.10, 5.2.1; Linux derives PARTUUID from disk id and number.

use alloc::string::String;

/// Bytes of a sector, the unit of every entry.
pub const SECTOR_BYTES: u64 = 512;

const ENTRIES_AT: usize = 446;
const ENTRY_BYTES: usize = 16;
const DISK_ID_AT: usize = 440;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
const PROTECTIVE_GPT: u8 = 0xee;
/// "Beyond what cylinder, head and sector can say", as every current tool writes it.
const CHS_BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];

/// One partition entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1 to 4.
    pub number: u8,
    /// Its type byte.
    pub kind: u8,
    /// The active flag byte.
    pub flag: u8,
    /// Its first sector.
    pub start: u32,
    /// Its length in sectors.
    pub sectors: u32,
}

impl Entry {
    /// The sector behind its last one.
    pub fn end(&self) -> u64 {
        u64::from(self.start) + u64::from(self.sectors)
    }
}

/// A partition table in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    sector: [u8; 512],
}

impl core::fmt::Debug for Table {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Table").field("disk_id", &self.disk_id()).finish_non_exhaustive()
    }
}

/// Why a sector is not a table that can be handled, or a change to one is impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The last two bytes are not 55 aa.
    #[error("sector 0 has no partition table: its signature 55 aa is missing")]
    Signature,
    /// A GPT behind a protective MBR.
    #[error("the partition table is a GPT, which is not supported yet; convert the image to MBR")]
    Gpt,
    /// An entry that reaches out of 32 bits or into sector 0.
    #[error("partition {0} begins in sector 0 or reaches beyond 2 TiB")]
    Entry(u8),
    /// Two entries share sectors.
    #[error("partitions {0} and {1} overlap")]
    Overlap(u8, u8),
    /// No such entry.
    #[error("there is no partition {0}")]
    Missing(u8),
    /// Another partition lies behind it.
    #[error("partition {number} cannot grow: partition {behind} lies behind it")]
    NotLast {
        /// The partition that should grow.
        number: u8,
        /// The one in its way.
        behind: u8,
    },
    /// Growing would make it smaller.
    #[error("partition {number} has {sectors} sectors and cannot shrink to {wanted}")]
    Shrink {
        /// The partition.
        number: u8,
        /// Its length.
        sectors: u32,
        /// The length asked for.
        wanted: u64,
    },
}

impl Table {
    /// The table in a device's sector 0.
    ///
    /// # Errors
    /// When there is none, it is a GPT, or its entries contradict each other.
    pub fn parse(sector: &[u8; 512]) -> Result<Self, TableError> {
        if sector[510..] != SIGNATURE {
            return Err(TableError::Signature);
        }
        let table = Table { sector: *sector };
        let mut before: Option<Entry> = None;
        for entry in table.by_start() {
            if entry.kind == PROTECTIVE_GPT {
                return Err(TableError::Gpt);
            }
            if entry.start == 0 || entry.end() > u64::from(u32::MAX) {
                return Err(TableError::Entry(entry.number));
            }
            if let Some(before) = before.filter(|before| before.end() > u64::from(entry.start)) {
                return Err(TableError::Overlap(before.number, entry.number));
            }
            before = Some(entry);
        }
        Ok(table)
    }

    /// The table as sector 0.
    pub fn to_sector(&self) -> [u8; 512] {
        self.sector
    }

    /// The disk id.
    pub fn disk_id(&self) -> u32 {
        u32::from_le_bytes(self.sector[DISK_ID_AT..DISK_ID_AT + 4].try_into().expect("four bytes"))
    }

    /// The entries that are not empty, by number.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (1..=4).filter_map(|number| self.entry(number))
    }

    /// The entry of this number, if it is not empty.
    pub fn entry(&self, number: u8) -> Option<Entry> {
        if !(1..=4).contains(&number) {
            return None;
        }
        let at = ENTRIES_AT + ENTRY_BYTES * usize::from(number - 1);
        let raw = &self.sector[at..at + ENTRY_BYTES];
        let word = |from: usize| u32::from_le_bytes(raw[from..from + 4].try_into().expect("four bytes"));
        let entry = Entry { number, flag: raw[0], kind: raw[4], start: word(8), sectors: word(12) };
        (entry.kind != 0 && entry.sectors != 0).then_some(entry)
    }

    /// What Linux calls the partition of this number: PARTUUID.
    pub fn part_uuid(&self, number: u8) -> String {
        alloc::format!("{:08x}-{number:02x}", self.disk_id())
    }

    /// Takes the entry out of the table.
    ///
    /// # Errors
    /// [`TableError::Missing`].
    pub fn delete(&mut self, number: u8) -> Result<Entry, TableError> {
        let entry = self.entry(number).ok_or(TableError::Missing(number))?;
        let at = ENTRIES_AT + ENTRY_BYTES * usize::from(number - 1);
        self.sector[at..at + ENTRY_BYTES].fill(0);
        Ok(entry)
    }

    /// Puts `entry` into the table at its number, replacing what is there.
    ///
    /// # Panics
    /// When its number is not one of 1 to 4.
    pub fn create(&mut self, entry: Entry) {
        assert!((1..=4).contains(&entry.number), "an MBR has four entries, not {}", entry.number);
        let at = ENTRIES_AT + ENTRY_BYTES * usize::from(entry.number - 1);
        let raw = &mut self.sector[at..at + ENTRY_BYTES];
        raw[0] = entry.flag;
        raw[1..4].copy_from_slice(&CHS_BEYOND);
        raw[4] = entry.kind;
        raw[5..8].copy_from_slice(&CHS_BEYOND);
        raw[8..12].copy_from_slice(&entry.start.to_le_bytes());
        raw[12..16].copy_from_slice(&entry.sectors.to_le_bytes());
    }

    /// The entry `number` with a length of `sectors`: same start, type and flag. The table stays as it is.
    ///
    /// # Errors
    /// When there is no such entry, it is not the last on the device, or it would shrink or pass 2 TiB.
    pub fn grown(&self, number: u8, sectors: u64) -> Result<Entry, TableError> {
        let entry = self.entry(number).ok_or(TableError::Missing(number))?;
        let behind = self.by_start().into_iter().find(|other| other.start > entry.start);
        if let Some(behind) = behind {
            return Err(TableError::NotLast { number, behind: behind.number });
        }
        if sectors < u64::from(entry.sectors) {
            return Err(TableError::Shrink { number, sectors: entry.sectors, wanted: sectors });
        }
        let end = u64::from(entry.start).checked_add(sectors).filter(|end| *end <= u64::from(u32::MAX));
        match end.and(u32::try_from(sectors).ok()) {
            Some(sectors) => Ok(Entry { sectors, ..entry }),
            None => Err(TableError::Entry(number)),
        }
    }

    fn by_start(&self) -> alloc::vec::Vec<Entry> {
        let mut entries: alloc::vec::Vec<Entry> = self.entries().collect();
        entries.sort_by_key(|entry| entry.start);
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u8, start: u32, sectors: u32) -> Entry {
        Entry { number, kind: if number == 1 { 0x0c } else { 0x83 }, flag: 0, start, sectors }
    }

    fn sector(entries: &[Entry]) -> [u8; 512] {
        let mut table = Table { sector: [0; 512] };
        table.sector[..3].copy_from_slice(&[0xfa, 0xb8, 0x00]);
        table.sector[DISK_ID_AT..DISK_ID_AT + 4].copy_from_slice(&0x1234_abcdu32.to_le_bytes());
        table.sector[510..].copy_from_slice(&SIGNATURE);
        entries.iter().for_each(|entry| table.create(*entry));
        table.sector
    }

    fn parse(entries: &[Entry]) -> Result<Table, TableError> {
        Table::parse(&sector(entries))
    }

    #[test]
    fn delete_and_create_keep_everything_but_the_end() {
        let mut table = parse(&[entry(1, 8192, 1000), entry(2, 16384, 5000)]).unwrap();
        let before = table.to_sector();
        let grown = table.grown(2, 90_000).unwrap();
        assert_eq!(table.delete(2).unwrap(), entry(2, 16384, 5000));
        assert_eq!(table.entries().count(), 1);
        table.create(grown);
        assert_eq!(table.part_uuid(2), "1234abcd-02");
        let after = table.to_sector();
        let changed: alloc::vec::Vec<usize> = (0..512).filter(|i| before[*i] != after[*i]).collect();
        assert!(changed.iter().all(|i| (446 + 16 + 12..446 + 32).contains(i)), "{changed:?}");
    }

    #[test]
    fn only_the_last_partition_grows_and_none_shrinks() {
        let table = parse(&[entry(1, 8192, 1000), entry(2, 16384, 5000)]).unwrap();
        assert_eq!(table.grown(1, 2000), Err(TableError::NotLast { number: 1, behind: 2 }));
        assert_eq!(table.grown(3, 2000), Err(TableError::Missing(3)));
        assert_eq!(table.grown(2, 4999), Err(TableError::Shrink { number: 2, sectors: 5000, wanted: 4999 }));
        assert_eq!(table.grown(2, u64::from(u32::MAX)), Err(TableError::Entry(2)));
        assert_eq!(table.grown(2, u64::MAX), Err(TableError::Entry(2)));
    }

    #[test]
    fn a_sector_that_is_no_sound_mbr_is_refused() {
        assert_eq!(Table::parse(&[0; 512]), Err(TableError::Signature));
        assert_eq!(parse(&[Entry { kind: 0xee, ..entry(1, 1, 99) }]), Err(TableError::Gpt));
        assert_eq!(parse(&[entry(1, 0, 99)]), Err(TableError::Entry(1)));
        assert_eq!(parse(&[entry(1, u32::MAX, 2)]), Err(TableError::Entry(1)));
        assert_eq!(parse(&[entry(1, 100, 10), entry(2, 105, 10)]), Err(TableError::Overlap(1, 2)));
    }
}

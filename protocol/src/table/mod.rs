//! Partition tables: bytes ↔ entries, for MBR and GPT alike. Pure; nothing here touches a device.
//!
//! A table belongs to a disk of a certain size. It is read from an image, made to [fit](Table::fit) a
//! card, [grown](Table::grow), and comes out as [areas](Table::areas) in the order in which they are
//! written. Nothing but the grown partition's end and what depends on the disk's size changes on that way.

mod gpt;
mod mbr;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use gpt::Gpt;
use mbr::Mbr;

/// Bytes of a sector, the unit of every entry.
pub const SECTOR_BYTES: u64 = 512;

/// The highest number that a partition may have: Linux names no more on a card.
pub const NUMBER_MAX: u8 = 128;

/// The first bytes of a GPT header, the primary in sector 1 and the backup in the disk's last.
pub const GPT_SIGNATURE: &[u8; 8] = b"EFI PART";

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1 to [`NUMBER_MAX`].
    pub number: u8,
    /// Its first sector.
    pub start: u64,
    /// Its length in sectors.
    pub sectors: u64,
}

impl Entry {
    /// The sector behind its last one.
    pub fn end(&self) -> u64 {
        self.start + self.sectors
    }
}

/// Whole sectors of a disk that belong to its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// The first sector.
    pub start: u64,
    /// What stands there.
    pub bytes: Vec<u8>,
}

/// The partition table of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    disk_sectors: u64,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Mbr(Mbr),
    Gpt(Gpt),
}

/// Why bytes are not a table that can be handled, or a change to one is impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The last two bytes of sector 0 are not 55 aa.
    #[error("sector 0 has no partition table: its signature 55 aa is missing")]
    Signature,
    /// Partitions stand in the MBR beside its entry for the GPT.
    #[error("the partition table is a hybrid of MBR and GPT; convert the image to one of them")]
    Hybrid,
    /// An MBR announces a GPT, and there is none or a broken one.
    #[error("the partition table is a GPT whose {0}")]
    Gpt(&'static str),
    /// An entry that begins before the usable sectors or ends behind them.
    #[error("partition {0} lies outside of the sectors that the partition table can use")]
    Entry(u8),
    /// An entry that nothing here has a number for.
    #[error("the partition table has a partition {0}; {NUMBER_MAX} is the highest number that is handled")]
    Number(u32),
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
        sectors: u64,
        /// The length asked for.
        wanted: u64,
    },
    /// Partitions and table do not fit on a disk of this size.
    #[error("the partition table needs a disk of {needed} sectors, this one has {sectors}")]
    DiskTooSmall {
        /// The size of the disk.
        sectors: u64,
        /// The smallest size that is possible.
        needed: u64,
    },
}

/// Why no table could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E> {
    /// The disk could not be read.
    #[error("the partition table cannot be read")]
    Disk(#[source] E),
    /// What was read is no table that can be handled.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl Table {
    /// The table of a disk of `disk_sectors`. `read` fills its buffer with whole sectors from a byte on; a
    /// sector behind the end of the disk is never asked for.
    ///
    /// # Errors
    /// What `read` fails with, and [`TableError`] when there is no table or it contradicts itself.
    pub fn read<E>(
        disk_sectors: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, ReadError<E>> {
        let mut sectors = |start: u64, count: u64| {
            let mut bytes = vec![0; (count * SECTOR_BYTES) as usize];
            read(start * SECTOR_BYTES, &mut bytes).map(|()| bytes).map_err(ReadError::Disk)
        };
        let first = sectors(0, 1)?;
        let mbr = Mbr::new(&first)?;
        if !mbr.announces_gpt()? {
            mbr.check()?;
            return Ok(Table { disk_sectors, form: Form::Mbr(mbr) });
        }
        if disk_sectors < 2 {
            return Err(TableError::Gpt("header is missing").into());
        }
        let header = gpt::Header::parse(&sectors(1, 1)?)?;
        let (start, count) = header.entries_place(disk_sectors)?;
        let gpt = Gpt::new(mbr, header, sectors(start, count)?)?;
        Ok(Table { disk_sectors, form: Form::Gpt(gpt) })
    }

    /// The disk id in sector 0, which behind a GPT means nothing and is often 0.
    pub fn disk_id(&self) -> u32 {
        match &self.form {
            Form::Mbr(mbr) => mbr.disk_id(),
            Form::Gpt(gpt) => gpt.protective().disk_id(),
        }
    }

    /// The partitions that are not empty, by number.
    pub fn entries(&self) -> Vec<Entry> {
        match &self.form {
            Form::Mbr(mbr) => mbr.entries(),
            Form::Gpt(gpt) => gpt.entries(),
        }
    }

    /// The partition of this number, if it is not empty.
    pub fn entry(&self, number: u8) -> Option<Entry> {
        self.entries().into_iter().find(|entry| entry.number == number)
    }

    /// What Linux calls the partition of this number: PARTUUID.
    pub fn part_uuid(&self, number: u8) -> Option<String> {
        self.entry(number)?;
        Some(match &self.form {
            Form::Mbr(mbr) => mbr.part_uuid(number),
            Form::Gpt(gpt) => gpt.part_uuid(number),
        })
    }

    /// The sector behind the last one that a partition may have.
    pub fn usable_end(&self) -> u64 {
        match &self.form {
            Form::Mbr(_) => self.disk_sectors.min(mbr::END_MAX),
            Form::Gpt(gpt) => gpt.usable_end(),
        }
    }

    /// Makes it the table of a disk of `disk_sectors`: the backup of a GPT moves to the end of that, and
    /// what lies between belongs to nobody.
    ///
    /// # Errors
    /// [`TableError::DiskTooSmall`]; the table is as it was then.
    pub fn fit(&mut self, disk_sectors: u64) -> Result<(), TableError> {
        let used = self.entries().iter().map(Entry::end).max().unwrap_or(0);
        let needed = match &mut self.form {
            Form::Mbr(_) => used.max(1),
            Form::Gpt(gpt) => gpt.disk_sectors_for(used),
        };
        if disk_sectors < needed {
            return Err(TableError::DiskTooSmall { sectors: disk_sectors, needed });
        }
        self.disk_sectors = disk_sectors;
        match &mut self.form {
            Form::Mbr(_) => {}
            Form::Gpt(gpt) => gpt.fit(disk_sectors),
        }
        Ok(())
    }

    /// Gives the last partition of the disk a length of `sectors`: same start, type, ids and name.
    ///
    /// # Errors
    /// When there is no such partition, another lies behind it, or it would shrink or pass
    /// [`Table::usable_end`]; the table is as it was then.
    pub fn grow(&mut self, number: u8, sectors: u64) -> Result<Entry, TableError> {
        let entry = self.entry(number).ok_or(TableError::Missing(number))?;
        if let Some(behind) = self.entries().iter().find(|other| other.start > entry.start) {
            return Err(TableError::NotLast { number, behind: behind.number });
        }
        if sectors < entry.sectors {
            return Err(TableError::Shrink { number, sectors: entry.sectors, wanted: sectors });
        }
        let fits = entry.start.checked_add(sectors).is_some_and(|end| end <= self.usable_end());
        if !fits {
            return Err(TableError::Entry(number));
        }
        let grown = Entry { sectors, ..entry };
        match &mut self.form {
            Form::Mbr(mbr) => mbr.resize(grown),
            Form::Gpt(gpt) => gpt.resize(grown),
        }
        Ok(grown)
    }

    /// Everything that belongs to the table, in the order in which it must be written: without the last
    /// area, sector 0, the disk has no table.
    pub fn areas(&self) -> Vec<Area> {
        match &self.form {
            Form::Mbr(mbr) => vec![Area { start: 0, bytes: mbr.sector().to_vec() }],
            Form::Gpt(gpt) => gpt.areas(),
        }
    }
}

/// Refuses entries that share sectors.
fn check_overlaps(entries: &[Entry]) -> Result<(), TableError> {
    let mut by_start = entries.to_vec();
    by_start.sort_by_key(|entry| entry.start);
    match by_start.windows(2).find(|pair| pair[0].end() > pair[1].start) {
        Some(pair) => Err(TableError::Overlap(pair[0].number, pair[1].number)),
        None => Ok(()),
    }
}

//! Reads as much of a FAT file system as says what it is for: its label and the names in its root directory.
//! Next: `fat/free.rs`, which finds the clusters that are free.
//!
//! Written for bytes from anywhere (see `volume.rs`): the `fatfs` crate, with which agents edit sound ones,
//! follows circles without end. Source: Microsoft's FAT specification 1.03; FAT32 is told
//! from the others as Linux does it (`fs/fat/inode.c`), by the empty 16-bit length of its tables.

mod free;
#[cfg(test)]
mod tests;

use super::volume::{Volume, VolumeError, label, u16_at, u32_at};

/// The bytes of a directory entry.
const ENTRY_BYTES: usize = 32;
/// The longest root directory that is read; FAT allows 65,536 entries.
const ROOT_BYTES_MAX: u64 = 65_536 * ENTRY_BYTES as u64;
const LONG_NAME: u8 = 0x0f;
const VOLUME_LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const FREE: u8 = 0xe5;
/// What formatting tools write where there is no label.
const NO_LABEL: &[u8; 11] = b"NO NAME    ";

/// A FAT file system of any width.
#[derive(Debug)]
pub(super) struct Fat<'a> {
    volume: &'a Volume<'a>,
    label: Option<[u8; 11]>,
    root: Root,
    area: Area,
}

/// Where the root directory lies.
#[derive(Debug)]
enum Root {
    /// FAT12 and FAT16: at a fixed place.
    Fixed { at: u64, bytes: u64 },
    /// FAT32: in clusters that the table chains, beginning with this one.
    Chained(u32),
}

/// The tables, and the clusters that they are about. Clusters are numbered from 2.
#[derive(Debug)]
struct Area {
    tables: u64,
    table_at: u64,
    table_bytes: u64,
    clusters_at: u64,
    cluster_bytes: u64,
    clusters: u32,
}

/// What the root directory says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RootDirectory {
    /// The label.
    pub(super) label: Option<String>,
    /// The short names of its files, such as `CONFIG.TXT`.
    pub(super) files: Vec<String>,
}

impl<'a> Fat<'a> {
    /// The FAT file system on `volume`, if its first sector describes one.
    pub(super) fn recognise(volume: &'a Volume<'a>) -> Option<Self> {
        let sector: [u8; 512] = volume.array(0).ok()?;
        let sector_bytes = u64::from(u16_at(&sector, 11));
        let cluster_sectors = u64::from(sector[13]);
        let reserved = u64::from(u16_at(&sector, 14));
        let tables = u64::from(sector[16]);
        let root_bytes = u64::from(u16_at(&sector, 17)) * ENTRY_BYTES as u64;
        let short_table = u64::from(u16_at(&sector, 22));
        let sound = sector[510..] == [0x55, 0xaa]
            && matches!(sector_bytes, 512 | 1024 | 2048 | 4096)
            && cluster_sectors.is_power_of_two()
            && reserved > 0
            && matches!(tables, 1 | 2)
            && (sector[21] == 0xf0 || sector[21] >= 0xf8);
        if !sound {
            return None;
        }
        let wide = short_table == 0;
        let table_sectors = if wide { u64::from(u32_at(&sector, 36)) } else { short_table };
        let sectors = match u16_at(&sector, 19) {
            0 => u64::from(u32_at(&sector, 32)),
            sectors => u64::from(sectors),
        };
        let root_at = (reserved + tables * table_sectors) * sector_bytes;
        let clusters_at = root_at + root_bytes.next_multiple_of(sector_bytes);
        let cluster_bytes = cluster_sectors * sector_bytes;
        let clusters = (sectors * sector_bytes).checked_sub(clusters_at)? / cluster_bytes;
        if table_sectors == 0 || clusters == 0 || wide == (root_bytes > 0) {
            return None;
        }
        let label_at = if wide { 71 } else { 43 };
        let labelled = sector[label_at - 5] == 0x29;
        let area = Area {
            tables,
            table_at: reserved * sector_bytes,
            table_bytes: table_sectors * sector_bytes,
            clusters_at,
            cluster_bytes,
            clusters: u32::try_from(clusters).ok()?,
        };
        let root = match wide {
            true => Root::Chained(u32_at(&sector, 44)),
            false => Root::Fixed { at: root_at, bytes: root_bytes },
        };
        let label = labelled.then(|| sector[label_at..label_at + 11].try_into().expect("eleven bytes"));
        Some(Fat { volume, label, root, area })
    }

    /// Reads the root directory.
    pub(super) fn root(&self) -> Result<RootDirectory, VolumeError> {
        let bytes = match &self.root {
            Root::Fixed { at, bytes } => {
                let mut directory = vec![0; usize::try_from(*bytes).expect("at most 2 MiB")];
                self.volume.read(*at, &mut directory)?;
                directory
            }
            Root::Chained(first) => self.area.read_chain(self.volume, *first)?,
        };
        let mut found = RootDirectory::default();
        let mut label_bytes = self.label.filter(|label| label != NO_LABEL);
        for entry in bytes.chunks_exact(ENTRY_BYTES).take_while(|entry| entry[0] != 0) {
            match (entry[0], entry[11]) {
                (FREE, _) | (_, LONG_NAME) => {}
                (_, kind) if kind & VOLUME_LABEL != 0 => {
                    label_bytes = Some(entry[..11].try_into().expect("eleven bytes"));
                }
                (_, kind) if kind & DIRECTORY != 0 => {}
                _ => found.files.push(short_name(entry)),
            }
        }
        found.label = label_bytes.and_then(|bytes| label(&bytes));
        Ok(found)
    }
}

impl Area {
    /// The contents of the clusters that follow each other from `first` on, in a FAT32.
    fn read_chain(&self, volume: &Volume<'_>, first: u32) -> Result<Vec<u8>, VolumeError> {
        let mut directory = Vec::new();
        let mut cluster = first;
        while (2..self.clusters.saturating_add(2)).contains(&cluster) {
            let begin = directory.len();
            if begin as u64 + self.cluster_bytes > ROOT_BYTES_MAX {
                return Err(VolumeError::Damaged("its root directory is longer than FAT allows"));
            }
            directory.resize(begin + usize::try_from(self.cluster_bytes).expect("at most 512 KiB"), 0);
            let at = self.clusters_at + u64::from(cluster - 2) * self.cluster_bytes;
            volume.read(at, &mut directory[begin..])?;
            let next: [u8; 4] = volume.array(self.table_at + u64::from(cluster) * 4)?;
            // The upper four bits are reserved.
            cluster = u32::from_le_bytes(next) & 0x0fff_ffff;
        }
        Ok(directory)
    }
}

/// The short name of a directory entry, `NAME.EXT`.
fn short_name(entry: &[u8]) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match (part(&entry[..8]), part(&entry[8..11])) {
        (name, extension) if extension.is_empty() => name,
        (name, extension) => format!("{name}.{extension}"),
    }
}

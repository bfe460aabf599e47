//! Says what is in an image: its partitions, which of them boots and which becomes `/`, and what system that
//! holds. Reads only; what it finds goes into the manifest, and a user may overrule the family there.
//!
//! A partition whose file system is damaged does not fail an image: it is written as it is, and the evidence
//! says why nothing is configured.

use super::architecture::architecture;
use super::error::ContentError;
use super::ext4::Ext4;
use super::family::{self, Recognised};
use super::fat::Fat;
use super::raw::Raw;
use super::root::{Candidate, Names, choose, names_itself};
use super::volume::{Volume, VolumeError};
use piseduce_protocol::manifest::{FileSystem, Partition};
use piseduce_protocol::table::{Entry, ReadError, SECTOR_BYTES, Table};

/// By which of its files a FAT partition is known as the one that the firmware boots from.
const BOOT_FILES: [&str; 3] = ["CONFIG.TXT", "CMDLINE.TXT", "START4.ELF"];

/// What is in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The disk id in the partition table.
    pub disk_id: u32,
    /// The partitions in the order of their numbers.
    pub partitions: Vec<Partition>,
    /// The number of the partition that the firmware boots from.
    pub boot: Option<u8>,
    /// The number of the partition that becomes `/`.
    pub root: Option<u8>,
    /// How the system in it can be configured; `opaque` means not at all.
    pub family: String,
    /// Why, in one sentence for the user.
    pub family_evidence: String,
    /// The processor architecture of its programs as `uname -m` names it, when known.
    pub architecture: Option<String>,
}

/// What one partition was found to hold.
struct Found {
    partition: Partition,
    boot_files: usize,
    system: Result<Option<System>, VolumeError>,
}

/// An operating system in a root file system.
struct System {
    recognised: Recognised,
    architecture: Option<String>,
    /// Whether its own fstab says that its partition becomes `/`.
    names_itself: bool,
}

/// Says what is in `raw`.
///
/// # Errors
/// When it is not the image of a disk with partitions, or partitions reach behind its end.
pub fn inspect(raw: &Raw) -> Result<Layout, ContentError> {
    let table = table(raw)?;
    let mut found = Vec::new();
    for entry in table.entries() {
        let end = entry.end() * SECTOR_BYTES;
        if end > raw.bytes() {
            return Err(ContentError::CutOff { number: entry.number, end, image_bytes: raw.bytes() });
        }
        found.push(look_into(raw, entry, &table.part_uuid(entry.number).unwrap_or_default()));
    }
    if found.is_empty() {
        return Err(ContentError::NoPartitions);
    }
    let boot_files = found.iter().map(|found| found.boot_files).max().filter(|files| *files > 0);
    let boot = found.iter().find(|found| Some(found.boot_files) == boot_files);
    let boot = boot.map(|found| found.partition.number);
    let root = root(&found);
    let (recognised, architecture) = match &root {
        Some((_, system, why)) => {
            (system.recognised.clone().because(why.as_deref()), system.architecture.clone())
        }
        None => (no_root(&found), None),
    };
    Ok(Layout {
        disk_id: table.disk_id(),
        boot,
        root: root.map(|(number, ..)| number),
        family: recognised.family.into(),
        family_evidence: recognised.evidence,
        architecture,
        partitions: found.into_iter().map(|found| found.partition).collect(),
    })
}

/// The partition that becomes `/`, the system in it, and why it is that one if there were others.
fn root(found: &[Found]) -> Option<(u8, &System, Option<String>)> {
    let systems: Vec<(&Partition, &System)> = found
        .iter()
        .filter_map(|found| Some((&found.partition, found.system.as_ref().ok()?.as_ref()?)))
        .collect();
    let candidates: Vec<Candidate> = systems
        .iter()
        .map(|(partition, system)| Candidate {
            number: partition.number,
            bytes: partition.bytes,
            names_itself: system.names_itself,
        })
        .collect();
    let (number, why) = choose(&candidates)?;
    let (_, system) = systems.into_iter().find(|(partition, _)| partition.number == number)?;
    Some((number, system, why))
}

/// The partition table. A file system in its place is named as what it is.
fn table(raw: &Raw) -> Result<Table, ContentError> {
    const REMEDY: &str = "import the image of a whole disk with partitions";
    let whole = Volume::new(raw, 0, raw.bytes());
    // The boot sector of a FAT has the signature of a partition table, and code where its entries would be.
    if Fat::recognise(&whole).is_some() {
        return Err(ContentError::Foreign {
            what: "a FAT file system without partition table",
            remedy: REMEDY,
        });
    }
    let read = |at, into: &mut [u8]| raw.read(at, into).map_err(|source| ContentError::Read { at, source });
    Table::read(raw.bytes() / SECTOR_BYTES, read).map_err(|error| match error {
        ReadError::Disk(error) => error,
        ReadError::Table(_) if Ext4::recognise(&whole).is_some() => {
            ContentError::Foreign { what: "an ext4 file system without partition table", remedy: REMEDY }
        }
        ReadError::Table(error) => ContentError::Table(error),
    })
}

fn look_into(raw: &Raw, entry: Entry, part_uuid: &str) -> Found {
    let (start, bytes) = (entry.start * SECTOR_BYTES, entry.sectors * SECTOR_BYTES);
    let volume = Volume::new(raw, start, bytes);
    let found = |file_system, label, boot_files, system| {
        let partition = Partition { number: entry.number, start, bytes, file_system, label };
        Found { partition, boot_files, system }
    };
    if let Some(ext4) = Ext4::recognise(&volume) {
        let (label, uuid) = (ext4.label(), ext4.uuid());
        let names = Names { number: entry.number, part_uuid, uuid: &uuid, label: label.as_deref() };
        let system = system(&ext4, &names);
        return found(FileSystem::Ext4, label, 0, system);
    }
    let Some(fat) = Fat::recognise(&volume) else {
        return found(FileSystem::Unknown, None, 0, Ok(None));
    };
    // A root directory that cannot be read has no files to boot from.
    let root = fat.root().unwrap_or_default();
    let is_boot_file = |file: &&str| root.files.iter().any(|name| name == *file);
    let boot_files = BOOT_FILES.iter().filter(|file| is_boot_file(file)).count();
    found(FileSystem::Fat, root.label, boot_files, Ok(None))
}

fn system(ext4: &Ext4<'_>, names: &Names<'_>) -> Result<Option<System>, VolumeError> {
    let Some(recognised) = family::recognise(ext4)? else { return Ok(None) };
    let names_itself = names_itself(ext4, names)?;
    Ok(Some(System { recognised, architecture: architecture(ext4)?, names_itself }))
}

/// Why no partition becomes `/`.
fn no_root(found: &[Found]) -> Recognised {
    let unreadable = found.iter().find_map(|found| match &found.system {
        Err(error) => Some((found.partition.number, error)),
        Ok(_) => None,
    });
    match unreadable {
        Some((number, error)) => {
            Recognised::opaque(&format!("partition {number} cannot be understood: {error}"))
        }
        None => Recognised::opaque("no ext4 partition has an os-release file"),
    }
}

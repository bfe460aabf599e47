//! How large the root partition becomes, and what the table says then. Pure.
//!
//! Only a root that is configured, is ext4 and is the last partition grows. The table keeps its disk id,
//! boot code and everything but the one entry's end.

use super::cause::{StepError, failed};
use crate::card::partition::KernelPartition;
use crate::os::family::OPAQUE;
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::command::PartSize;
use piseduce_protocol::manifest::{FileSystem, Manifest, Partition};
use piseduce_protocol::table::{Entry, SECTOR_BYTES, Table};

/// A whole card is used up to a multiple of this, in sectors: 1 MiB.
const ALIGNMENT_SECTORS: u64 = 2048;

/// What becomes of the root partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// Nothing, and why.
    Nothing(String),
    /// This entry stands in the table instead of the image's.
    Entry(Entry),
}

impl Growth {
    /// What to do with the root of `manifest`, whose table, made to fit the card, is `table`.
    ///
    /// # Errors
    /// `table_invalid`, and `part_size_impossible` with the possible range.
    pub(super) fn plan(manifest: &Manifest, table: &Table, part_size: PartSize) -> Result<Self, StepError> {
        let nothing = |why: &str| Ok(Growth::Nothing(why.into()));
        if manifest.family == OPAQUE {
            return nothing("the environment is opaque");
        }
        let Some(root) = manifest.root.and_then(|number| manifest.partition(number)) else {
            return nothing("the image has no root partition");
        };
        if root.file_system != FileSystem::Ext4 {
            return nothing("the root file system is not of a kind that is grown");
        }
        let Some(entry) = table.entry(root.number) else {
            return nothing("the root partition is a logical one");
        };
        if entry.start * SECTOR_BYTES != root.start {
            let seen =
                format!("partition {} begins elsewhere in the table than in the manifest", root.number);
            return Err(failed(CauseKind::TableInvalid, seen));
        }
        let most = largest(table, entry);
        let sectors = match part_size {
            PartSize::Whole => most,
            PartSize::Bytes(bytes) => bytes / SECTOR_BYTES,
        };
        if sectors == entry.sectors {
            return nothing("the root partition has that size already");
        }
        match table.clone().grow(entry.number, sectors) {
            Ok(grown) if sectors <= most => Ok(Growth::Entry(grown)),
            Ok(_) | Err(_) => Err(impossible(part_size, entry, most)),
        }
    }

    /// The table as it is committed in the end.
    ///
    /// # Panics
    /// When `table` is not the one that the growth was planned with.
    pub(super) fn table(&self, table: &Table) -> Table {
        let mut table = table.clone();
        if let Growth::Entry(entry) = self {
            table.grow(entry.number, entry.sectors).expect("the growth was planned with this table");
        }
        table
    }

    /// The partitions that the kernel is to show: the image's, with the root as it becomes.
    pub(super) fn partitions(&self, manifest: &Manifest) -> Vec<KernelPartition> {
        let partitions = manifest.partitions.iter().filter(|partition| partition.bytes > 0);
        let shown = partitions.clone().filter(|outer| {
            // An extended partition is only a container: what lies inside is shown.
            let inside = outer.start..outer.start + outer.bytes;
            !partitions.clone().any(|inner| inner.number != outer.number && inside.contains(&inner.start))
        });
        let as_it_becomes = |partition: &Partition| match self {
            Growth::Entry(entry) if entry.number == partition.number => entry.sectors * SECTOR_BYTES,
            _ => partition.bytes,
        };
        let describe = |partition: &Partition| KernelPartition {
            number: partition.number,
            start: partition.start,
            bytes: as_it_becomes(partition),
        };
        shown.map(describe).collect()
    }
}

/// The most sectors that the entry can have; those it has when something is in its way.
fn largest(table: &Table, entry: Entry) -> u64 {
    let end = table.usable_end() / ALIGNMENT_SECTORS * ALIGNMENT_SECTORS;
    let sectors = end.saturating_sub(entry.start);
    if table.clone().grow(entry.number, sectors).is_ok() { sectors } else { entry.sectors }
}

fn impossible(part_size: PartSize, entry: Entry, most: u64) -> StepError {
    let bytes = |sectors: u64| sectors * SECTOR_BYTES;
    let (least, most) = (bytes(entry.sectors), bytes(most));
    let seen = match least == most {
        true => format!("the root partition cannot be {part_size}: it cannot grow and has {least} bytes"),
        false => format!("the root partition cannot be {part_size}: {least} to {most} bytes are possible"),
    };
    failed(CauseKind::PartSizeImpossible, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use piseduce_protocol::id::Hash;
    use std::convert::Infallible;

    const MIB: u64 = 1 << 20;

    fn partition(number: u8, start: u64, bytes: u64, file_system: FileSystem) -> Partition {
        Partition { number, start, bytes, file_system, label: None }
    }

    /// An image of 80 MiB: a boot partition, the root, and where `third` says so one behind it.
    fn image(third: bool) -> (Manifest, Table) {
        let mut partitions = vec![
            partition(1, MIB, 15 * MIB, FileSystem::Fat),
            partition(2, 16 * MIB, 32 * MIB, FileSystem::Ext4),
        ];
        if third {
            partitions.push(partition(3, 48 * MIB, 8 * MIB, FileSystem::Fat));
        }
        let mut sector0 = [0; 512];
        sector0[510..].copy_from_slice(&[0x55, 0xaa]);
        for partition in &partitions {
            let at = 446 + 16 * usize::from(partition.number - 1);
            let sectors = |bytes: u64| u32::try_from(bytes / SECTOR_BYTES).unwrap().to_le_bytes();
            sector0[at + 4] = 0x83;
            sector0[at + 8..at + 12].copy_from_slice(&sectors(partition.start));
            sector0[at + 12..at + 16].copy_from_slice(&sectors(partition.bytes));
        }
        let manifest = Manifest {
            image_bytes: 80 * MIB,
            whole: Hash([0; 32]),
            disk_id: 0,
            partitions,
            boot: Some(1),
            root: Some(2),
            family: "debian".into(),
            family_evidence: String::new(),
            architecture: None,
            packs: vec![],
            chunks: vec![],
        };
        let read = |_, into: &mut [u8]| {
            into.copy_from_slice(&sector0);
            Ok::<(), Infallible>(())
        };
        let table = Table::read(80 * MIB / SECTOR_BYTES, read).unwrap();
        (manifest, table)
    }

    fn plan(third: bool, part_size: &str, card_bytes: u64) -> Result<u64, String> {
        let (manifest, mut table) = image(third);
        table.fit(card_bytes / SECTOR_BYTES).unwrap();
        match Growth::plan(&manifest, &table, part_size.parse().unwrap()) {
            Ok(Growth::Entry(entry)) => Ok(entry.sectors * SECTOR_BYTES),
            Ok(Growth::Nothing(why)) => Err(why),
            Err(StepError::Failed(cause)) => Err(cause.to_string()),
            Err(StepError::Cancelled) => panic!("nothing was stopped"),
        }
    }

    #[test]
    fn a_whole_card_is_used_up_to_its_last_mebibyte() {
        assert_eq!(plan(false, "whole", 256 * MIB), Ok(240 * MIB));
        assert_eq!(plan(false, "whole", 256 * MIB + 512 * 1000), Ok(240 * MIB));
        let two_tebibytes = plan(false, "whole", 4 << 40).unwrap();
        assert!(two_tebibytes < 2 << 40 && two_tebibytes > (2 << 40) - 64 * MIB);
    }

    #[test]
    fn a_size_is_met_exactly_or_refused_with_the_possible_range() {
        assert_eq!(plan(false, "200M", 256 * MIB), Ok(200 * MIB));
        for size in ["241M", "31M", "16T"] {
            let error = plan(false, size, 256 * MIB).unwrap_err();
            let range = "33554432 to 251658240 bytes are possible";
            assert!(error.starts_with("part_size_impossible") && error.ends_with(range), "{error}");
        }
    }

    #[test]
    fn what_is_not_last_or_has_the_size_does_not_grow() {
        assert!(plan(true, "whole", 256 * MIB).unwrap_err().contains("that size already"));
        assert!(plan(true, "64M", 256 * MIB).unwrap_err().contains("it cannot grow"));
        assert!(plan(false, "32M", 256 * MIB).unwrap_err().contains("that size already"));
        assert!(plan(false, "whole", 48 * MIB).unwrap_err().contains("that size already"));
    }

    #[test]
    fn what_is_not_configured_or_not_ext4_does_not_grow() {
        let why = |change: fn(&mut Manifest)| {
            let (mut manifest, table) = image(false);
            change(&mut manifest);
            match Growth::plan(&manifest, &table, PartSize::Whole) {
                Ok(Growth::Nothing(why)) => why,
                other => panic!("{other:?}"),
            }
        };
        assert!(why(|manifest| manifest.family = "opaque".into()).contains("opaque"));
        assert!(why(|manifest| manifest.root = None).contains("no root"));
        assert!(why(|manifest| manifest.partitions[1].file_system = FileSystem::Unknown).contains("kind"));
    }

    #[test]
    fn only_the_roots_end_changes_in_table_and_kernel() {
        let (manifest, mut table) = image(false);
        table.fit(256 * MIB / SECTOR_BYTES).unwrap();
        let growth = Growth::plan(&manifest, &table, PartSize::Whole).unwrap();
        let grown = growth.table(&table);
        assert_eq!(grown.entry(1), table.entry(1));
        let root = Entry { sectors: 240 * MIB / SECTOR_BYTES, ..table.entry(2).unwrap() };
        assert_eq!(grown.entry(2), Some(root));
        let shown = growth.partitions(&manifest);
        assert_eq!(shown[0], KernelPartition { number: 1, start: MIB, bytes: 15 * MIB });
        assert_eq!(shown[1], KernelPartition { number: 2, start: 16 * MIB, bytes: 240 * MIB });
    }

    #[test]
    fn a_container_of_logical_partitions_is_not_shown() {
        let (mut manifest, _) = image(true);
        manifest.partitions.push(partition(4, 60 * MIB, 16 * MIB, FileSystem::Unknown));
        manifest.partitions.push(partition(5, 61 * MIB, 8 * MIB, FileSystem::Ext4));
        let shown = Growth::Nothing(String::new()).partitions(&manifest);
        assert_eq!(shown.iter().map(|partition| partition.number).collect::<Vec<_>>(), [1, 2, 3, 5]);
    }
}

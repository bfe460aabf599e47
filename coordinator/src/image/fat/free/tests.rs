//! The free clusters of FAT file systems against what `mshowfat` and `fsck.fat` say.

use crate::image::raw::Raw;
use crate::image::tools::{free_blocks, run};
use piseduce_protocol::manifest::FileSystem;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FILES: [&str; 4] = ["a", "b", "c", "d"];

/// A FAT with four files, between which others were removed.
fn make(directory: &Path, width: &str, sectors: &str, size_kib: &str) -> PathBuf {
    let path = directory.join("fat");
    let image = path.to_str().unwrap();
    run("dosfstools", "mkfs.fat", &["-C", "-F", width, "-s", sectors, "-a", image, size_kib]);
    for (index, file) in FILES.iter().enumerate() {
        let source = directory.join(file);
        fs::write(&source, vec![7; 20_000 + 9000 * index]).unwrap();
        let source = source.to_str().unwrap();
        run("mtools", "mcopy", &["-i", image, source, &format!("::{file}")]);
        run("mtools", "mcopy", &["-i", image, source, &format!("::{file}-removed")]);
    }
    for file in FILES {
        run("mtools", "mdel", &["-i", image, &format!("::{file}-removed")]);
    }
    path
}

/// The clusters of a file, from lines such as `::/a <2-5> <9>`.
fn clusters(image: &str, file: &str) -> Vec<u64> {
    let said = run("mtools", "mshowfat", &["-i", image, &format!("::{file}")]);
    let ranges = said.split(['<', '>']).filter(|part| part.starts_with(|c: char| c.is_ascii_digit()));
    ranges
        .flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse().unwrap()..=last.parse::<u64>().unwrap()
        })
        .collect()
}

/// The number in what a tool said that is followed by `behind`.
fn number(said: &str, behind: &str) -> u64 {
    let digits = said[..said.find(behind).unwrap_or_else(|| panic!("no {behind:?} in {said}"))].trim_end();
    digits[digits.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1)..].parse().unwrap()
}

#[test]
fn clusters_that_no_file_has_are_free_in_every_width_and_no_others() {
    for (width, sectors, size) in [
        ("12", "4", "8192"),
        ("12", "1", "1440"),
        ("16", "8", "65536"),
        ("16", "1", "8192"),
        ("32", "8", "300000"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = make(directory.path(), width, sectors, size);
        let image = path.to_str().unwrap();
        let mut used: BTreeSet<u64> = FILES.iter().flat_map(|file| clusters(image, file)).collect();
        if width == "32" {
            used.insert(2);
        }
        let said = run("dosfstools", "fsck.fat", &["-n", "-v", image]);
        let of_all = format!("{}/", used.len());
        assert!(said.contains(&of_all), "FAT{width}: the truth is not all of it: {said}");
        let [data_at, cluster_bytes, clusters] =
            [" (sector", " bytes per cluster", " data clusters"].map(|behind| {
                let from = if behind == " (sector" { said.find("Data area").unwrap() } else { 0 };
                number(&said[from..], behind)
            });
        let raw = Raw::new(File::open(&path).unwrap()).unwrap();
        let (free, remarks) = free_blocks(&raw, FileSystem::Fat);
        assert_eq!(remarks, [""; 0], "FAT{width}");
        for (block, is_free) in free.iter().enumerate() {
            // The clusters that any byte of the block is in; none before and behind all clusters.
            let bytes = [block as u64 * 4096, block as u64 * 4096 + 4095];
            let cluster = bytes.map(|at| at.checked_sub(data_at).map(|at| at / cluster_bytes + 2));
            let unused = match cluster {
                [Some(first), Some(last)] => {
                    last < clusters + 2 && (first..=last).all(|cluster| !used.contains(&cluster))
                }
                _ => false,
            };
            assert_eq!(*is_free, unused, "FAT{width}, {sectors} sectors a cluster: block {block}");
        }
    }
}

/// What is remarked on a FAT after `bytes` were written at `at`; nothing of it may be free then.
#[track_caller]
fn doubt(width: &str, at: u64, bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let size = if width == "32" { "40960" } else { "8192" };
    let path = make(directory.path(), width, "1", size);
    let file = File::options().read(true).write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
    let (free, remarks) = free_blocks(&Raw::new(file).unwrap(), FileSystem::Fat);
    assert!(!free.contains(&true), "something is free");
    let [remark] = &remarks[..] else { panic!("{remarks:?}") };
    remark.strip_prefix("partition 1 is stored with its free space: ").unwrap().to_owned()
}

#[test]
fn nothing_is_free_where_there_is_a_doubt() {
    let unclean = "it was not unmounted in order; check it, as with fsck.fat";
    assert_eq!(doubt("16", 0x25, &[1]), unclean, "by Linux");
    assert_eq!(doubt("32", 0x41, &[1]), unclean, "by Linux");
    // The second entry of the first table, behind 1 and 32 reserved sectors, by Windows.
    assert_eq!(doubt("16", 512 + 2, &[0xff, 0x7f]), "its tables differ; check it, as with fsck.fat");
    assert_eq!(doubt("32", 32 * 512 + 400, &[1]), "its tables differ; check it, as with fsck.fat");
    let not_mirrored = "it uses tables that are not copies of each other, which is not supported";
    assert_eq!(doubt("32", 40, &[0x81, 0]), not_mirrored);
    assert_eq!(doubt("16", 0x16, &[1, 0]), "its table is too short for its clusters");
}

#[test]
fn whatever_the_boot_sector_says_the_search_for_free_space_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = make(directory.path(), "16", "1", "8192");
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut sound = [0; 64];
    file.read_exact_at(&mut sound, 0).unwrap();
    let mut doubts = 0;
    for at in 11..64 {
        for byte in [0, 1, 2, 0x40, 0x80, 0xff] {
            let mut changed = sound;
            changed[at] = byte;
            file.write_all_at(&changed, 0).unwrap();
            doubts += free_blocks(&Raw::new(file.try_clone().unwrap()).unwrap(), FileSystem::Fat).1.len();
        }
    }
    assert!((20..300).contains(&doubts), "{doubts} of 318 were in doubt");
}

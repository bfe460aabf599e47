//! The reader of FAT file systems against what `mkfs.fat` and `mcopy` write. `tests/image` of the crate
//! changes whole images at random.

use super::*;
use crate::image::raw::Raw;
use crate::image::tools::run;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A FAT of `width` bits on a new file of `size_kib`, with `files` in its root directory.
fn fat(directory: &Path, width: &str, size_kib: &str, label: &str, files: &[&str]) -> PathBuf {
    let path = directory.join(format!("fat{width}"));
    let image = path.to_str().unwrap();
    run("dosfstools", "mkfs.fat", &["-C", "-F", width, "-s", "1", "-n", label, image, size_kib]);
    for file in files {
        let source = directory.join(file);
        fs::write(&source, "x").unwrap();
        run("mtools", "mcopy", &["-i", image, source.to_str().unwrap(), "::"]);
    }
    path
}

fn open(path: &Path) -> Raw {
    Raw::new(File::options().read(true).write(true).open(path).unwrap()).unwrap()
}

#[test]
fn fats_of_every_width_show_their_labels_and_files() {
    let directory = tempfile::tempdir().unwrap();
    for (width, size) in [("12", "1440"), ("16", "8192"), ("32", "40960")] {
        let files = ["config.txt", "a long name that needs entries of its own.text", "kernel8.img"];
        let raw = open(&fat(directory.path(), width, size, "BOOT FS", &files));
        let volume = Volume::new(&raw, 0, raw.bytes());
        let root = Fat::recognise(&volume).unwrap().root().unwrap();
        assert_eq!(root.label.as_deref(), Some("BOOT FS"), "FAT{width}");
        let names: Vec<&str> = root.files.iter().map(String::as_str).collect();
        assert_eq!(names, ["CONFIG.TXT", "ALONGN~1.TEX", "KERNEL8.IMG"], "FAT{width}");
    }
}

#[test]
fn a_chain_of_clusters_that_runs_in_a_circle_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = fat(directory.path(), "32", "40960", "CIRCLE", &[]);
    let file = File::options().write(true).open(&path).unwrap();
    // The entry of cluster 2, where the root directory begins, behind 32 reserved sectors.
    file.write_all_at(&2_u32.to_le_bytes(), 32 * 512 + 2 * 4).unwrap();
    let raw = open(&path);
    let volume = Volume::new(&raw, 0, raw.bytes());
    let result = Fat::recognise(&volume).unwrap().root();
    assert!(matches!(result, Err(VolumeError::Damaged(_))), "{result:?}");
}

#[test]
fn the_boot_sector_of_a_disk_is_no_fat() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let mut sector = [0; 512];
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&path, sector).unwrap();
    let raw = open(&path);
    assert!(Fat::recognise(&Volume::new(&raw, 0, raw.bytes())).is_none());
}

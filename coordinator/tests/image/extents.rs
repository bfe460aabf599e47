//! What no file system has allocated is neither stored nor written, and nothing else is left out: images with
//! stale data in their free space, and cards that were full of other things before.

use crate::disk::{MIB, Random, assemble, debian, ext4, fat, run};
use crate::{Fixture, reassemble};
use piseduce_coordinator::image::Library;
use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::{ChunkKind, Manifest};
use std::fs;
use std::path::{Path, PathBuf};

/// Every sector of files that were removed begins with it.
const STALE: &[u8; 16] = b"STALE AND SECRET";
/// What is on a card before it is written.
const DIRT: u8 = 0xaa;
const BLOCK: usize = 4096;

fn stale(bytes: u64) -> Vec<u8> {
    STALE.repeat(bytes as usize / STALE.len())
}

/// A tree of files of many lengths.
fn plant(root: &Path) {
    debian(root);
    let mut random = Random(5);
    for number in 0..40 {
        let length = random.below(200_000);
        fs::write(root.join(format!("file{number}")), random.bytes(length)).unwrap();
    }
    fs::write(root.join("zeros"), vec![0; 700_000]).unwrap();
    for number in 0..20 {
        fs::write(root.join(format!("removed{number}")), stale(100_000 + 8192 * number)).unwrap();
    }
}

/// An ext4 file system from which files with stale contents were removed.
fn used_ext4(options: &[&str], bytes: u64) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let [image, commands] = ["ext4", "commands"].map(|name| scratch.path().join(name));
    fs::write(&image, ext4(options, bytes, plant)).unwrap();
    fs::write(&commands, (0..20).map(|number| format!("rm removed{number}\n")).collect::<String>()).unwrap();
    run("e2fsprogs", "debugfs", &["-w", "-f", commands.to_str().unwrap(), image.to_str().unwrap()]);
    run("e2fsprogs", "e2fsck", &["-f", "-n", image.to_str().unwrap()]);
    fs::read(image).unwrap()
}

/// A FAT file system from which files with stale contents were removed.
fn used_fat(options: &[&str], bytes: u64) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("fat");
    let (content, removed) = (Random(6).bytes(50_000), stale(bytes / 8));
    let files = [("config.txt", &content[..]), ("removed", &removed), ("cmdline.txt", &content[..9000])];
    fs::write(&image, fat(options, bytes, &files)).unwrap();
    run("mtools", "mdel", &["-i", image.to_str().unwrap(), "::removed"]);
    fs::read(image).unwrap()
}

/// A card that was dirty and on which the defined blocks of the image were written, as an agent writes them.
fn card(library: &Library, manifest: &Manifest) -> Vec<u8> {
    let image = reassemble(library, manifest);
    let mut card = vec![DIRT; image.len()];
    for (index, chunk) in manifest.chunks.iter().enumerate() {
        if chunk.kind == ChunkKind::Unallocated {
            continue;
        }
        let start = index << 20;
        let end = start + manifest.chunk_bytes(index) as usize;
        for (block, at) in (start..end).step_by(BLOCK).enumerate() {
            let range = at..(at + BLOCK).min(end);
            let is_defined = chunk.mask.as_ref().is_none_or(|mask| mask[block / 8] >> (block % 8) & 1 == 1);
            if is_defined {
                card[range.clone()].copy_from_slice(&image[range]);
            } else {
                assert!(image[range].iter().all(|byte| *byte == 0), "an undefined block is not zero");
            }
        }
    }
    card
}

fn contains_stale(bytes: &[u8]) -> bool {
    bytes.chunks(512).any(|sector| sector.starts_with(STALE))
}

/// A partition of `bytes`, as a file of its own.
fn cut(directory: &Path, name: &str, bytes: &[u8], at: u64, length: u64) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, &bytes[at as usize..(at + length) as usize]).unwrap();
    path
}

/// The files of an ext4, dumped into a new directory.
fn dump(directory: &Path, name: &str, image: &Path) -> PathBuf {
    let into = directory.join(name);
    fs::create_dir(&into).unwrap();
    let command = format!("rdump / {}", into.display());
    run("e2fsprogs", "debugfs", &["-R", &command, image.to_str().unwrap()]);
    into
}

/// Imports a disk with these file systems and checks what becomes of a dirty card; gives the share of the
/// image that is in use, in per cent.
#[track_caller]
fn check(boot: &[u8], root: &[u8]) -> u64 {
    let fixture = Fixture::new();
    let directory = fixture.directory.path();
    let path = directory.join("disk.img");
    assemble(&path, &[("c", boot), ("83", root)]);
    let bytes = fs::read(&path).unwrap();
    assert!(contains_stale(boot) && contains_stale(root), "there is nothing to leave out");

    let imported = fixture.import(&path).unwrap();
    assert_eq!(imported.remarks, [""; 0]);
    let manifest = &imported.manifest;
    let stored = reassemble(&fixture.library, manifest);
    assert_eq!(Hash::of(&stored), manifest.whole);
    assert!(!contains_stale(&stored), "stale data is in the pack");

    let card = card(&fixture.library, manifest);
    let [boot_at, root_at] = [0, 1].map(|index: usize| manifest.partitions[index].start);
    let (boot_bytes, root_bytes) = (boot.len() as u64, root.len() as u64);
    assert!(card[..boot_at as usize] == bytes[..boot_at as usize], "what lies before the partitions differs");
    let tail = (root_at + root_bytes) as usize;
    assert!(card[tail..] == bytes[tail..], "what lies behind the partitions differs");

    let boot = cut(directory, "boot", &card, boot_at, boot_bytes);
    run("dosfstools", "fsck.fat", &["-n", boot.to_str().unwrap()]);
    let original = cut(directory, "original-boot", &bytes, boot_at, boot_bytes);
    for file in ["::config.txt", "::cmdline.txt"] {
        let [old, new] =
            [&original, &boot].map(|image| run("mtools", "mtype", &["-i", image.to_str().unwrap(), file]));
        assert!(!new.is_empty() && old == new, "{file} differs");
    }
    let root = cut(directory, "root", &card, root_at, root_bytes);
    run("e2fsprogs", "e2fsck", &["-f", "-n", root.to_str().unwrap()]);
    let original = cut(directory, "original-root", &bytes, root_at, root_bytes);
    let [old, new] = [("old", &original), ("new", &root)].map(|(name, image)| dump(directory, name, image));
    run("diffutils", "diff", &["-r", "--no-dereference", old.to_str().unwrap(), new.to_str().unwrap()]);
    let sizes = manifest.sizes();
    assert!(sizes.stored < sizes.defined && sizes.defined < sizes.image, "{sizes:?}");
    sizes.defined * 100 / sizes.image
}

#[test]
fn a_dirty_card_with_what_is_in_use_holds_sound_file_systems_with_the_same_files() {
    let boots: [(&[&str], u64); 4] = [
        (&["-F", "32", "-s", "1"], 40 * MIB),
        (&["-F", "16", "-s", "8", "-a"], 40 * MIB),
        (&["-F", "16", "-s", "4"], 16 * MIB),
        (&["-F", "12"], 4 * MIB),
    ];
    let roots: [(&[&str], u64); 6] = [
        (&["-b", "4096"], 150 * MIB),
        (&["-b", "1024"], 60 * MIB),
        (&["-b", "4096", "-O", "^64bit,^metadata_csum,uninit_bg"], 150 * MIB),
        (&["-b", "4096", "-O", "^flex_bg", "-E", "lazy_itable_init=1"], 150 * MIB),
        (&["-b", "4096", "-O", "bigalloc", "-C", "65536"], 150 * MIB),
        (&["-b", "2048", "-O", "^has_journal,sparse_super2"], 60 * MIB),
    ];
    for (index, (options, bytes)) in roots.into_iter().enumerate() {
        let (boot_options, boot_bytes) = boots[index % boots.len()];
        let share = check(&used_fat(boot_options, boot_bytes), &used_ext4(options, bytes));
        assert!(share < 60, "{options:?}: {share} % of the image is said to be in use");
    }
}

#[test]
fn of_a_file_system_in_doubt_everything_is_stored_and_the_import_says_why() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("disk.img");
    let mut root = used_ext4(&["-b", "4096"], 40 * MIB);
    // The flag of a journal that is to be replayed.
    root[1024 + 0x60] |= 4;
    let boot = used_fat(&["-F", "16"], 16 * MIB);
    let other = stale(MIB);
    assemble(&path, &[("c", &boot), ("83", &root), ("83", &other)]);
    let imported = fixture.import(&path).unwrap();
    let said = [
        "partition 2 is stored with its free space: it was not unmounted in order; check it, as with e2fsck",
        "partition 3 is stored with its free space: its file system is not known",
    ];
    assert_eq!(imported.remarks, said);
    let stored = reassemble(&fixture.library, &imported.manifest);
    let at = imported.manifest.partitions[1].start as usize;
    assert!(stored[at..] == fs::read(&path).unwrap()[at..]);
    assert!(!contains_stale(&stored[..at]), "the boot partition is in no doubt");
}

#[test]
fn chunks_without_anything_in_use_are_not_stored_and_zeros_in_use_are_written() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("disk.img");
    let root = used_ext4(&["-b", "4096"], 150 * MIB);
    assemble(&path, &[("83", &root)]);
    let manifest = fixture.import(&path).unwrap().manifest;
    let count = |kind| manifest.chunks.iter().filter(|chunk| chunk.kind == kind).count();
    let kinds = [ChunkKind::Data, ChunkKind::Zero, ChunkKind::Unallocated].map(count);
    assert!(kinds.iter().all(|count| *count > 2), "{kinds:?}");
    let masked = manifest.chunks.iter().filter(|chunk| chunk.mask.is_some());
    assert!(masked.clone().count() > 2 && masked.clone().all(|chunk| chunk.kind != ChunkKind::Unallocated));
}

//! Files that are no images, or worse. Each is refused in words that say what it is and what to do, and
//! nothing of it is left in the library.

use crate::disk::{MIB, Random, debian, debian_disk, make, run, xz};
use crate::{Fixture, library_in, open, said};
use piseduce_coordinator::image::{ImportError, Library, Limits, Raw, inspect};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Imports `path`, which must be refused with these words and leave nothing.
#[track_caller]
fn refused(fixture: &Fixture, path: &Path, words: &str) -> ImportError {
    let error = fixture.import(path).expect_err(words);
    let said = said(&error);
    assert!(said.contains(words), "{said:?} does not contain {words:?}");
    let left = ["packs", "manifests", "incoming"].map(|directory| fixture.count(directory));
    assert_eq!(left, [0; 3], "{said}");
    error
}

/// A file that holds `bytes`.
fn file(fixture: &Fixture, bytes: &[u8]) -> PathBuf {
    let path = fixture.directory.path().join("file.img");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn files_that_are_something_else_are_named() {
    let fixture = Fixture::new();
    let directory = fixture.directory.path();
    let text = file(&fixture, b"as good as anything to pack");
    let text = text.to_str().unwrap();
    for (package, tool, what) in [
        ("gzip", "gzip", "is a gzip file; unpack it first, with gunzip"),
        ("zstd", "zstd", "is a zstd file; unpack it first, with unzstd"),
        ("bzip2", "bzip2", "is a bzip2 file"),
    ] {
        let packed = run(package, tool, &["-c", text]);
        refused(&fixture, &file(&fixture, &packed), what);
    }
    let tar = run("tar", "tar", &["-cf", "-", text]);
    let tar = file(&fixture, &tar);
    refused(&fixture, &tar, "is a tar archive; unpack it first and import the image inside");
    refused(&fixture, &xz(&tar), "is a tar archive");
    refused(&fixture, &file(&fixture, b"PK\x03\x04..."), "is a zip archive");
    refused(&fixture, &file(&fixture, b"<!DOCTYPE html><html>404"), "is a web page; check the address");
    refused(&fixture, &file(&fixture, b""), "is empty; download it again");
    refused(
        &fixture,
        &file(&fixture, b"hello"),
        "is not the image of a whole disk with partitions: sector 0",
    );
    refused(&fixture, directory, "is neither a file nor a block device");
    refused(&fixture, &directory.join("nothing"), "cannot be read: No such file or directory");
    let mut iso = vec![0; 40_000];
    iso[32_769..32_774].copy_from_slice(b"CD001");
    refused(&fixture, &file(&fixture, &iso), "is an ISO 9660 image");
}

#[test]
fn file_systems_without_partition_table_are_named() {
    let fixture = Fixture::new();
    let image = fs::read(debian_disk(fixture.directory.path())).unwrap();
    let fat = &image[MIB as usize..9 * MIB as usize];
    refused(&fixture, &file(&fixture, fat), "is a FAT file system without partition table; import the image");
    let ext4 = &image[9 * MIB as usize + 4096..];
    refused(&fixture, &file(&fixture, ext4), "is an ext4 file system without partition table");
}

#[test]
fn tables_that_do_not_hold_are_refused() {
    let fixture = Fixture::new();
    let image = fs::read(debian_disk(fixture.directory.path())).unwrap();
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut image = image.clone();
        change(&mut image);
        file(&fixture, &image)
    };
    let overlap = changed(|image| image[462 + 8..462 + 12].copy_from_slice(&4096_u32.to_le_bytes()));
    refused(&fixture, &overlap, "partitions 1 and 2 overlap");
    let hybrid = changed(|image| image[446 + 4] = 0xee);
    refused(&fixture, &hybrid, "the partition table is a hybrid of MBR and GPT; convert the image");
    let gpt = changed(|image| {
        image[446..510].fill(0);
        (image[446 + 4], image[446 + 8], image[446 + 12]) = (0xee, 1, 255);
    });
    refused(&fixture, &gpt, "the partition table is a GPT whose header is missing");
    let empty = changed(|image| image[446..510].fill(0));
    refused(&fixture, &empty, "its partition table has no entries");
    let cut_off = changed(|image| image.truncate(30 << 20));
    refused(
        &fixture,
        &cut_off,
        "partition 2 ends at byte 34607104 but the image has only 31457280; it was cut off",
    );
    let behind = changed(|image| image[462 + 12..462 + 16].fill(0xff));
    refused(&fixture, &behind, "partition 2 begins in sector 0 or reaches beyond 2 TiB");
}

#[test]
fn xz_files_that_are_cut_off_or_damaged_are_refused() {
    let fixture = Fixture::new();
    let packed = fs::read(xz(&debian_disk(fixture.directory.path()))).unwrap();
    let length = packed.len();
    for cut in [12, 40, length / 3, length / 2, length - 20, length - 1] {
        let error = refused(&fixture, &file(&fixture, &packed[..cut]), "download it again");
        assert!(matches!(error, ImportError::EndsEarly { at, .. } if at == cut as u64), "{cut}: {error}");
    }
    let mut damaged = packed.clone();
    damaged[length / 2] ^= 0x10;
    let error = refused(&fixture, &file(&fixture, &damaged), "is damaged near byte");
    assert!(matches!(error, ImportError::Damaged { .. }), "{error}");
    let trailing = [packed.as_slice(), b"and something behind it"].concat();
    refused(&fixture, &file(&fixture, &trailing), "is damaged near byte");
    let nested = file(&fixture, &packed);
    let nested = xz(&nested);
    refused(&fixture, &nested, "is an xz file inside an xz file; unpack it first");
}

#[test]
fn a_bomb_stops_at_the_longest_image() {
    let fixture = Fixture::new();
    let disk = debian_disk(fixture.directory.path());
    let mut bomb = fs::read(xz(&disk)).unwrap();
    // 40 GiB of zeros.
    let zeros = fs::read(xz(&file(&fixture, &vec![0; 64 << 20]))).unwrap();
    bomb.extend(zeros.repeat(640));
    let bomb = file(&fixture, &bomb);
    File::options().write(true).open(&disk).unwrap().set_len(40 << 30).unwrap();
    let limits = Limits { image_bytes: 200 << 20, free_bytes: 0 };
    let library = Library::open(&library_in(fixture.directory.path()), limits).unwrap();
    for path in [&bomb, &disk] {
        let error = library.import(path, &mut |_| {}, &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(error, ImportError::TooLong { limit: 209_715_200, .. }), "{error}");
    }
    assert_eq!(fixture.count("incoming"), 0);
}

/// What an import says that must leave `floor` bytes free, if that stops it.
#[track_caller]
fn stopped_by(fixture: &Fixture, floor: u64) -> Option<String> {
    let image = debian_disk(fixture.directory.path());
    let limits = Limits { free_bytes: floor, ..Limits::default() };
    let library = Library::open(&library_in(fixture.directory.path()), limits).unwrap();
    let error = library.import(&image, &mut |_| {}, &AtomicBool::new(false)).err()?;
    assert_eq!(["packs", "manifests", "incoming"].map(|name| fixture.count(name)), [0; 3]);
    Some(error.to_string())
}

#[test]
fn an_import_leaves_the_floor_of_free_space_alone() {
    let fixture = Fixture::new();
    let free = || rustix::fs::statvfs(fixture.directory.path()).map(|space| space.f_bavail * space.f_frsize);
    let far_above = free().unwrap() * 2;
    let said = stopped_by(&fixture, far_above).unwrap();
    assert!(said.contains(&format!("bytes free and {far_above} must stay free")), "{said}");

    // A floor that is reached on the way; unless other tests free space meanwhile, so it may take several goes.
    let fixtures = std::iter::repeat_with(Fixture::new).take(20);
    let said = fixtures.into_iter().find_map(|fixture| stopped_by(&fixture, free().unwrap() - 2 * MIB));
    assert!(said.is_some_and(|said| said.contains("must stay free")));
}

#[test]
fn links_that_run_in_circles_leave_a_system_that_is_not_configured() {
    let fixture = Fixture::new();
    let image = fixture.directory.path().join("circles.img");
    make(&image, |root| {
        debian(root);
        fs::remove_file(root.join("usr/bin/sh")).unwrap();
        symlink("bash", root.join("usr/bin/sh")).unwrap();
        symlink("/bin/sh", root.join("usr/bin/bash")).unwrap();
    });
    let manifest = fixture.import(&image).unwrap().manifest;
    assert_eq!((manifest.root, manifest.architecture), (Some(2), None));
    assert_eq!(manifest.family_evidence, "opaque: there is no shell at /bin/sh");
}

#[test]
fn a_damaged_root_is_written_and_not_configured() {
    let fixture = Fixture::new();
    let image = debian_disk(fixture.directory.path());
    let disk = File::options().write(true).open(&image).unwrap();
    // Of the ext4 partition: the group descriptors.
    disk.write_all_at(&[0xff; 64], 9 * MIB + 4096 + 4096).unwrap();
    let manifest = fixture.import(&image).unwrap().manifest;
    assert_eq!((manifest.root, manifest.boot), (None, Some(1)));
    let evidence = &manifest.family_evidence;
    assert!(
        evidence.starts_with("opaque: partition 2 cannot be understood: it refers to byte"),
        "{evidence}"
    );
}

#[test]
fn whatever_the_first_megabytes_say_inspection_ends() {
    let fixture = Fixture::new();
    let image = debian_disk(fixture.directory.path());
    let sound = fs::read(&image).unwrap();
    let disk = File::options().read(true).write(true).open(&image).unwrap();
    // Where the structures lie: the partition table, the FAT's boot sector, tables and root directory; the
    // superblock, descriptors, bitmaps and inodes of the ext4.
    let regions = [(440, 72), (MIB, 512), (MIB, MIB / 4), (9 * MIB + 5120, 1024), (9 * MIB + 8192, MIB)];
    let mut accepted = 0;
    for seed in 0..4000 {
        let mut random = Random(seed);
        let (start, bytes) = regions[random.below(regions.len() as u64) as usize];
        let changed: Vec<u64> = (0..1 + random.below(8)).map(|_| start + random.below(bytes)).collect();
        for at in &changed {
            let byte = [0, 1, 0x7f, 0x80, 0xff, random.next() as u8][random.below(6) as usize];
            disk.write_all_at(&[byte], *at).unwrap();
        }
        accepted += usize::from(inspect(&Raw::new(disk.try_clone().unwrap()).unwrap()).is_ok());
        for at in changed {
            disk.write_all_at(&sound[at as usize..=at as usize], at).unwrap();
        }
    }
    assert!((1000..4000).contains(&accepted), "{accepted} of 4000 were accepted");
}

#[test]
fn a_library_that_cannot_be_created_says_where() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("library"), "").unwrap();
    let error = Library::open(&library_in(directory.path()), Limits::default()).unwrap_err();
    assert!(said(&error).starts_with("failed to create directory"), "{error}");
    fs::remove_file(directory.path().join("library")).unwrap();
    drop(open(directory.path()));
}

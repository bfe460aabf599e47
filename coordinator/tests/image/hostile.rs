//! Files that are no images, or worse. Each is refused in words that say what it is and what to do, and
//! nothing of it is left in the library.

use crate::disk::{MIB, Random, debian, debian_disk, make, program, run, xz};
use crate::{Fixture, library_in, open, refused, said};
use piseduce_coordinator::image::{ImportError, Imported, Library, Limits, Raw, Terms, inspect};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Imports the file `path` into a library of its own limits.
fn import_into(library: &Library, path: &Path) -> Result<Imported, ImportError> {
    library.import(&path.into(), &Terms::default(), &mut |_| {}, &AtomicBool::new(false))
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
    let packed = run("bzip2", "bzip2", &["-c", text]);
    refused(&fixture, &file(&fixture, &packed), "is a bzip2 file; unpack it first, with bunzip2");
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
    refused(&fixture, &behind, "partition 2 lies outside of the sectors");
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
    refused(&fixture, &nested, "is an xz file inside an xz file; unpack the outer one first");
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
        let error = import_into(&library, path).unwrap_err();
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
    let error = import_into(&library, &image).err()?;
    assert_eq!(["packs", "manifests", "incoming"].map(|name| fixture.count(name)), [0; 3]);
    Some(error.to_string())
}

#[test]
fn an_import_leaves_the_floor_of_free_space_alone() {
    let fixture = Fixture::new();
    let free = || rustix::fs::statvfs(fixture.directory.path()).map(|space| space.f_bavail * space.f_frsize);
    let far_above = free().unwrap() * 2;
    let said = stopped_by(&fixture, far_above).unwrap();
    assert!(said.contains(&format!("bytes free, 0 are needed now and {far_above} must stay free")), "{said}");

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

/// A library that accepts images of at most 64 MiB.
fn strict(fixture: &Fixture) -> Library {
    let limits = Limits { image_bytes: 64 << 20, free_bytes: 0 };
    Library::open(&library_in(fixture.directory.path()), limits).unwrap()
}

/// What `tool` of `package` makes of `input`.
fn piped(script: &str, input: &Path) -> Vec<u8> {
    run("coreutils", "sh", &["-c", script, "sh", input.to_str().unwrap()])
}

#[test]
fn bombs_of_every_kind_stop_at_the_longest_image_wherever_the_zeros_are() {
    let fixture = Fixture::new();
    let library = strict(&fixture);
    let disk = debian_disk(fixture.directory.path());
    let place = |name: &str| fixture.directory.path().join(name);
    // The image, and then gigabytes of zeros: behind it, or in a file beside it.
    fs::create_dir(place("bomb")).unwrap();
    fs::copy(&disk, place("bomb/b.img")).unwrap();
    File::create(place("bomb/a")).unwrap().set_len(1 << 30).unwrap();
    let bombs = [
        piped("{ cat $1; head -c 1G /dev/zero; } | gzip -1", &disk),
        piped("{ cat $1; head -c 1G /dev/zero; } | zstd -1", &disk),
        piped("cd $1 && tar -cf - a b.img | gzip -1", &place("bomb")),
        piped("cd $1 && tar -cSf - b.img a", &place("bomb")),
    ];
    for (index, bomb) in bombs.iter().enumerate() {
        assert!(bomb.len() < 100 << 20);
        let error = import_into(&library, &file(&fixture, bomb)).unwrap_err();
        assert!(matches!(error, ImportError::TooLong { limit: 67_108_864, .. }), "bomb {index}: {error}");
    }
    // In a zip archive only the image itself is unpacked.
    let beside = piped("cd $1 && zip -q -1 - a b.img", &place("bomb"));
    drop(import_into(&library, &file(&fixture, &beside)).unwrap());
    let bytes = piped("{ cat $1; head -c 1G /dev/zero; } | zip -q -1 - -", &disk);
    let error = import_into(&library, &file(&fixture, &bytes)).unwrap_err();
    assert!(matches!(error, ImportError::TooLong { .. }), "{error}");
    assert_eq!(fixture.count("incoming"), 0);
}

/// A header of a tar archive for a file of this type and length; the length as in GNU's extension.
fn tar_header(kind: u8, bytes: u64) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..4].copy_from_slice(b"name");
    header[100..107].copy_from_slice(b"0000644");
    header[124] = 0x80;
    header[128..136].copy_from_slice(&bytes.to_be_bytes());
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar  \0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[test]
fn archives_that_say_too_much_of_their_files_are_refused_in_bounded_memory() {
    let fixture = Fixture::new();
    // A name, and attributes, of 1 GB; compressed they are 100 KB.
    for kind in [b'L', b'K', b'x'] {
        let head = fixture.directory.path().join("head");
        fs::write(&head, tar_header(kind, 1 << 30)).unwrap();
        let bomb = piped("{ cat $1; head -c 1G /dev/zero; } | zstd -1", &head);
        let bomb = file(&fixture, &bomb);
        refused(&fixture, &bomb, "is damaged near byte");
        let peak = peak_of_import_kib(&bomb);
        assert!(peak < 100 << 10, "{peak} KiB were needed");
    }
    // A file of 8 EiB, of which nothing is there.
    for kind in [b'0', b'S'] {
        let lie = tar_header(kind, u64::MAX >> 1);
        refused(&fixture, &file(&fixture, &[lie, vec![0; 4096]].concat()), "download it again");
    }
    // A zip archive with a list of a million files, each of which is the first.
    let archive = piped("cd $(dirname $1) && zip -q - file.img", &file(&fixture, b"x"));
    let list_at = archive.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let end_at = archive.windows(4).position(|window| window == b"PK\x05\x06").unwrap();
    let list = archive[list_at..end_at].repeat(1_000_000);
    let mut end = archive[end_at..].to_vec();
    end[8..12].fill(0xff);
    end[12..16].copy_from_slice(&(list.len() as u32).to_le_bytes());
    let bomb = [&archive[..list_at], &list, &end].concat();
    refused(&fixture, &file(&fixture, &bomb), "is damaged near byte");
}

/// Names the file that a child process of a test imports.
const CHILD_SOURCE: &str = "PISEDUCE_TEST_BOMB";

/// No test of its own: what the children of the test above run. Tells the most memory that it ever used.
#[test]
fn as_a_child_import() {
    let Some(source) = std::env::var_os(CHILD_SOURCE).map(PathBuf::from) else { return };
    let library = open(source.parent().unwrap());
    import_into(&library, &source).unwrap_err();
    println!("{}", fs::read_to_string("/proc/self/status").unwrap());
}

/// The most memory that a process uses which imports `source`, which must be refused.
fn peak_of_import_kib(source: &Path) -> u64 {
    let mut child = program(std::env::current_exe().unwrap());
    child.args(["--exact", "hostile::as_a_child_import", "--nocapture"]).env(CHILD_SOURCE, source);
    let output = child.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_else(|| panic!("{said}"));
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn paths_in_archives_lead_nowhere() {
    let fixture = Fixture::new();
    let disk = debian_disk(fixture.directory.path());
    let outside = fixture.directory.path().join("escaped");
    for script in [
        "cd $(dirname $1) && tar -czf - -P --transform=s,^,../../../../../../$PWD/escaped/, debian.img",
        "cd $(dirname $1) && tar -czf - -P --transform=s,^.*,$PWD/escaped, debian.img",
        "cd $(dirname $1)/library && zip -q - ../debian.img",
    ] {
        let archive = file(&fixture, &piped(script, &disk));
        drop(fixture.import(&archive).unwrap());
        assert!(!outside.exists(), "{script}");
    }
    // Links are no files, wherever they lead.
    let script = "cd $(dirname $1) && ln -s /etc/passwd link && tar -czf - link";
    refused_again(&fixture, &file(&fixture, &piped(script, &disk)), "is a tar archive without any file");
}

/// As [`refused`], in a library with images.
fn refused_again(fixture: &Fixture, path: &Path, words: &str) {
    let said = said(&fixture.import(path).expect_err(words));
    assert!(said.contains(words), "{said:?} does not contain {words:?}");
}

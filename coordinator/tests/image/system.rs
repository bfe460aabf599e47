//! What is found in images of many layouts: which partition becomes `/`, and for which machines it is.

use crate::disk::{MIB, TAIL_BYTES, assemble, assemble_gpt, debian, debian_disk, ext4, fat, make, run};
use crate::{Fixture, refused};
use piseduce_coordinator::image::Terms;
use std::fs;
use std::path::{Path, PathBuf};

const RECOGNISED: &str = "debian 12: os-release, systemd, user pi (uid 1000), reports by curl";

fn boot() -> Vec<u8> {
    fat(&["-n", "BOOT"], 4 * MIB, &[("config.txt", b"x"), ("cmdline.txt", b"x")])
}

/// A root file system with this label whose fstab says that `device` is `/`.
fn root(label: &str, bytes: u64, device: &str) -> Vec<u8> {
    ext4(&["-L", label, "-b", "1024"], bytes, |root| {
        debian(root);
        fs::write(root.join("etc/fstab"), format!("proc /proc proc\n{device} / ext4 defaults 0 1\n"))
            .unwrap();
    })
}

/// Imports a disk with these partitions; which boots, which becomes `/`, and why.
fn found(partitions: &[(&str, &[u8])]) -> (Option<u8>, Option<u8>, String) {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("disk.img");
    assemble(&path, partitions);
    let manifest = fixture.import(&path).unwrap().manifest;
    (manifest.boot, manifest.root, manifest.family_evidence)
}

#[test]
fn the_root_may_be_any_partition_and_need_not_be_the_last() {
    let (boot, root) = (boot(), root("rootfs", 8 * MIB, "LABEL=rootfs"));
    let data = ext4(&["-b", "1024"], 12 * MIB, |root| fs::write(root.join("data"), "x").unwrap());
    let alone = RECOGNISED.to_owned();
    assert_eq!(found(&[("83", &root)]), (None, Some(1), alone.clone()));
    assert_eq!(found(&[("c", &boot), ("83", &root), ("83", &data)]), (Some(1), Some(2), alone.clone()));
    assert_eq!(found(&[("83", &data), ("c", &boot), ("83", &root)]), (Some(2), Some(3), alone.clone()));
    assert_eq!(found(&[("83", &root), ("c", &boot)]), (Some(2), Some(1), alone));
}

#[test]
fn of_two_systems_the_one_whose_fstab_says_so_becomes_the_root_else_the_largest() {
    let boot = boot();
    let rescue = root("rescue", 12 * MIB, "/dev/ram0");
    let check = |first: &[u8], second: &[u8], number: u8, why: &str| {
        let (_, root, evidence) = found(&[("c", &boot), ("83", first), ("83", second)]);
        assert_eq!(root, Some(number));
        let why = format!("; of the partitions 2 and 3 with a system, {number} is /: {why}");
        assert_eq!(evidence, format!("{RECOGNISED}{why}"));
    };
    for device in ["LABEL=system", "PARTUUID=1234abcd-03", "/dev/mmcblk0p3"] {
        check(&rescue, &root("system", 8 * MIB, device), 3, "its own fstab says so");
    }
    let [a, b] = [("a", 8), ("b", 9)].map(|(label, mib)| root(label, mib * MIB, &format!("LABEL={label}")));
    check(&a, &b, 3, "it is the largest");
    check(&b, &a, 2, "it is the largest");
    check(&a, &a, 2, "it comes first");
}

/// A disk with a GPT of a boot partition and two systems, of which the second has this fstab device.
fn gpt_disk(directory: &Path, device: &str) -> PathBuf {
    let path = directory.join("gpt.img");
    let rescue = root("rescue", 12 * MIB, "/dev/ram0");
    assemble_gpt(&path, &[("U", &boot()), ("L", &rescue), ("L", &root("system", 8 * MIB, device))]);
    path
}

#[test]
fn a_gpt_is_read_like_an_mbr_with_the_names_that_it_gives_to_partitions() {
    let fixture = Fixture::new();
    let path = gpt_disk(fixture.directory.path(), "LABEL=none");
    let id =
        String::from_utf8(run("fdisk", "sfdisk", &["--part-uuid", path.to_str().unwrap(), "3"])).unwrap();
    // The same ids again, with an fstab that names the third.
    let table = run("fdisk", "sfdisk", &["--dump", path.to_str().unwrap()]);
    let path = gpt_disk(fixture.directory.path(), &format!("PARTUUID={}", id.trim().to_lowercase()));
    let dump = fixture.directory.path().join("table");
    fs::write(&dump, table).unwrap();
    run("fdisk", "sh", &["-c", &format!("sfdisk -q '{}' < '{}'", path.display(), dump.display())]);

    let manifest = fixture.import(&path).unwrap().manifest;
    assert_eq!((manifest.boot, manifest.root, manifest.partitions.len()), (Some(1), Some(3), 3));
    assert!(
        manifest.family_evidence.ends_with("3 is /: its own fstab says so"),
        "{}",
        manifest.family_evidence
    );
    let sizes = manifest.sizes();
    assert!(sizes.defined < sizes.image, "free space is left out as ever: {sizes:?}");
    assert_eq!(manifest.partition(2).unwrap().start, MIB + 4 * MIB + 4096);
}

#[test]
fn a_gpt_without_its_backup_is_accepted_and_one_with_a_damaged_primary_is_not() {
    let fixture = Fixture::new();
    let path = gpt_disk(fixture.directory.path(), "LABEL=system");
    let sound = fs::read(&path).unwrap();
    let partitions = fixture.import(&path).unwrap().manifest.partitions;
    let tail = TAIL_BYTES as usize;
    let mut garbage = sound.clone();
    let end = garbage.len();
    garbage[end - 40 * 512..].fill(0x5a);
    for accepted in [&sound[..end - tail], &garbage] {
        fs::write(&path, accepted).unwrap();
        let manifest = fixture.import(&path).unwrap().manifest;
        assert_eq!((manifest.partitions, manifest.root), (partitions.clone(), Some(3)));
    }
    let fresh = Fixture::new();
    let check = |at: usize, words: &str| {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        refused(&fresh, &path, words);
    };
    check(512, "the partition table is a GPT whose header is missing");
    check(512 + 60, "the partition table is a GPT whose header does not have its checksum");
    check(1024 + 32, "the partition table is a GPT whose entries do not have their checksum");
    fs::write(&path, &sound[..20 << 20]).unwrap();
    refused(&fresh, &path, "but the image has only 20971520; it was cut off, download it again");
}

/// An image whose shell is for this machine, as ELF numbers it.
fn image_for(directory: &Path, bits: u8, machine: u8) -> PathBuf {
    let path = directory.join("other.img");
    make(&path, |root| {
        debian(root);
        let mut shell = fs::read(root.join("usr/bin/dash")).unwrap();
        (shell[4], shell[18]) = (bits, machine);
        fs::write(root.join("usr/bin/dash"), shell).unwrap();
    });
    path
}

#[test]
fn a_system_for_other_machines_is_refused_unless_that_is_what_is_wanted() {
    let fixture = Fixture::new();
    let directory = fixture.directory.path();
    let words = "its programs are for x86_64, and Raspberry Pis run aarch64 and armv7l; choose another image, or \
         say --any-architecture";
    let amd64 = image_for(directory, 2, 62);
    refused(&fixture, &amd64, words);
    let any = Terms { any_architecture: true, ..Terms::default() };
    let imported = fixture.import_from(&(&*amd64).into(), &any).unwrap();
    assert_eq!(imported.manifest.architecture.as_deref(), Some("x86_64"));
    let arm = fixture.import(&image_for(directory, 1, 40)).unwrap();
    assert_eq!(arm.manifest.architecture.as_deref(), Some("armv7l"));
    drop(fixture.import(&debian_disk(directory)).unwrap());
}

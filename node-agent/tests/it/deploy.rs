//! A whole deployment on a loop device, and what is on the card then.

use crate::card::LoopCard;
use crate::image::{self, BOOT_START, Image, Label, MIB, ROOT_BYTES, ROOT_START};
use crate::program;
use crate::rig::{CARD_BYTES, Rig};
use piseduce_agent::card::device::{Device, Sharing};
use piseduce_protocol::manifest::ChunkKind;
use piseduce_protocol::path;
use piseduce_protocol::state::State;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// The root of a finished card as a file of its own, for tools that take files.
pub(crate) struct Root {
    file: PathBuf,
    _directory: TempDir,
}

impl Root {
    pub(crate) fn of(card: &LoopCard, bytes: u64) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("root");
        fs::write(&file, card.read(ROOT_START, usize::try_from(bytes).unwrap())).unwrap();
        Root { file, _directory: directory }
    }

    pub(crate) fn assert_clean(&self) {
        program::run("e2fsck", &["-f".as_ref(), "-n".as_ref(), self.file.as_os_str()]);
    }

    fn ask(&self, request: &str) -> String {
        program::run("debugfs", &["-R".as_ref(), request.as_ref(), self.file.as_os_str()])
    }

    pub(crate) fn text(&self, path: &str) -> String {
        self.ask(&format!("cat {path}"))
    }

    /// Mode, owner and group of what is at `path`.
    fn ownership(&self, path: &str) -> (String, String, String) {
        let text = self.ask(&format!("stat {path}"));
        let field = |name: &str| {
            let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("{path}: {text}"));
            rest.split_whitespace().next().unwrap().to_owned()
        };
        (field("Mode:"), field("User:"), field("Group:"))
    }

    fn size(&self) -> u64 {
        let text = program::run("dumpe2fs", &["-h".as_ref(), self.file.as_os_str()]);
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
        };
        field("Block count:") * field("Block size:")
    }
}

pub(crate) fn boot_file(card: &LoopCard, name: &str) -> String {
    let fat = format!("{}@@{BOOT_START}", card.file().display());
    program::run("mtype", &["-i", &fat, &format!("::{name}")])
}

/// Asserts everything that must be on a card after all steps with the usual image, with a root partition
/// of `root_bytes`.
pub(crate) fn assert_deployed(card: &LoopCard, root_bytes: u64) {
    assert_image_deployed(image::get(), card, root_bytes);
}

/// The same with another image.
pub(crate) fn assert_image_deployed(image: &Image, card: &LoopCard, root_bytes: u64) {
    let table = card.table();
    let verified = program::run("sfdisk", &["--verify".as_ref(), card.file().as_os_str()]);
    assert!(verified.contains("No errors detected."), "{verified}");
    let entry = table.entry(2).unwrap();
    assert_eq!((entry.start * 512, entry.sectors * 512), (ROOT_START, root_bytes));
    assert_eq!(table.disk_id(), image.manifest.disk_id);
    assert_eq!(table.part_uuid(2).as_deref(), Some(image.label.root_id()));
    let root = Root::of(card, root_bytes);
    root.assert_clean();
    assert!((root_bytes - MIB..=root_bytes).contains(&root.size()), "{} of {root_bytes}", root.size());
    assert_system(&root);
    assert_user(&root);
    let line = boot_file(card, "cmdline.txt");
    assert_eq!(line, format!("console=tty1 root=PARTUUID={} rootwait quiet\n", image.label.root_id()));
    assert_eq!(boot_file(card, "meta-data"), "instance-id: piseduce-7-2\ndsmode: local\n");
    assert!(boot_file(card, "user-data").ends_with("users: []\n"));
    let names =
        program::run("mdir", &["-b".into(), "-i".into(), format!("{}@@{BOOT_START}", card.file().display())]);
    assert!(!names.contains("pieeprom"), "a bootloader's update is left: {names}");
    let partition = TempDir::new().unwrap();
    let file = partition.path().join("boot");
    fs::write(&file, card.read(BOOT_START, usize::try_from(image::BOOT_BYTES).unwrap())).unwrap();
    program::run("fsck.fat", &["-n".as_ref(), file.as_os_str()]);
}

fn assert_system(root: &Root) {
    assert_eq!(root.text("/etc/hostname"), "pi-7\n");
    assert_eq!(root.text("/etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\tpi-7\n");
    assert_eq!(root.text("/etc/machine-id"), "uninitialized\n");
    assert_eq!(root.text("/etc/fake-hwclock.data"), "2026-11-23 15:30:00\n");
    let names = root.ask("ls -l /etc/ssh");
    assert!(!names.contains("ssh_host_rsa_key") && names.contains("sshd_config"), "{names}");
    assert!(root.text("/etc/ssh/ssh_host_ed25519_key").ends_with("PRIVATE KEY-----\n"));
    let root_owned = |mode: &str| (mode.to_owned(), "0".to_owned(), "0".to_owned());
    assert_eq!(root.ownership("/etc/ssh/ssh_host_ed25519_key"), root_owned("0600"));
    assert_eq!(root.ownership("/etc/ssh/ssh_host_ed25519_key.pub"), root_owned("0644"));
    let masked = root.ask("stat /etc/systemd/system/userconfig.service");
    assert!(masked.contains("/dev/null"), "{masked}");
    assert!(root.text("/etc/cloud/cloud.cfg.d/99-piseduce.cfg").contains("ssh_deletekeys: false\n"));
}

fn assert_user(root: &Root) {
    let shadow = root.text("/etc/shadow");
    assert_eq!(shadow, "root:*:19000:0:99999:7:::\nu:$6$salt$hash:20780:0:99999:7:::\n");
    assert_eq!(root.ownership("/etc/shadow"), ("0640".into(), "0".into(), "42".into()));
    assert_eq!(root.text("/home/u/.ssh/authorized_keys"), "ssh-ed25519 AAAA user@lab\n");
    let own = |mode: &str| (mode.to_owned(), "1000".to_owned(), "1000".to_owned());
    assert_eq!(root.ownership("/home/u/.ssh"), own("0700"));
    assert_eq!(root.ownership("/home/u/.ssh/authorized_keys"), own("0600"));
    for unit in ["piseduce-booted.service", "piseduce-first-boot.service"] {
        let link = root.ask(&format!("stat /etc/systemd/system/multi-user.target.wants/{unit}"));
        assert!(link.contains(&format!("../{unit}")), "{link}");
        assert!(root.text(&format!("/etc/systemd/system/{unit}")).starts_with("[Unit]"));
    }
    let root_owned = |mode: &str| (mode.to_owned(), "0".to_owned(), "0".to_owned());
    assert_eq!(root.ownership("/var/lib/piseduce/booted"), root_owned("0700"));
    assert_eq!(root.ownership("/var/lib/piseduce/booted/token"), root_owned("0600"));
    assert_eq!(root.text("/var/lib/piseduce/booted/token"), "booted-token\n");
    assert_eq!(root.text("/var/lib/piseduce/first-boot/script"), "#!/bin/sh\necho hello\n");
}

#[test]
fn a_used_card_becomes_the_configured_environment_and_boots_only_then() {
    let rig = Rig::new();
    rig.card.write(510, &[0x55, 0xaa]);
    let mut session = None;
    for state in State::AGENTS {
        let done = rig.perform(&mut session, state).unwrap_or_else(|cause| panic!("{state}: {cause}"));
        assert_eq!(rig.card.boots(), state == State::UserConf, "after {state}: {done}");
        match state {
            State::EnvCopy => image::get().assert_on(&rig.card.read(0, image::get().bytes.len())),
            State::DeletePartition => assert_eq!(rig.card.partitions(), [(1, image::BOOT_BYTES)]),
            State::CreatePartition => assert_eq!(rig.card.partitions()[1], (2, CARD_BYTES - ROOT_START)),
            State::ResizePartition => assert!(done.contains(&format!("has {ROOT_BYTES} bytes")), "{done}"),
            _ => {}
        }
    }
    assert_deployed(&rig.card, CARD_BYTES - ROOT_START);
}

#[test]
fn a_root_of_an_exact_size_is_made_and_an_impossible_one_refused() {
    let mut rig = Rig::new();
    rig.work.part_size = "200M".parse().unwrap();
    rig.perform_all(&mut None, &State::AGENTS);
    assert_deployed(&rig.card, 200 * MIB);
    rig.work.part_size = "300M".parse().unwrap();
    let cause = rig.perform(&mut None, State::EnvCopy).unwrap_err();
    assert!(cause.starts_with("part_size_impossible") && cause.ends_with("bytes are possible"), "{cause}");
}

#[test]
fn an_opaque_environment_is_written_and_boots_unchanged() {
    let opaque = Image::cut(Label::Mbr, image::get().bytes.clone(), "opaque");
    let rig = Rig::with(&opaque, LoopCard::dirty(CARD_BYTES, image::IMAGE_BYTES));
    rig.perform_all(&mut None, &State::AGENTS);
    opaque.assert_on(&rig.card.read(0, opaque.bytes.len()));
    assert_eq!(rig.card.read(0, 512), opaque.bytes[..512]);
}

#[test]
fn the_same_environment_again_writes_only_what_the_first_one_changed() {
    let rig = Rig::new();
    rig.perform_all(&mut None, &State::AGENTS);
    let done = rig.perform(&mut None, State::EnvCopy).unwrap();
    let written: u64 = done.split(' ').next().unwrap().parse().unwrap();
    assert!(written < image::get().manifest.defined_bytes() / 2, "{done}");
    assert!(!rig.card.boots());
    image::get().assert_on_defined(&rig.card.read(0, image::get().bytes.len()));
}

#[test]
fn a_byte_that_changes_on_the_card_is_found_by_the_check() {
    let rig = Rig::new();
    let mut session = None;
    rig.perform_all(&mut session, &[State::EnvCopy]);
    let (index, _) = image::get().chunk(ChunkKind::Data, 1);
    let byte = index as u64 * MIB;
    let old = rig.card.read(byte, 1)[0];
    rig.card.write(byte, &[old ^ 0x80]);
    for slot in [&mut session, &mut None] {
        let cause = rig.perform(slot, State::EnvCheck).unwrap_err();
        assert!(
            cause.starts_with(&format!(
                "hash_mismatch: chunk {index}, bytes {byte} to {} of /dev/loop",
                byte + MIB
            )),
            "{cause}"
        );
    }
    rig.perform_all(&mut session, &[State::EnvCopy, State::EnvCheck]);
}

#[test]
fn a_head_that_lies_once_is_asked_again_and_one_that_always_lies_is_named() {
    let rig = Rig::new();
    let (_, chunk) = image::get().chunk(ChunkKind::Data, 2);
    rig.head.lie(path::chunk(chunk.hash), 2);
    rig.perform_all(&mut None, &[State::EnvCopy, State::EnvCheck]);
    rig.head.lie(path::chunk(chunk.hash), u32::MAX);
    let (index, _) = image::get().chunk(ChunkKind::Data, 2);
    rig.card.write(index as u64 * MIB, &[0xee; 4096]);
    let cause = rig.perform(&mut None, State::EnvCopy).unwrap_err();
    assert!(cause.starts_with("hash_mismatch") && cause.contains("came wrong over the network"), "{cause}");
    assert_eq!(rig.card.read(index as u64 * MIB, 4096), [0xee; 4096], "wrong bytes are never written");
}

#[test]
fn what_is_wrong_with_a_card_is_named() {
    let small = Rig::with(image::get(), LoopCard::new(64 * MIB));
    let cause = small.perform(&mut None, State::EnvCopy).unwrap_err();
    assert!(cause.starts_with("card_too_small: the image has 106954752 bytes"), "{cause}");
    let mut rig = Rig::new();
    let path = std::mem::replace(&mut rig.node.card, "/dev/no-such-card".into());
    let cause = rig.perform(&mut None, State::EnvCopy).unwrap_err();
    assert_eq!(cause, "card_missing: there is no card at /dev/no-such-card");
    rig.node.card = path;
    rig.perform_all(&mut None, &[State::EnvCopy]);
    rig.head.withdraw(&path::manifest(image::get().name));
    let cause = rig.perform(&mut None, State::EnvCheck).unwrap_err();
    assert!(cause.starts_with("image_unreachable") && cause.contains("answers 404 for http"), "{cause}");
}

#[test]
fn a_card_that_is_in_use_or_write_protected_is_named_and_stays_as_it_is() {
    let rig = Rig::new();
    rig.card.write(510, &[0x55, 0xaa]);
    let user = Device::open(&rig.card.path, Sharing::Exclusive).unwrap();
    for state in [State::EnvCopy, State::WaitResizing] {
        let cause = rig.perform(&mut None, state).unwrap_err();
        assert!(cause.starts_with("card_busy: /dev/loop"), "{cause}");
    }
    drop(user);
    program::run("blockdev", &["--setro".as_ref(), rig.card.path.as_os_str()]);
    let cause = rig.perform(&mut None, State::EnvCopy).unwrap_err();
    assert!(cause.starts_with("card_read_only: /dev/loop"), "{cause}");
    program::run("blockdev", &["--setrw".as_ref(), rig.card.path.as_os_str()]);
    assert!(rig.card.boots());
}

#[test]
fn a_foreign_bundle_and_a_broken_root_are_named() {
    let mut rig = Rig::new();
    let mut session = None;
    rig.perform_all(&mut session, &State::AGENTS[..7]);
    rig.node.bundle_key = [0; 32];
    let cause = rig.perform(&mut session, State::SystemConf).unwrap_err();
    assert!(
        cause.starts_with("bundle_invalid: configuration bundle was not locked for this boot"),
        "{cause}"
    );
    // Without superblocks there is no file system, whatever the attempt.
    for group in 0..8 {
        rig.card.write(ROOT_START + group * 128 * MIB / 4, &[0xff; 8192]);
    }
    let cause = rig.perform(&mut session, State::MountPartition).unwrap_err();
    assert!(cause.starts_with("tool_failed") || cause.starts_with("filesystem_broken"), "{cause}");
    assert!(!rig.card.boots());
}

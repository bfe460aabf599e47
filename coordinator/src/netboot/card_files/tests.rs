//! Files that come, are complete, and go.

use super::*;

const OWNER: Owner = Owner { serial: Serial(0x1234), deployment: DeploymentId(7), run: Run(1) };

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

const WHOLE: [(&str, &str); 5] = [
    ("./START.ELF", "firmware"),
    ("./config.txt", "kernel=kernel8.img"),
    ("./cmdline.txt", "root=PARTUUID=1-02 resize init=/usr/lib/raspberrypi-sys-mods/firstboot"),
    ("./pieeprom.upd", "danger"),
    ("./overlays/x.dtbo", "x"),
];

fn text(files: &CardFiles, name: &str) -> Option<String> {
    files.file(OWNER, name).map(|path| fs::read_to_string(path).unwrap())
}

#[test]
fn an_archive_becomes_what_firmware_gets_without_what_would_harm() {
    let scratch = tempfile::tempdir().unwrap();
    let files = CardFiles::at(scratch.path().join("card-files"));
    assert_eq!(files.description(OWNER), None);
    let made = files.unpack(OWNER, "ann", &archive(&WHOLE)[..]).unwrap();
    assert_eq!((made.by.as_str(), made.files.len()), ("ann", 4));
    assert_eq!(text(&files, "start.elf").as_deref(), Some("firmware"), "cards know no case");
    assert_eq!(text(&files, "cmdline.txt").as_deref(), Some("root=PARTUUID=1-02\n"));
    assert_eq!(text(&files, "overlays/x.dtbo").as_deref(), Some("x"));
    assert_eq!(text(&files, "pieeprom.upd"), None);
    assert_eq!(text(&files, "../boot-files.json"), None);
    let other = Owner { run: Run(2), ..OWNER };
    assert_eq!(files.file(other, "start.elf"), None, "another run wrote another card");
    files.unpack(other, "ann", &archive(&WHOLE[..3])[..]).unwrap();
    assert_eq!(files.description(OWNER), None, "a node has one card");
    files.keep_only(|serial, deployment| serial == OWNER.serial && deployment == "7");
    assert!(files.description(other).is_some());
    files.keep_only(|_, _| false);
    assert_eq!(files.description(other), None);
}

#[test]
fn an_archive_without_what_is_needed_changes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let files = CardFiles::at(scratch.path().into());
    files.unpack(OWNER, "agent", &archive(&WHOLE)[..]).unwrap();
    let error = files.unpack(OWNER, "ann", &archive(&WHOLE[1..])[..]).unwrap_err().to_string();
    assert_eq!(error, "there is no whole `start.elf`");
    assert!(matches!(
        files.unpack(OWNER, "ann", &b"no archive"[..]),
        Err(CardFilesError::Missing(_) | CardFilesError::Archive(_))
    ));
    assert_eq!(files.description(OWNER).unwrap().by, "agent");
}

#[test]
fn a_set_takes_no_more_than_a_card_may_have() {
    let scratch = tempfile::tempdir().unwrap();
    let files = CardFiles::at(scratch.path().into());
    let part = files.receive(OWNER, "overlays/x.dtbo", ALL_BYTES_MAX).unwrap();
    part.as_file().set_len(ALL_BYTES_MAX).unwrap();
    files.received(OWNER, "overlays/x.dtbo", part).unwrap();
    assert!(matches!(files.receive(OWNER, START, 1), Err(CardFilesError::TooLarge)));
    assert!(files.receive(OWNER, "overlays/x.dtbo", 1).is_ok(), "sent again");
    assert!(files.receive(Owner { run: Run(2), ..OWNER }, START, 1).is_ok());
}

#[test]
fn a_set_is_complete_only_with_all_that_was_announced() {
    let scratch = tempfile::tempdir().unwrap();
    let files = CardFiles::at(scratch.path().into());
    let mut list = BootFileList::new();
    for name in [START, CONFIG, COMMAND_LINE] {
        let mut part = files.receive(OWNER, name, 9).unwrap();
        part.write_all(name.as_bytes()).unwrap();
        files.received(OWNER, name, part).unwrap();
        list.push(BootFile { name: name.into(), bytes: name.len() as u64, hash: Hash::of(name.as_bytes()) });
    }
    let mut wrong = list.clone();
    wrong[0].hash = Hash([0; 32]);
    assert!(matches!(files.complete(OWNER, "agent", &wrong), Err(CardFilesError::Missing(_))));
    assert!(matches!(files.receive(OWNER, "../x", 1), Err(CardFilesError::Name(_))));
    let made = files.complete(OWNER, "agent", &list).unwrap();
    assert!(files.file(OWNER, START).is_some());
    assert_eq!(
        files.complete(OWNER, "agent", &list).unwrap(),
        made,
        "an answer that was lost is given again"
    );
    assert!(files.complete(OWNER, "agent", &wrong).is_err());
}

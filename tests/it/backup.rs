//! Backup and restore: taken while nodes are being deployed, put on a new head, refused when anything is wrong.

use piseduce_coordinator::api::EnvironmentView;
use piseduce_coordinator::store::SCHEMA_VERSION;
use piseduce_protocol::state::{Process, State};
use piseduce_tests::bench_boot_root;
use piseduce_tests::coordinator::{Coordinator, Place};
use piseduce_tests::images;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::monitor::Monitor;
use piseduce_tests::process::run;
use piseduce_tests::wait::wait_for;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A restart comes soon, so that a story with one does not take minutes.
const SOON: &str = "restart_after_s = 20\n";

/// A head node with the small image as environment `lab`, and somewhere to put backups.
struct Head {
    directory: tempfile::TempDir,
    coordinator: Coordinator,
}

impl Head {
    fn new() -> Head {
        let directory = tempfile::tempdir().unwrap();
        let coordinator = Coordinator::start(&directory.path().join("head"), "").unwrap();
        coordinator.add_user(ADMIN, "admin").unwrap();
        let head = Head { directory, coordinator };
        head.add_environment().unwrap();
        head
    }

    fn add_environment(&self) -> anyhow::Result<String> {
        let (settings, image) = (self.coordinator.settings(), images::story().unwrap());
        let (settings, image) = (settings.to_string_lossy(), image.to_string_lossy());
        self.coordinator
            .cli(ADMIN, &["environment", "add", "lab", &image, "--any-architecture", "--config", &settings])
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn backup(&self, name: &str, more: &[&str]) -> PathBuf {
        let file = self.place(name);
        take(&self.coordinator, &file, more).unwrap();
        file
    }

    /// Restores onto this head, which must refuse and change nothing.
    fn refuses(&self, backup: &Path, more: &[&str], expected: &str) {
        let before = files(&self.coordinator.data());
        let error = restore(&self.coordinator, backup, more).unwrap_err().to_string();
        assert!(error.contains(expected), "`{expected}` is not in: {error}");
        assert_eq!(files(&self.coordinator.data()), before, "{error}");
        assert_eq!(leftovers(self.coordinator.data().parent().unwrap()), Vec::<PathBuf>::new(), "{error}");
    }
}

fn take(coordinator: &Coordinator, file: &Path, more: &[&str]) -> anyhow::Result<String> {
    let (settings, file) = (coordinator.settings(), file.to_string_lossy());
    let (settings, start) = (settings.to_string_lossy(), ["backup", &file, "--config"]);
    coordinator.cli(ADMIN, &[&start, &[&*settings][..], more].concat())
}

fn restore(coordinator: &Coordinator, backup: &Path, more: &[&str]) -> anyhow::Result<String> {
    let (settings, backup) = (coordinator.settings(), backup.to_string_lossy());
    let (settings, start) = (settings.to_string_lossy(), ["restore", &backup, "--config"]);
    coordinator.cli(ADMIN, &[&start, &[&*settings][..], more].concat())
}

/// Every file below a directory with its bytes, but for what a running coordinator writes.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        let written = ["store.sqlite", "site.mark"];
        let is_the_stores = written.iter().any(|name| path.to_string_lossy().contains(name));
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if is_the_stores => {}
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

/// What an interrupted backup or restore would leave behind.
fn leftovers(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains(".piseduce-")).collect()
}

/// What is in an archive, as anybody's tar sees it.
fn listing(backup: &Path) -> String {
    run("tar", &["--zstd", "-tvf", &backup.to_string_lossy()]).unwrap()
}

#[test]
fn a_backup_of_a_busy_head_restores_onto_a_new_one_and_its_deployments_go_on() {
    let mut lab = Lab::with_limits(2, SOON);
    let monitor = Monitor::connect(&lab.coordinator);
    lab.deploy(&[]);
    let backup = lab.directory.path().join("busy.tar.zst");
    monitor.wait_for(lab.run_of(0), State::EnvCopy, 60.0);
    take(&lab.coordinator, &backup, &[]).unwrap();
    let ids = [lab.run_of(0).0, lab.run_of(1).0];
    let key = fs::read(lab.coordinator.data().join("site.key")).unwrap();
    drop(monitor);
    lab.coordinator.kill();

    let place = lab.directory.path().join("new head");
    let mut head =
        Coordinator::prepare_at(&Place::of_head(), &place, &format!("boot_spacing_ms = 0\n{SOON}")).unwrap();
    let told = restore(&head, &backup, &[]).unwrap();
    assert!(told.contains("2 nodes, 1 environments, 2 live deployments"), "{told}");
    for user in [ADMIN, USER] {
        fs::copy(lab.coordinator.token_file(user), head.token_file(user)).unwrap();
    }
    bench_boot_root::add_bench(&head.data()).unwrap();
    head.resume().unwrap();
    lab.coordinator = head;
    for (index, id) in ids.into_iter().enumerate() {
        let status = lab.wait_for(index, State::Deployed, 240.0);
        assert_eq!(status.id, id, "the same deployment went on");
    }
    let new_key = fs::read(lab.coordinator.data().join("site.key")).unwrap();
    assert_ne!(key, new_key, "the key of the old head is in no backup");
    // Everything works on the new head: another deployment from the beginning.
    lab.deploy_again_on_blank_card(0);
    lab.wait_for(0, State::Deployed, 120.0);
}

#[test]
fn after_a_restore_deployed_nodes_are_shown_with_the_keys_that_they_have_and_can_be_rebooted() {
    let mut lab = Lab::with_limits(1, SOON);
    lab.deploy(&[]);
    let id = lab.wait_for(0, State::Deployed, 60.0).id;
    let show = |lab: &Lab| {
        let shown = lab.history(id).deployment;
        (shown.known_hosts.expect("a deployed node has a host key"), shown.fingerprint.unwrap())
    };
    let before = show(&lab);
    let backup = lab.directory.path().join("deployed.tar.zst");
    take(&lab.coordinator, &backup, &[]).unwrap();
    lab.coordinator.terminate();
    restore(&lab.coordinator, &backup, &["--replace"]).unwrap();
    // No boot root is in a backup.
    bench_boot_root::add_bench(&lab.coordinator.data()).unwrap();
    lab.coordinator.resume().unwrap();
    assert_eq!(show(&lab), before, "the card still has the key that it got");
    lab.coordinator.cli(USER, &["reboot", "pi-1"]).unwrap();
    let is_rebooted = |history: &piseduce_coordinator::api::DeploymentHistory| {
        let rebooted = history.journal.iter().any(|entry| entry.process == Process::Reboot);
        rebooted && history.deployment.status.state == State::Deployed
    };
    wait_for("the node to be deployed again", 60.0, || lab.history(id), is_rebooted);
    assert_eq!(show(&lab), before);
    // What is deployed from now on follows from the new key.
    lab.deploy_again_on_blank_card(0);
    lab.wait_for(0, State::Deployed, 120.0);
    assert_ne!(show(&lab).1, before.1);
}

#[test]
fn a_backup_holds_what_is_needed_and_no_key() {
    let head = Head::new();
    let backup = head.backup("whole.tar.zst", &[]);
    let listing = listing(&backup);
    assert!(!listing.contains("site.key"), "{listing}");
    let names: Vec<&str> = listing.lines().filter_map(|line| line.split_ascii_whitespace().last()).collect();
    assert_eq!(names[..2], ["backup.json", "store.sqlite"], "{listing}");
    assert!(names.iter().any(|name| name.starts_with("images/packs/")), "{listing}");
    assert!(names.iter().any(|name| name.starts_with("images/manifests/")), "{listing}");
    let key = fs::read(head.coordinator.data().join("site.key")).unwrap();
    let bytes = command_output("tar", &["--zstd", "-xOf", &backup.to_string_lossy()]);
    assert!(bytes.len() > 4096 && !bytes.windows(32).any(|window| window == key));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(backup.metadata().unwrap().permissions().mode() & 0o777, 0o600, "it has hashes of passwords");
    // An existing file is not overwritten.
    let again = take(&head.coordinator, &backup, &[]).unwrap_err().to_string();
    assert!(again.contains("is there already"), "{again}");
    assert_eq!(leftovers(head.directory.path()), Vec::<PathBuf>::new());
}

fn command_output(program: &str, arguments: &[&str]) -> Vec<u8> {
    piseduce_tests::process::command(program).args(arguments).output().unwrap().stdout
}

#[test]
fn restoring_takes_the_place_of_what_is_there_only_when_told_and_keeps_it() {
    let mut head = Head::new();
    let backup = head.backup("b.tar.zst", &[]);
    head.refuses(&backup, &[], "another coordinator uses");
    head.refuses(&backup, &["--replace"], "another coordinator uses");
    head.coordinator.terminate();
    head.refuses(&backup, &[], "is not empty");
    let settings = head.coordinator.settings();
    let settings = settings.to_string_lossy();
    head.coordinator.add_user("later", "user").unwrap();
    let told = restore(&head.coordinator, &backup, &["--replace"]).unwrap();
    let users = head.coordinator.cli(ADMIN, &["user", "list", "--config", &settings]).unwrap();
    assert_eq!(users.trim(), "root  admin", "as it was when the backup was taken");
    let aside = fs::read_dir(head.place("head")).unwrap().map(|entry| entry.unwrap().path());
    let aside = aside.filter(|path| path.to_string_lossy().contains("data.replaced-")).collect::<Vec<_>>();
    assert!(aside.len() == 1 && told.contains(&*aside[0].to_string_lossy()), "{told}");
    let kept = run("sqlite3", &[&aside[0].join("store.sqlite").to_string_lossy(), "SELECT name FROM users"]);
    assert!(kept.unwrap().contains("later"));
    head.coordinator.resume().unwrap();
    let environments: Vec<EnvironmentView> = head.coordinator.get(ADMIN, "environments").unwrap();
    assert_eq!(environments[0].name, "lab");
}

#[test]
fn a_head_without_settings_gets_those_of_the_backup() {
    let mut head = Head::new();
    let backup = head.backup("b.tar.zst", &[]);
    head.coordinator.terminate();
    let settings = fs::read_to_string(head.coordinator.settings()).unwrap();
    fs::remove_file(head.coordinator.settings()).unwrap();
    fs::remove_dir_all(head.coordinator.data()).unwrap();
    let told = restore(&head.coordinator, &backup, &[]).unwrap();
    assert!(told.contains("check the addresses in it"), "{told}");
    assert_eq!(fs::read_to_string(head.coordinator.settings()).unwrap(), settings);
    head.coordinator.resume().unwrap();
}

#[test]
fn a_directory_on_another_disk_stays_there_behind_its_link() {
    let mut head = Head::new();
    let backup = head.backup("b.tar.zst", &[]);
    head.coordinator.terminate();
    let (link, disk) = (head.coordinator.data(), head.place("disk"));
    fs::rename(&link, &disk).unwrap();
    std::os::unix::fs::symlink(&disk, &link).unwrap();
    restore(&head.coordinator, &backup, &["--replace"]).unwrap();
    assert!(link.is_symlink() && disk.join("store.sqlite").exists());
    assert!(!disk.join("site.key").exists(), "it was replaced");
    head.coordinator.resume().unwrap();
}

#[test]
fn without_images_a_restore_says_what_to_import_again_and_that_works() {
    let mut head = Head::new();
    let whole = head.backup("whole.tar.zst", &[]).metadata().unwrap().len();
    let backup = head.backup("small.tar.zst", &["--without-images"]);
    assert!(backup.metadata().unwrap().len() < whole / 4);
    head.coordinator.terminate();
    let told = restore(&head.coordinator, &backup, &["--replace"]).unwrap();
    assert!(told.contains("environment lab has no image"), "{told}");
    head.coordinator.resume().unwrap();
    head.coordinator.cli(ADMIN, &["environment", "remove", "lab"]).unwrap();
    head.add_environment().unwrap();
    let settings = head.coordinator.settings();
    let doctor = head.coordinator.cli(ADMIN, &["doctor", "--config", &settings.to_string_lossy()]).unwrap();
    assert!(doctor.contains("1 in use, none missing"), "{doctor}");
}

#[test]
fn a_backup_that_is_damaged_cut_off_or_foreign_changes_nothing() {
    let mut head = Head::new();
    let backup = head.backup("b.tar.zst", &[]);
    head.coordinator.terminate();
    let good = fs::read(&backup).unwrap();
    let bad = head.place("bad.tar.zst");
    for percent in [0, 1, 30, 60, 90, 99] {
        let cut = good.len() * percent / 100;
        fs::write(&bad, &good[..cut]).unwrap();
        head.refuses(&bad, &["--replace"], "bad.tar.zst");
        let mut flipped = good.clone();
        flipped[cut] ^= 0x10;
        fs::write(&bad, &flipped).unwrap();
        head.refuses(&bad, &["--replace"], "");
    }
    fs::write(&bad, &good[..good.len() - 1]).unwrap();
    head.refuses(&bad, &["--replace"], "cut off or damaged inside its end");
    fs::write(&bad, "not a backup").unwrap();
    head.refuses(&bad, &["--replace"], "is not a backup of PiSeduce");
}

#[test]
fn a_backup_of_a_newer_program_is_refused_with_the_version_that_reads_it() {
    let mut head = Head::new();
    let store = head.coordinator.data().join("store.sqlite");
    head.coordinator.terminate();
    let backup = head.backup("b.tar.zst", &["--without-images"]);
    let tree = head.place("tree");
    fs::create_dir(&tree).unwrap();
    let at = tree.to_string_lossy();
    run("tar", &["--zstd", "-xf", &backup.to_string_lossy(), "-C", &at]).unwrap();
    let list = fs::read_to_string(tree.join("backup.json")).unwrap();
    let version = format!("\"store\": {SCHEMA_VERSION},");
    for (field, newer) in [("\"format\": 1,", "\"format\": 2,"), (&*version, "\"store\": 99,")] {
        assert!(list.contains(field), "{list}");
        let newer = list.replace(field, newer).replace("\"program\": \"", "\"program\": \"9");
        fs::write(tree.join("backup.json"), newer).unwrap();
        let file = head.place("newer.tar.zst");
        let pack = ["--zstd", "-cf", &file.to_string_lossy(), "-C", &at, "backup.json", "store.sqlite"];
        run("tar", &pack).unwrap();
        head.refuses(&file, &["--replace"], "was written by version 9");
    }
    assert!(store.exists());
}

#[test]
fn an_interrupted_restore_leaves_nothing() {
    let mut head = Head::new();
    let backup = fs::read(head.backup("b.tar.zst", &[])).unwrap();
    head.coordinator.terminate();
    // Through a pipe that somebody feeds slowly the moment of the interruption is known.
    let pipe = head.place("pipe");
    run("mkfifo", &[&pipe.to_string_lossy()]).unwrap();
    let settings = head.coordinator.settings();
    let (settings, path) = (settings.to_string_lossy(), pipe.to_string_lossy());
    let arguments = ["restore", &path, "--replace", "--config", &settings];
    let mut restore = head.coordinator.cli_command(ADMIN, &arguments);
    let mut restore = restore.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut feed = fs::File::options().write(true).open(&pipe).unwrap();
    feed.write_all(&backup[..backup.len() / 2]).unwrap();
    let parent = head.place("head");
    wait_for("the restore to work", 20.0, || leftovers(&parent).len(), |count| *count == 1);
    run("kill", &["-TERM", &restore.id().to_string()]).unwrap();
    // What is written next is not looked at any more; the reader may be gone already.
    let _ = feed.write_all(&backup[backup.len() / 2..]);
    drop(feed);
    let ended = wait_for("the restore to end", 20.0, || restore.try_wait().unwrap(), Option::is_some);
    assert!(!ended.unwrap().success());
    let said = std::io::read_to_string(restore.stderr.take().unwrap()).unwrap();
    assert!(said.contains("stopped; nothing was changed"), "{said}");
    assert_eq!(leftovers(&parent), Vec::<PathBuf>::new());
    head.coordinator.resume().unwrap();
}

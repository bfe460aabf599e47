//! What a head leaves to whoever can read its disk: nothing that is not its owner's.

use piseduce_tests::coordinator::Coordinator;
use piseduce_tests::images;
use piseduce_tests::lab::ADMIN;
use piseduce_tests::process::{command, mortal_command, program, run};
use piseduce_tests::wait::wait_for;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;

/// Every file and directory below `directory` that others may look into.
fn open_to_others(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.metadata().unwrap().permissions().mode() & 0o077 != 0 {
            found.push(path.clone());
        }
        if path.is_dir() {
            found.extend(open_to_others(&path));
        }
    }
    found
}

/// The program as somebody starts it whose files are everybody's and whose core dumps are wanted.
fn careless(arguments: &[&str]) -> std::process::Command {
    let mut careless = mortal_command("sh");
    careless.args(["-c", "umask 0; ulimit -c unlimited; exec \"$0\" \"$@\""]).arg(program("piseduce"));
    careless.args(arguments);
    careless
}

fn serve(coordinator: &Coordinator) -> Child {
    let settings = coordinator.settings();
    let addresses = coordinator.data().join("addresses.json");
    let _ = std::fs::remove_file(&addresses);
    let mut serve = careless(&["serve", "--config", &settings.to_string_lossy()]);
    let child = serve.current_dir(coordinator.data().parent().unwrap()).spawn().unwrap();
    wait_for("the coordinator to be up", 30.0, || addresses.exists(), |up| *up);
    child
}

#[test]
fn whatever_the_umask_is_all_files_are_their_owners_and_the_log_is_in_the_store_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::prepare(&directory.path().join("head"), "").unwrap();
    let (settings, data) = (coordinator.settings(), coordinator.data());
    let settings = settings.to_string_lossy();
    let image = images::story().unwrap();
    let (image, backup) = (image.to_string_lossy(), directory.path().join("backup.tar.zst"));
    let token = coordinator.token_file(ADMIN);
    let add = [
        "user",
        "add",
        ADMIN,
        "--role",
        "admin",
        "--token-file",
        &token.to_string_lossy(),
        "--config",
        &settings,
    ];
    assert!(careless(&add).status().unwrap().success());
    assert_eq!(open_to_others(&data), Vec::<PathBuf>::new());
    let mut child = serve(&coordinator);
    let add = ["environment", "add", "lab", &image, "--any-architecture", "--config", &settings];
    assert!(careless(&add).status().unwrap().success());
    let take = ["backup", &backup.to_string_lossy(), "--config", &settings];
    assert!(careless(&take).status().unwrap().success());
    assert_eq!(open_to_others(&data), Vec::<PathBuf>::new());
    assert_eq!(backup.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(data.join("store.sqlite-wal").metadata().unwrap().len() > 0, "changes are in the log first");

    run("kill", &["-TERM", &child.id().to_string()]).unwrap();
    let ended = wait_for("the coordinator to end", 20.0, || child.try_wait().unwrap(), Option::is_some);
    assert!(ended.unwrap().success());
    for beside in ["store.sqlite-wal", "store.sqlite-shm"] {
        assert!(!data.join(beside).exists(), "{beside} is left");
    }
    assert_eq!(open_to_others(&data), Vec::<PathBuf>::new());
}

#[test]
fn the_memory_of_a_coordinator_is_never_dumped() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::prepare(&directory.path().join("head"), "").unwrap();
    // Somebody who is not careful does get a dump, or this shows nothing.
    let own = "ulimit -c unlimited; kill -ABRT $$";
    let own = command("sh").args(["-c", own]).current_dir(directory.path()).status().unwrap();
    assert!(own.core_dumped(), "{own}");
    let mut child = serve(&coordinator);
    run("kill", &["-ABRT", &child.id().to_string()]).unwrap();
    let ended = wait_for("the coordinator to end", 20.0, || child.try_wait().unwrap(), Option::is_some);
    assert!(ended.is_some_and(|ended| ended.signal().is_some() && !ended.core_dumped()), "{ended:?}");
}

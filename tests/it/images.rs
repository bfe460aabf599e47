//! Environments from the operator's side: what is refused, what is shown, and how long an image is kept that
//! was removed while nodes are deployed from it.

use piseduce_protocol::state::State;
use piseduce_tests::coordinator::Coordinator;
use piseduce_tests::images;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::process::run;
use piseduce_tests::wait::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The images' directory of a coordinator in `directory`.
fn library(directory: &Path) -> PathBuf {
    directory.join("data/images")
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn an_image_whose_environment_was_removed_is_kept_until_its_last_deployment_ends() {
    let mut lab = Lab::new(2);
    let packs = library(&lab.directory.path().join("head")).join("packs");
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 120.0);
    lab.wait_for(1, State::Deployed, 120.0);
    let said = lab.coordinator.cli(ADMIN, &["environment", "remove", "story"]).unwrap();
    assert_eq!(said.trim(), "environment story removed; its image is kept for 2 deployments until they end");

    // Neither a restart, which sweeps, nor the end of the first takes it from the other.
    lab.coordinator.kill();
    lab.coordinator.resume().unwrap();
    lab.coordinator.cli(USER, &["destroy", "pi-1"]).unwrap();
    lab.wait_until_free(0, 60.0);
    lab.deploy_again_on_blank_card(1);
    lab.wait_for(1, State::Deployed, 120.0);
    assert_eq!(count(&packs), 1);
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let key = lab.directory.path().join("key.pub");
    let deploy = ["deploy", "pi-1", "--environment", "story", "--ssh-key", &key.to_string_lossy()];
    let refused = lab.coordinator.cli(USER, &deploy).unwrap_err().to_string();
    assert!(refused.contains("there is no environment `story`"), "{refused}");

    lab.coordinator.cli(USER, &["destroy", "pi-2"]).unwrap();
    lab.wait_until_free(1, 60.0);
    wait_for("the image to be swept", 30.0, || count(&packs), |count| *count == 0);
}

/// A coordinator without a rack.
fn coordinator(directory: &Path) -> Coordinator {
    let coordinator = Coordinator::start(directory, "").unwrap();
    coordinator.add_user(ADMIN, "admin").unwrap();
    coordinator
}

/// Runs `piseduce environment add lab` with these arguments.
fn add(coordinator: &Coordinator, arguments: &[&str]) -> Result<String, String> {
    let settings = coordinator.settings();
    let add = ["environment", "add", "lab", "--config", settings.to_str().unwrap()];
    coordinator.cli(ADMIN, &[&add, arguments].concat()).map_err(|error| error.to_string())
}

#[test]
fn what_an_image_is_not_is_said_before_it_becomes_an_environment_and_what_it_is_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = coordinator(directory.path());
    let image = images::story().unwrap();
    let image = image.to_str().unwrap();
    // The small image has this machine's busybox.
    let said = add(&coordinator, &[image]).unwrap_err();
    let machine = run("uname", &["-m"]).unwrap();
    assert!(said.contains(&format!("its programs are for {}", machine.trim())), "{said}");
    let wrong = "5".repeat(64);
    let said = add(&coordinator, &[image, "--any-architecture", "--sha256", &wrong]).unwrap_err();
    assert!(said.contains(&format!("but {wrong} was expected")), "{said}");
    let said = add(&coordinator, &["https://server/os.img.xz"]).unwrap_err();
    assert!(said.contains("only http:// addresses are fetched here"), "{said}");
    assert_eq!(count(&library(directory.path()).join("packs")), 0);

    let sum = run("sha256sum", &[image]).unwrap();
    let added = add(&coordinator, &[image, "--any-architecture", "--sha256", &sum[..64]]).unwrap();
    assert!(
        added.contains("environment lab added (debian 12: ") && added.contains(" MB of it in use"),
        "{added}"
    );
    let shown = coordinator.cli(ADMIN, &["environment", "show", "lab"]).unwrap();
    let line =
        |word: &str| shown.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{shown}"));
    assert!(line("BOOTFS").ends_with("boot") && line("rootfs").ends_with("root"), "{shown}");
    assert!(line("of it in use").contains("stored in"), "{shown}");
    let removed = coordinator.cli(ADMIN, &["environment", "remove", "lab"]).unwrap();
    assert_eq!(removed.trim(), "environment lab removed");
    let packs = library(directory.path()).join("packs");
    wait_for("the image to be swept", 30.0, || count(&packs), |count| *count == 0);
}

#[test]
fn ctrl_c_ends_an_import_from_a_server_that_says_nothing_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = coordinator(directory.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/os.img", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nand then nothing").unwrap();
        // Ends when the other side hangs up.
        BufReader::new(connection).lines().map_while(Result::ok).count()
    });
    let settings = coordinator.settings();
    let arguments = ["environment", "add", "lab", "--config", settings.to_str().unwrap(), &address];
    let child = coordinator.cli_command(ADMIN, &arguments).stderr(Stdio::piped()).spawn().unwrap();
    let fetched = library(directory.path()).join("incoming/0/fetched");
    wait_for("the import to begin", 60.0, || fetched.exists(), |exists| *exists);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&format!("import of {address} was stopped")), "{said}");
    assert_eq!(count(&library(directory.path()).join("incoming")), 0);
    server.join().unwrap();
}

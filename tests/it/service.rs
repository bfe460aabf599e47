//! The coordinator as a service of systemd: its unit, what it tells the service manager, what it forgets.

use piseduce_tests::coordinator::Coordinator;
use piseduce_tests::process::{command, program, workspace};
use piseduce_tests::wait::wait_for;
use std::os::unix::net::UnixDatagram;
use std::process::Output;

/// Keys that systemd 252 of Debian 12 does not know yet; it says so and goes on.
const NEWER_KEYS: [&str; 2] = ["RestartSteps", "RestartMaxDelaySec"];

/// The unit file, starting the program that was built here.
fn unit(directory: &std::path::Path) -> String {
    let text = std::fs::read_to_string(workspace().join("coordinator/systemd/piseduce.service")).unwrap();
    let built = program("piseduce");
    assert!(text.contains("\nExecStart=/usr/local/bin/piseduce serve\n"));
    let text = text.replace("/usr/local/bin/piseduce", &built.to_string_lossy());
    let file = directory.join("piseduce.service");
    std::fs::write(&file, text).unwrap();
    file.to_string_lossy().into_owned()
}

fn analyze(arguments: &[&str]) -> Output {
    let mut analyze = command("systemd-analyze");
    analyze.args(arguments).env("SYSTEMD_LOG_COLOR", "0").env("SYSTEMD_COLORS", "0");
    analyze.output().expect("systemd-analyze is in Debian's package systemd")
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let directory = tempfile::tempdir().unwrap();
    let verified = analyze(&["verify", "--man=no", &unit(directory.path())]);
    let said = String::from_utf8_lossy(&verified.stderr);
    let about_ours = said.lines().filter(|line| line.contains("piseduce"));
    let complaints: Vec<&str> =
        about_ours.filter(|line| !NEWER_KEYS.iter().any(|key| line.contains(key))).collect();
    assert!(complaints.is_empty(), "{said}");
}

#[test]
fn the_unit_gives_the_service_little_that_it_does_not_need() {
    let directory = tempfile::tempdir().unwrap();
    // 25 of 100: what is left is network, serial devices and low ports, which the service is for.
    let judged = analyze(&["security", "--offline=true", "--threshold=25", &unit(directory.path())]);
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

#[test]
fn the_service_manager_hears_that_it_is_up_lives_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let mut heard = String::new();
    let mut listen = |word: &str, limit| {
        let look = || {
            let mut buffer = [0; 256];
            while let Ok(count) = manager.recv(&mut buffer) {
                heard += &String::from_utf8_lossy(&buffer[..count]);
            }
            heard.clone()
        };
        wait_for(word, limit, look, |heard| heard.contains(word));
    };
    let mut coordinator = Coordinator::prepare(&directory.path().join("head"), "").unwrap();
    let socket = path.to_string_lossy();
    coordinator.resume_with(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "600000")]).unwrap();
    listen("READY=1\n", 30.0);
    listen("WATCHDOG=1\nWATCHDOG=1\n", 30.0);
    assert!(coordinator.terminate().success());
    listen("STOPPING=1\n", 5.0);
}

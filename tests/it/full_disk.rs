//! A head whose disk is full: what is under way goes on, what is asked is refused in words, and it starts all the same.

use piseduce_coordinator::api::CoordinatorView;
use piseduce_protocol::state::State;
use piseduce_tests::disk::SmallDisk;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::wait::wait_for;

fn trouble(lab: &Lab) -> Option<String> {
    lab.coordinator.get::<CoordinatorView>(USER, "coordinator").expect("the coordinator answers").disk
}

fn refusal(lab: &Lab, arguments: &[&str]) -> String {
    lab.coordinator.cli(ADMIN, arguments).unwrap_err().to_string()
}

#[test]
fn on_a_full_disk_deployments_go_on_requests_are_refused_in_words_and_the_head_starts() {
    let mut lab = Lab::new(2);
    lab.coordinator.terminate();
    let disk = SmallDisk::over(&lab.coordinator.data(), 512 << 20).unwrap();
    lab.coordinator.resume().unwrap();
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "4h"]).unwrap();
    let key = lab.directory.path().join("key.pub");
    let form = ["deploy", "pi-1", "--environment", "story", "--ssh-key", &key.to_string_lossy()];
    lab.coordinator.cli(USER, &form).unwrap();
    disk.fill().unwrap();

    // The deployment needs room, and takes what was kept back.
    lab.wait_for(0, State::Deployed, 120.0);
    wait_for("the trouble to be shown", 30.0, || trouble(&lab), Option::is_some);
    let said = refusal(&lab, &["reserve", "pi-2", "--for", "1h"]);
    assert!(said.contains("is full: ") && said.contains("make room"), "{said}");
    let settings = lab.coordinator.settings();
    let settings = settings.to_string_lossy();
    let doctor = lab.coordinator.cli_output(ADMIN, &["doctor", "--config", &settings]).unwrap();
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("the disk is or was full"), "{doctor}");
    let image = piseduce_tests::images::story().unwrap();
    let add =
        ["environment", "add", "more", &image.to_string_lossy(), "--any-architecture", "--config", &settings];
    let said = refusal(&lab, &add);
    assert!(said.contains("free"), "{said}");
    let stick = SmallDisk::new(64 << 10).unwrap();
    let backup = stick.path().join("backup.tar.zst");
    let said = refusal(&lab, &["backup", &backup.to_string_lossy(), "--config", &settings]);
    let names_it = said.contains(&*stick.path().to_string_lossy());
    assert!(names_it && (said.contains("is full") || said.contains("No space left")), "{said}");

    lab.coordinator.terminate();
    // Whatever the write-ahead log gave back is taken by somebody else, too.
    disk.fill().unwrap();
    lab.coordinator.resume().unwrap();
    assert_eq!(lab.status(0).unwrap().state, State::Deployed);
    let said = refusal(&lab, &["reserve", "pi-2", "--for", "1h"]);
    assert!(said.contains("is full: "), "{said}");

    disk.make_room();
    wait_for("requests to be taken again", 30.0, || trouble(&lab), Option::is_none);
    lab.coordinator.cli(USER, &["reserve", "pi-2", "--for", "1h"]).unwrap();
    lab.coordinator.kill();
}

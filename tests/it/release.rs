//! Giving nodes back: a free node has come back into the boot root and shows nothing of its last user.

use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::command::Wipe;
use piseduce_protocol::state::{Process, State};
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::process::program;
use piseduce_tests::wait::wait_for;
use std::path::Path;

/// The bytes at the start of the first partition of the story's image, and of its second.
const PARTITIONS: [u64; 2] = [1 << 20, 65 << 20];

fn assert_shows_nothing(lab: &Lab) {
    lab.rack.with_card(0, |card| {
        for start in [0, PARTITIONS[0], PARTITIONS[1]] {
            let found = card.read(start, 1 << 20).unwrap();
            assert!(found.iter().all(|byte| *byte == 0), "old content within 1 MiB of {start}");
        }
    });
}

fn quarantined(lab: &Lab) -> CauseKind {
    let rests = |status: &Option<piseduce_protocol::status::DeploymentStatus>| {
        status.as_ref().is_some_and(|status| status.state == State::Quarantined)
    };
    let status = wait_for("the node to be quarantined", 60.0, || lab.status(0), rests).unwrap();
    let cause = status.cause.expect("quarantine has a cause");
    CauseKind::ALL.iter().copied().find(|kind| cause.is(*kind)).expect("a cause of this version")
}

#[test]
fn a_node_that_is_given_back_came_back_was_wiped_and_is_off() {
    let lab = Lab::new(1);
    lab.deploy(&[]);
    let id = lab.wait_for(0, State::Deployed, 60.0).id;
    lab.coordinator.cli(USER, &["destroy", "pi-1", "--wait"]).unwrap();
    assert_eq!(lab.status(0), None);
    assert!(!lab.rack.is_on(0));
    assert_shows_nothing(&lab);
    let history = lab.history(id);
    let states: Vec<State> = history
        .journal
        .iter()
        .filter(|entry| entry.process == Process::Destroy)
        .map(|entry| entry.state)
        .fold(Vec::new(), |mut states, state| {
            if states.last() != Some(&state) {
                states.push(state);
            }
            states
        });
    use State::{NfsBootConf, NfsBootOff, NfsBootOn, TurnOff};
    // The last entry is the end itself, which belongs to no process any more.
    assert_eq!(states, [NfsBootConf, NfsBootOff, NfsBootOn, State::Wipe, TurnOff]);
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 60.0);
}

#[test]
fn a_node_that_does_not_come_back_is_quarantined_and_free_after_a_test() {
    let mut lab = Lab::with_limits(1, "restart_after_s = 2\nblocked_max_s = 6\n");
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 60.0);
    lab.rack.set_agent(0, Path::new("/bin/sleep"));
    let ended = lab.coordinator.cli_output(USER, &["destroy", "pi-1", "--wait"]).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(quarantined(&lab), CauseKind::KernelSentNoAgent);
    assert!(!lab.rack.is_on(0), "a node in quarantine is off");

    for user in [USER, ADMIN] {
        let refused = lab.coordinator.cli(user, &["destroy", "pi-1"]).unwrap_err().to_string();
        assert!(refused.contains("is quarantined: an administrator must look at it"), "{refused}");
        let refused = lab.coordinator.cli(user, &["reserve", "pi-1", "--for", "1h"]).unwrap_err().to_string();
        assert!(refused.contains("node `pi-1` is quarantined: it could not be released"), "{refused}");
    }
    let refused = lab.coordinator.cli(USER, &["node", "test", "pi-1"]).unwrap_err().to_string();
    assert!(refused.contains("user ann may not do this"), "{refused}");
    let tested = lab.coordinator.cli_output(ADMIN, &["node", "test", "pi-1", "--wait"]).unwrap();
    assert_eq!(tested.status.code(), Some(3), "it still does not come back");

    lab.coordinator.kill();
    lab.coordinator.resume().unwrap();
    assert_eq!(quarantined(&lab), CauseKind::KernelSentNoAgent, "a restart frees nothing");
    lab.rack.set_agent(0, &program("piseduce-agent"));
    lab.coordinator.cli(ADMIN, &["node", "test", "pi-1", "--wait"]).unwrap();
    assert_eq!(lab.status(0), None);
    assert_shows_nothing(&lab);
}

#[test]
fn a_free_node_can_be_tested_and_one_that_is_held_cannot() {
    let lab = Lab::new(1);
    lab.coordinator.cli(ADMIN, &["node", "test", "pi-1", "--wait"]).unwrap();
    assert_eq!(lab.status(0), None);
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let refused = lab.coordinator.cli(ADMIN, &["node", "test", "pi-1"]).unwrap_err().to_string();
    assert!(refused.contains("node `pi-1` is held by ann"), "{refused}");
    assert_eq!(lab.status(0).unwrap().state, State::Initialized);
}

#[test]
fn a_wipe_that_is_put_off_is_owed_and_paid_before_another_users_first_byte() {
    let lab = Lab::with_limits(1, "[release]\nwipe = \"zero\"\nwipe_when = \"next_use\"\n");
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 60.0);
    lab.coordinator.cli(USER, &["destroy", "pi-1", "--wait"]).unwrap();
    let owes = || lab.node(0).owes.map(|owes| (owes.wipe, owes.used_by));
    assert_eq!(owes(), Some((Wipe::Zero, USER.into())));
    assert_shows_nothing(&lab);

    // Their own content need not be hidden from them.
    lab.deploy(&[]);
    let id = lab.wait_for(0, State::Deployed, 60.0).id;
    assert!(lab.history(id).journal.iter().all(|entry| entry.state != State::Wipe));
    lab.coordinator.cli(USER, &["destroy", "pi-1", "--wait"]).unwrap();

    lab.rack.with_card(0, |card| card.write(900 << 20, &[0x77; 4096]).unwrap());
    lab.deploy_as(ADMIN, &[]);
    let id = lab.wait_for(0, State::Deployed, 60.0).id;
    assert!(lab.history(id).journal.iter().any(|entry| entry.state == State::Wipe));
    lab.coordinator.cli(ADMIN, &["destroy", "pi-1", "--wait"]).unwrap();
    let left = lab.rack.with_card(0, |card| card.read(900 << 20, 4096).unwrap());
    assert!(left.iter().all(|byte| *byte == 0), "the other user's content is still there");
    assert_eq!(owes(), Some((Wipe::Zero, ADMIN.into())));
}

//! Nodes that say nothing, or not what they should: never lost without a cause, never believed too much.

use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::id::{BootNumber, Run, Seq, Serial, Ticket};
use piseduce_protocol::report::Outcome;
use piseduce_protocol::state::State;
use piseduce_protocol::status::DeploymentStatus;
use piseduce_tests::board::BootSource;
use piseduce_tests::false_agent::FalseAgent;
use piseduce_tests::lab::{Lab, USER};
use piseduce_tests::wait::wait_for;
use std::path::Path;

/// A program in the agent's place that never says anything.
const MUTE: &str = "/usr/bin/yes";

fn silence_of(lab: &Lab, limit: f64) -> DeploymentStatus {
    let lost = |status: &Option<DeploymentStatus>| status.as_ref().is_some_and(|s| s.state == State::Lost);
    wait_for("the node to be lost", limit, || lab.status(0), lost).unwrap()
}

#[test]
fn a_node_that_never_says_hello_is_lost_with_its_cause_after_every_restart() {
    let lab = Lab::with_limits(1, "restart_after_s = 1\nblocked_max_s = 3\n");
    lab.rack.set_agent(0, Path::new("/bin/sleep"));
    lab.deploy(&[]);
    let status = silence_of(&lab, 60.0);
    let cause = status.cause.unwrap();
    assert!(cause.is(CauseKind::KernelSentNoAgent), "{cause}");
    assert!(cause.seen.contains("the firmware fetched the boot root"), "{cause}");
    assert_eq!(lab.history(status.id).deployment.restarts, 2);
    // It is kept for its user, who may try again, here with an agent that works.
    lab.rack.set_agent(0, &piseduce_tests::process::program("piseduce-agent"));
    lab.coordinator.cli(USER, &["reboot", "pi-1"]).unwrap();
    lab.wait_for(0, State::Deployed, 60.0);
}

#[test]
fn a_node_whose_firmware_asks_for_nothing_is_lost_with_its_cause() {
    let lab = Lab::with_limits(1, "restart_after_s = 1\nblocked_max_s = 3\n");
    lab.rack.connect(&BootSource::Nobody);
    lab.deploy(&[]);
    let cause = silence_of(&lab, 60.0).cause.unwrap();
    assert!(cause.is(CauseKind::NoBootRequest), "{cause}");
}

#[test]
fn reports_of_another_run_boot_or_number_change_nothing() {
    let lab = Lab::new(1);
    lab.rack.set_agent(0, Path::new(MUTE));
    lab.deploy(&[]);
    let status = lab.wait_for(0, State::NfsBootOn, 30.0);
    let serial: Serial = lab.rack.nodes[0].serial.parse().unwrap();
    let boot = wait_for_live_boot(&lab, serial);
    let mut agent = FalseAgent::connect(&lab, 0, boot);
    agent.hello("one");
    let command = agent.command();
    let right = command.ticket;
    assert_eq!((right.deployment, right.run), (status.id, Run(1)));

    for wrong in [
        Ticket { seq: Seq(right.seq.0 - 1), ..right },
        Ticket { seq: right.seq.next(), ..right },
        Ticket { run: Run(0), ..right },
        Ticket { run: Run(2), ..right },
    ] {
        agent.answer(wrong, Outcome::Done("no".into()));
    }
    let done = |ticket| {
        piseduce_protocol::report::Report::Answer(piseduce_protocol::report::Answer {
            ticket,
            outcome: Outcome::Done("no".into()),
        })
    };
    agent.report_as(BootNumber(boot.0 - 1), 1000, &done(right));
    agent.report_as(boot, 1, &done(Ticket { seq: Seq(0), ..right }));
    // Messages keep their order: when this refusal is in the log, all before it were heard.
    agent.answer(right, Outcome::Refused("everything was heard".into()));
    let log = || std::fs::read_to_string(lab.coordinator.log()).unwrap();
    wait_for("the refusal", 10.0, log, |log| log.contains("everything was heard"));
    assert_eq!(lab.status(0).unwrap().state, State::EnvCopy);

    agent.answer(right, Outcome::Done("yes".into()));
    lab.wait_for(0, State::EnvCheck, 10.0);
    let history = lab.history(status.id);
    assert!(history.journal.iter().all(|entry| entry.detail.as_deref() != Some("no")));
}

#[test]
fn a_second_kernel_with_the_same_credentials_ends_the_run() {
    let lab = Lab::new(1);
    lab.rack.set_agent(0, Path::new(MUTE));
    lab.deploy(&[]);
    lab.wait_for(0, State::NfsBootOn, 30.0);
    let serial: Serial = lab.rack.nodes[0].serial.parse().unwrap();
    let mut agent = FalseAgent::connect(&lab, 0, wait_for_live_boot(&lab, serial));
    agent.hello("one");
    agent.command();
    agent.hello("two");
    let failed =
        |status: &Option<DeploymentStatus>| status.as_ref().is_some_and(|s| s.state == State::Failed);
    let status = wait_for("the run to end", 30.0, || lab.status(0), failed).unwrap();
    assert!(status.cause.unwrap().is(CauseKind::IdentityConflict));
    assert!(!lab.rack.is_on(0), "both kernels are without power");
}

/// The boot for which the node's credentials are good now, from the command line it was given.
fn wait_for_live_boot(lab: &Lab, serial: Serial) -> BootNumber {
    let tree = lab.rack.place(0).join("tree/proc/cmdline");
    let parameters = || {
        let line = std::fs::read_to_string(&tree).ok()?;
        let found = piseduce_protocol::boot::BootParameters::parse(&line).ok()?;
        (found.serial == serial).then_some(found.boot)
    };
    wait_for("the node to get its credentials", 30.0, parameters, Option::is_some).unwrap()
}

#[test]
fn a_script_that_fails_is_a_failure_with_its_exit_code_and_output() {
    let lab = Lab::new(1);
    let script = lab.file("script.sh", "#!/bin/sh\necho it broke >&2\nexit 7\n");
    let names = lab.names();
    let key = lab.directory.path().join("key.pub").to_string_lossy().into_owned();
    lab.coordinator.cli(USER, &["reserve", names[0], "--for", "1h"]).unwrap();
    let arguments =
        ["deploy", names[0], "--environment", "story", "--ssh-key", &key, "--script", &script, "--wait"];
    let output = lab.coordinator.cli_output(USER, &arguments).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("pi-1: failed, script_failed: exit code 7"), "{said}");
    let id = lab.status(0).unwrap().id;
    let shown = lab.coordinator.cli(USER, &["deployment", "show", &id.to_string()]).unwrap();
    assert!(shown.contains("it broke") && shown.contains("exit code 7"), "{shown}");
}

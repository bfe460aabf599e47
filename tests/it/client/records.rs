//! What can be read of a deployment afterwards and while it goes on: logs, exports, and what an interrupted
//! wait says.

use super::{check_fields, said};
use piseduce_coordinator::credentials::{Credentials, Proof};
use piseduce_protocol::id::{BootNumber, DeploymentId, Hash, Run, Serial};
use piseduce_protocol::state::State;
use piseduce_tests::false_agent::site_key;
use piseduce_tests::lab::{ADMIN, Lab, SSH_KEY, USER};
use piseduce_tests::wait::wait_for;
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

#[test]
fn logs_tell_state_agent_and_cause_in_order_and_following_ends_with_the_run() {
    let lab = Lab::new(1);
    lab.deploy(&["--part-size", "900G"]);
    let follow = ["deployment", "logs", "pi-1", "--follow"];
    let output = lab.coordinator.cli_output(USER, &follow).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}{}", said(&output));
    let at =
        |what: &str| text.find(what).unwrap_or_else(|| panic!("no `{what}` in\n{text}\n{}", lab.story_of(0)));
    assert!(at("state  nfs_boot_on") < at("state  env_copy"));
    assert!(
        at("work begins") < at("work failed")
            && at("work failed") < at("state  failed, part_size_impossible")
    );
    // The second run has logs of its own, and the first keeps its.
    lab.coordinator.cli(USER, &["deploy-again", "pi-1"]).unwrap();
    let failed = |status: &Option<piseduce_protocol::status::DeploymentStatus>| {
        status.as_ref().is_some_and(|status| status.state == State::Failed && status.run == Run(2))
    };
    wait_for("the second run to fail", 60.0, || lab.status(0), failed);
    let first = lab.coordinator.cli(USER, &["deployment", "logs", "pi-1", "--run", "1"]).unwrap();
    let second = lab.coordinator.cli(USER, &["deployment", "logs", "pi-1"]).unwrap();
    assert!(first.starts_with("deployment 1 on pi-1, run 1\n") && first.contains("work failed"), "{first}");
    assert!(
        second.starts_with("deployment 1 on pi-1, run 2\n") && second.contains("work failed"),
        "{second}"
    );
    assert!(first.contains("ticket=1.1.") && !first.contains("ticket=1.2."), "{first}");
}

#[test]
fn an_interrupted_wait_says_that_the_deployment_goes_on() {
    let lab = Lab::new(1);
    lab.rack.set_agent(0, Path::new("/bin/sleep"));
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let key = lab.file("key.pub", SSH_KEY);
    let deploy = ["deploy", "pi-1", "--environment", "story", "--ssh-key", &key, "--wait"];
    for arguments in
        [&deploy[..], &["deployment", "watch", "pi-1"], &["deployment", "logs", "pi-1", "--follow"]]
    {
        let mut waiting = lab.coordinator.cli_command(USER, arguments);
        let mut waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(waiting.stdout.take().unwrap()).lines();
        lines.next().expect("it says where the deployment is").unwrap();
        let pid = rustix::process::Pid::from_child(&waiting);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = waiting.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{arguments:?}: {}", said(&output));
        assert!(
            said(&output).contains("interrupted; deployment 1 on pi-1 stays under way"),
            "{}",
            said(&output)
        );
        assert!(said(&output).contains("`piseduce deployment watch 1`"), "{}", said(&output));
    }
    assert!(lab.status(0).unwrap().state < State::Deployed, "it goes on");
}

#[test]
fn an_export_tells_everything_but_secrets() {
    let lab = Lab::new(1);
    let script = "#!/bin/sh\n# swordfish-script\necho the output\n";
    let script_file = lab.file("script.sh", script);
    let password = lab.file("password", "swordfish-password\n");
    lab.deploy(&["--script", &script_file, "--password-file", &password]);
    let status = lab.wait_for(0, State::Deployed, 60.0);
    let file = lab.directory.path().join("export.json");
    let export = ["deployment", "export", "pi-1", "--output", &file.to_string_lossy()];
    let told = lab.coordinator.cli(USER, &export).unwrap();
    assert_eq!(told.trim(), format!("deployment 1 exported to {}", file.display()));
    let text = fs::read_to_string(&file).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    check_fields(
        &value,
        &[
            "schema",
            "exported_unix_ms",
            "coordinator",
            "node",
            "deployment",
            "form",
            "image",
            "journal",
            "causes",
            "agents",
            "runs",
        ],
    );
    check_fields(
        &value["form"],
        &[
            "environment",
            "manifest",
            "reports",
            "part_size",
            "has_password",
            "ssh_keys",
            "script_bytes",
            "script_hash",
            "script",
            "rerun_script",
            "script_seconds",
        ],
    );
    check_fields(&value["agents"][0]["hello"], &["serial", "agent", "card", "bootloader"]);
    assert!(value["runs"][0]["agent"].as_array().unwrap().len() >= 9, "{text}");
    assert_eq!(value["runs"][0]["script"]["output"], "the output\n");
    assert_eq!(value["journal"].as_array().unwrap().len(), lab.history(status.id).journal.len());
    assert_eq!(value["form"]["has_password"], true);
    assert!(value["form"]["ssh_keys"][0].as_str().unwrap().starts_with("SHA256:"));

    let secrets = secrets(&lab, status.id, status.run);
    let kernel = fs::read_to_string(lab.rack.place(0).join("kernel.log")).unwrap();
    for secret in &secrets {
        assert!(!text.contains(secret.as_str()), "`{secret}` is in the export");
        assert!(!kernel.contains(secret.as_str()), "`{secret}` is in the agent's log");
    }
    let with_script = lab.coordinator.cli(USER, &["deployment", "export", "1", "--with-script"]).unwrap();
    assert!(with_script.contains("swordfish-script"), "the script was asked for");
}

/// What must not leave the head node.
fn secrets(lab: &Lab, deployment: DeploymentId, run: Run) -> Vec<String> {
    let key = site_key(&lab.coordinator);
    let serial: Serial = lab.rack.nodes[0].serial.parse().unwrap();
    let credentials = Credentials::new(key.clone());
    let token = |user| fs::read_to_string(lab.coordinator.token_file(user)).unwrap().trim().to_owned();
    let mut secrets = vec![
        Hash(key.0).to_string(),
        credentials.coordinator_password(),
        credentials.card_token(Proof::Booted, deployment, run),
        credentials.card_token(Proof::FirstBoot, deployment, run),
        "PRIVATE KEY".into(),
        "swordfish-password".into(),
        "swordfish-script".into(),
        "$5$".into(),
        "$6$".into(),
        SSH_KEY.split(' ').nth(1).unwrap().into(),
        token(USER),
        token(ADMIN),
        Hash::of(token(USER).as_bytes()).to_string(),
    ];
    for boot in (0..4).map(BootNumber) {
        let keys = credentials.boot_keys(serial, boot);
        secrets.push(credentials.boot_token(serial, boot).to_hex());
        secrets.extend([keys.mqtt_password, Hash(keys.message).to_string(), Hash(keys.bundle).to_string()]);
    }
    secrets
}

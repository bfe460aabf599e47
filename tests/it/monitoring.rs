//! What anyone with an MQTT client may read, with Debian's own client, and what nobody else may.

use piseduce_protocol::state::State;
use piseduce_protocol::status::{NodeStatus, StateEvent};
use piseduce_tests::lab::{ADMIN, Lab};
use piseduce_tests::monitor::MONITOR;
use piseduce_tests::process::command;
use piseduce_tests::wait::wait_for;
use std::process::{Output, Stdio};

fn mosquitto(lab: &Lab, program: &str, arguments: &[&str]) -> std::process::Command {
    let token = std::fs::read_to_string(lab.coordinator.token_file(MONITOR)).unwrap();
    let mut client = command(program);
    let broker = lab.coordinator.broker;
    client.args(["-h", &broker.ip().to_string(), "-p", &broker.port().to_string()]);
    client.args(["-u", MONITOR, "-P", token.trim()]).args(arguments);
    client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    client
}

fn output(mut command: std::process::Command) -> Output {
    command.output().expect("mosquitto_sub and mosquitto_pub are in Debian's package mosquitto-clients")
}

#[test]
fn a_monitoring_user_reads_status_and_events_with_debians_client() {
    let lab = Lab::new(1);
    let events = ["-t", "piseduce/main/event", "-C", "16", "-W", "60"];
    let following = mosquitto(&lab, "mosquitto_sub", &events).spawn().unwrap();
    // The follower is there once the broker has let it in.
    let log = || std::fs::read_to_string(lab.coordinator.log()).unwrap();
    wait_for("the follower", 10.0, log, |log| log.contains("monitor watcher"));
    lab.deploy(&[]);
    let followed = following.wait_with_output().unwrap();
    let states: Vec<State> = String::from_utf8_lossy(&followed.stdout)
        .lines()
        .map(|line| serde_json::from_str::<StateEvent>(line).unwrap().state)
        .collect();
    assert_eq!(states, State::ALL[State::NfsBootConf as usize..=State::Deployed as usize]);

    // Who comes after an event finds how things stand: the status is published before the event of its change.
    let status = ["-t", "piseduce/main/status/#", "-C", "1", "-W", "10"];
    let status = output(mosquitto(&lab, "mosquitto_sub", &status));
    let status: NodeStatus = serde_json::from_slice(&status.stdout).unwrap();
    let deployment = status.deployment.unwrap();
    assert_eq!((status.node.as_str(), deployment.state), ("pi-1", State::Deployed));
    assert_eq!(deployment.environment.as_deref(), Some("story"));
    let online = ["-t", "piseduce/main/coordinator", "-C", "1", "-W", "10"];
    let online = output(mosquitto(&lab, "mosquitto_sub", &online));
    assert!(String::from_utf8_lossy(&online.stdout).contains("\"online\":true"));
}

#[test]
fn a_monitoring_user_can_do_nothing_else() {
    let lab = Lab::new(1);
    let serial = &lab.rack.nodes[0].serial;
    for topic in [
        format!("piseduce/main/node/{serial}/command"),
        "#".into(),
        "piseduce/main/#".into(),
        "$SYS/#".into(),
    ] {
        let subscribed = output(mosquitto(&lab, "mosquitto_sub", &["-t", &topic, "-W", "3"]));
        let said = String::from_utf8_lossy(&subscribed.stderr);
        assert!(said.contains("denied") || !subscribed.status.success(), "{topic}: {said}");
        assert!(subscribed.stdout.is_empty(), "{topic}");
    }
    for topic in ["piseduce/main/status/pi-1", "piseduce/main/event", "piseduce/main/announce"] {
        output(mosquitto(&lab, "mosquitto_pub", &["-t", topic, "-m", "forged", "-r", "-q", "1"]));
        let read = ["-t", "piseduce/main/status/#", "-t", "piseduce/main/event", "-W", "2"];
        let read = output(mosquitto(&lab, "mosquitto_sub", &read));
        assert!(!String::from_utf8_lossy(&read.stdout).contains("forged"), "{topic}");
    }
    let mut stranger = command("mosquitto_sub");
    stranger.args([
        "-h",
        &lab.coordinator.broker.ip().to_string(),
        "-p",
        &lab.coordinator.broker.port().to_string(),
        "-t",
        "piseduce/main/event",
        "-W",
        "3",
    ]);
    let said = output(stranger);
    assert!(String::from_utf8_lossy(&said.stderr).contains("not authorised") || !said.status.success());
}

#[test]
fn a_status_tells_of_a_drained_node_and_goes_with_a_retired_one() {
    let lab = Lab::new(1);
    lab.coordinator.cli(ADMIN, &["node", "drain", "pi-1", "--reason", "mending"]).unwrap();
    let read = |seconds: &str| {
        let status = ["-t", "piseduce/main/status/#", "-C", "1", "-W", seconds];
        output(mosquitto(&lab, "mosquitto_sub", &status)).stdout
    };
    let reason = || serde_json::from_slice::<NodeStatus>(&read("10")).unwrap().out_of_service;
    wait_for("the reason", 10.0, reason, |reason| reason.as_deref() == Some("mending"));
    lab.coordinator.cli(ADMIN, &["node", "retire", "pi-1"]).unwrap();
    wait_for("the status to be gone", 20.0, || read("1"), Vec::is_empty);
}

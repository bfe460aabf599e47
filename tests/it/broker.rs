//! An external broker: Debian's Mosquitto with the files that README shows, one that is missing, wrong, or restarted. And
//! our own, whose death is the coordinator's.

use piseduce_protocol::state::State;
use piseduce_protocol::status::NodeStatus;
use piseduce_tests::cards::Card;
use piseduce_tests::coordinator::{Coordinator, Place};
use piseduce_tests::lab::{self, Lab, USER};
use piseduce_tests::monitor::{MONITOR, Monitor};
use piseduce_tests::mosquitto::{Login, Mosquitto};
use piseduce_tests::process::mortal_command;
use piseduce_tests::wait::wait_for;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS, SubscribeReasonCode};
use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

/// A lab at an external broker that was not started yet, and the user who watches there.
fn lab(count: usize) -> (Lab, Mosquitto, Login) {
    let (network, broker) = (lab::network(count), Mosquitto::new().unwrap());
    let lab = Lab::at(&Place::of_head().at(&broker, broker.address), &network, "");
    let token = std::fs::read_to_string(lab.coordinator.token_file(MONITOR)).unwrap();
    let watcher = Login::new(MONITOR, token.trim());
    broker.set_password(&watcher).unwrap();
    (lab, broker, watcher)
}

/// Waits until the coordinator has logged `text`.
fn wait_for_log(coordinator: &Coordinator, text: &str) {
    wait_for(text, 30.0, || coordinator.logged(), |log| log.contains(text));
}

fn status_of(lab: &Lab, broker: &Mosquitto, watcher: &Login) -> NodeStatus {
    let topic = format!("piseduce/main/status/{}", lab.rack.nodes[0].name);
    let read = watcher.output("mosquitto_sub", broker.address, &["-t", &topic, "-C", "1", "-W", "10"]);
    serde_json::from_slice(&read.stdout).unwrap_or_else(|error| panic!("{error}: {read:?}"))
}

#[test]
fn a_deployment_waits_for_the_broker_and_then_goes_through_it() {
    let (lab, mut broker, watcher) = lab(1);
    lab.deploy(&[]);
    lab.wait_for(0, State::NfsBootOn, 30.0);
    let waits = || lab.status(0).unwrap().waiting.unwrap_or_default();
    wait_for("the named wait", 30.0, waits, |waits| waits.contains("our own link to the broker"));
    let unreachable = "no link to the broker broker=\"10.77.0.1:";
    wait_for_log(&lab.coordinator, unreachable);
    broker.start();
    let deployed = lab.wait_for(0, State::Deployed, 60.0);
    assert_eq!(lab.history(deployed.id).deployment.restarts, 0);
    let log = lab.coordinator.logged();
    assert_eq!(log.matches(unreachable).count(), 1, "said once, not once a try:\n{log}");
    assert!(log.contains("it cannot be reached: connection refused"), "{log}");
    for secret in ["choose-one", "choose-another"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }

    // The API is ahead of the broker by what is on its way there.
    wait_for(
        "the status to be published",
        30.0,
        || status_of(&lab, &broker, &watcher).deployment.map(|deployment| deployment.state),
        |state| *state == Some(State::Deployed),
    );
    let online = ["-t", "piseduce/main/coordinator", "-C", "1", "-W", "10"];
    let online = watcher.output("mosquitto_sub", broker.address, &online);
    assert!(String::from_utf8_lossy(&online.stdout).contains("\"online\":true"), "{online:?}");
}

/// What is published on topics from now on, as one user hears it.
struct Listener {
    heard: mpsc::Receiver<String>,
    _client: Client,
}

impl Listener {
    fn new(login: &Login, id: &str, broker: &Mosquitto, filter: &str) -> Listener {
        let (host, port) = (broker.address.ip().to_string(), broker.address.port());
        let mut options = MqttOptions::new(id, host, port);
        options.set_credentials(&login.user, &login.password);
        let (client, mut connection) = Client::new(options, 16);
        client.subscribe(filter, QoS::AtLeastOnce).unwrap();
        let (send, heard) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            for event in connection.iter().map_while(Result::ok) {
                match event {
                    Event::Incoming(Packet::SubAck(answer)) => ready.send(answer.return_codes).unwrap(),
                    Event::Incoming(Packet::Publish(publish)) => {
                        let text = String::from_utf8_lossy(&publish.payload).into_owned();
                        if send.send(text).is_err() {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        });
        let codes = is_ready.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(!codes.contains(&SubscribeReasonCode::Failure), "{filter} is refused");
        Listener { heard, _client: client }
    }

    /// What was heard up to `last`.
    fn until(&self, last: &str) -> Vec<String> {
        let mut all = Vec::new();
        while all.last().is_none_or(|text| text != last) {
            let heard = self.heard.recv_timeout(Duration::from_secs(10));
            all.push(heard.unwrap_or_else(|_| panic!("`{last}` did not come, only {all:?}")));
        }
        all
    }
}

#[test]
fn each_account_may_do_what_readme_says_and_nothing_else() {
    let _network = lab::network(0);
    let mut broker = Mosquitto::new().unwrap();
    let watcher = Login::new(MONITOR, "sees");
    broker.set_password(&watcher).unwrap();
    broker.start();
    let (own, other) = ("10000000000000ab", "10000000000000ac");
    let topic = |serial: &str, last: &str| format!("piseduce/main/node/{serial}/{last}");
    let publish = |login: &Login, id: &str, topic: &str, text: &str| {
        login.output("mosquitto_pub", broker.address, &["-i", id, "-t", topic, "-m", text, "-q", "1"]);
    };
    // Nobody's message is lost on the way: what the coordinator says last is heard, and what came before it was not.
    let heard = Listener::new(&broker.coordinator, "listener", &broker, "piseduce/main/#");
    let forbidden = [
        (&broker.agents, own, topic(own, "command")),
        (&broker.agents, own, topic(other, "report")),
        (&broker.agents, own, "piseduce/main/announce".into()),
        (&broker.agents, own, "piseduce/main/status/pi-1".into()),
        (&watcher, "x", "piseduce/main/status/pi-1".into()),
        (&watcher, "x", "piseduce/main/event".into()),
        (&watcher, own, topic(own, "report")),
    ];
    for (login, id, topic) in &forbidden {
        publish(login, id, topic, &format!("forged on {topic}"));
    }
    publish(&broker.agents, own, &topic(own, "report"), "allowed to an agent");
    publish(&broker.coordinator, "c", "piseduce/main/event", "allowed to the coordinator");
    let said = heard.until("allowed to the coordinator");
    assert_eq!(said, ["allowed to an agent", "allowed to the coordinator"]);

    // Mosquitto lets everybody subscribe to everything, and delivers what may be read.
    let agent = Listener::new(&broker.agents, own, &broker, "piseduce/main/#");
    let watching = Listener::new(&watcher, other, &broker, "piseduce/main/#");
    let (own_command, other_command) = (topic(own, "command"), topic(other, "command"));
    let announce = "piseduce/main/announce";
    let status = "piseduce/main/status/pi-1";
    for topic in
        [&*other_command, &topic(own, "report"), status, &own_command, announce, "piseduce/main/event"]
    {
        publish(&broker.coordinator, "c", topic, topic);
    }
    assert_eq!(agent.until(announce), [&*own_command, announce]);
    assert_eq!(watching.until("piseduce/main/event"), [status, "piseduce/main/event"]);
    let stranger = Login::new("nobody", "knows");
    assert!(!stranger.output("mosquitto_sub", broker.address, &["-t", "#", "-W", "2"]).status.success());
}

/// A coordinator alone at an external broker.
fn coordinator(broker: &Mosquitto) -> (Coordinator, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::of_head().at(broker, broker.address);
    (Coordinator::start_at(&place, directory.path(), "").unwrap(), directory)
}

#[test]
fn a_wrong_password_is_said_once_and_needs_no_restart_of_ours() {
    let _network = lab::network(0);
    let mut broker = Mosquitto::new().unwrap();
    broker.set_password(&Login::new("piseduce", "another")).unwrap();
    broker.start();
    let (coordinator, _directory) = coordinator(&broker);
    let refused = "it refuses our user: the name or the password is wrong";
    wait_for_log(&coordinator, refused);
    let tries = || broker.logged().matches("not authorised").count();
    wait_for("several tries", 30.0, tries, |tries| *tries >= 3);
    broker.kill();
    wait_for_log(&coordinator, "it cannot be reached");
    let log = coordinator.logged();
    assert_eq!(log.matches(refused).count(), 1, "{log}");
    assert!(log.contains("ERROR") && log.contains("user=\"piseduce\""), "{log}");
    broker.set_password(&broker.coordinator).unwrap();
    broker.start();
    wait_for_log(&coordinator, "link to the broker is up");
}

#[test]
fn a_broker_that_keeps_nothing_or_gives_our_user_no_rights_is_named() {
    let _network = lab::network(0);
    let mut broker = Mosquitto::new().unwrap();
    broker.add_setting("retain_available false").unwrap();
    broker.start();
    let (coordinator, _directory) = coordinator(&broker);
    wait_for_log(&coordinator, "as one does that keeps no retained messages");
    broker.kill();

    broker.add_setting("retain_available true").unwrap();
    let acl = broker.acl().unwrap();
    let lacks = "or does not let our user publish and read";
    for (warnings, rights) in [(1, "write"), (2, "read")] {
        broker
            .set_acl(&acl.replace("readwrite piseduce/main/#", &format!("{rights} piseduce/main/#")))
            .unwrap();
        broker.start();
        let warned = || coordinator.logged().matches(lacks).count();
        wait_for("the warning", 30.0, warned, |count| *count == warnings);
        broker.kill();
        broker.set_acl(&acl).unwrap();
        broker.start();
        let mended = || coordinator.logged().matches("keeps retained messages again").count();
        wait_for("the good news", 30.0, mended, |count| *count == warnings);
        broker.kill();
    }
}

#[test]
fn a_broker_that_is_killed_and_started_again_in_any_state_costs_no_node_anything() {
    let (lab, mut broker, watcher) = lab(1);
    broker.start();
    let mut hit = BTreeSet::new();
    let rounds = [
        [State::NfsBootOn, State::EnvCheck, State::UserConf, State::EnvBoot],
        [State::EnvCopy, State::WaitResizing, State::SystemConf, State::UserScript],
    ];
    for round in rounds {
        match hit.is_empty() {
            true => lab.deploy(&[]),
            false => {
                lab.rack.crash(0);
                lab.rack.with_card(0, Card::erase).unwrap();
                lab.coordinator.cli(USER, &["deploy-again", "pi-1"]).unwrap();
            }
        }
        let run = lab.run_of(0);
        for state in round {
            let state = match Monitor::connect_as(&watcher, broker.address).reached(run, state, 2.0) {
                Some(event) => event.state,
                // It was entered between the broker's start and the monitor's.
                None => lab.status(0).unwrap().state,
            };
            hit.insert(state);
            broker.kill();
            broker.start();
        }
        let deployed = lab.wait_for(0, State::Deployed, 60.0);
        assert_eq!(lab.history(deployed.id).deployment.restarts, 0, "{}", lab.story_of(0));
        let kept = || status_of(&lab, &broker, &watcher).deployment.map(|deployment| deployment.state);
        wait_for("the retained status", 20.0, kept, |state| *state == Some(State::Deployed));
    }
    assert!(hit.len() >= 4, "only restarted in {hit:?}");
}

#[test]
fn a_router_of_ours_that_hangs_ends_the_coordinator_with_an_error_and_the_next_start_is_well() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path(), "").unwrap();
    wait_for_log(&coordinator, "link to the broker is up");
    // Whatever the thread of rumqttd's router waits for next takes half a minute.
    let mut strace = mortal_command("strace");
    strace.args(["-p", &coordinator.thread("router-0"), "-e", "inject=futex:delay_enter=30000000"]);
    let mut strace = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = coordinator.end(60.0);
    strace.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{}", coordinator.logged());
    assert!(coordinator.logged().contains("the broker's router died"), "{}", coordinator.logged());
    coordinator.resume().unwrap();
    let up = || coordinator.logged().matches("link to the broker is up").count();
    wait_for("the link of the next start", 30.0, up, |up| *up == 2);
}

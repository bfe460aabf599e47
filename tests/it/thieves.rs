//! A neighbour who has a node's token, or what belongs to it: what is refused, what is told of it, and what it does to the
//! node.

use piseduce_coordinator::api::AlarmView;
use piseduce_protocol::boot::client_id;
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::state::State;
use piseduce_protocol::status::DeploymentStatus;
use piseduce_tests::board::BootSource;
use piseduce_tests::false_agent::site_key;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::namespace::Namespace;
use piseduce_tests::wait::wait_for;
use std::net::Ipv4Addr;
use std::path::Path;

/// The thief's board, on the nodes' own Ethernet.
const THIEF: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 66);
const THIEFS_MAC: &str = "02:00:00:00:00:66";
/// Says much, and never hello.
const MUTE: &str = "/usr/bin/yes";

/// The thief tries to be the agent of `boot`, with its right password. Whether the broker lets it in.
fn is_let_in(lab: &Lab, thief: &Namespace, serial: Serial, boot: BootNumber) -> bool {
    let password = site_key(&lab.coordinator).boot_token(serial, boot).keys().mqtt_password;
    let (host, port) = (lab.coordinator.broker.ip().to_string(), lab.coordinator.broker.port().to_string());
    let topic = format!("piseduce/main/node/{serial}/command");
    let mut client = thief.command("mosquitto_sub");
    client.args(["-h", &host, "-p", &port, "-u", &serial.to_string(), "-P", &password]);
    client.args(["-i", &client_id(serial), "-t", &topic, "-E"]);
    let output = client.output().expect("Debian's package mosquitto-clients has mosquitto_sub");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || said.contains("bad user name or password"), "{said}");
    output.status.success()
}

/// What the thief gets for the bundle of a run: an HTTP status.
fn bundle_status(lab: &Lab, thief: &Namespace, path: &str) -> String {
    let url = format!("http://{}{path}", lab.coordinator.nodes);
    let mut client = thief.command("curl");
    client.args(["--silent", "--noproxy", "*", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    client.arg(&url);
    let output = client.output().expect("Debian's package curl has curl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How often an alarm of this name was seen of the thief.
fn alarms(lab: &Lab, name: &str) -> u64 {
    let all = lab.coordinator.get::<Vec<AlarmView>>(ADMIN, "alarms").unwrap();
    let thief = THIEF.to_string();
    let is_thief = |alarm: &&AlarmView| {
        alarm.address.as_ref() == Some(&thief) && alarm.mac.as_deref() == Some(THIEFS_MAC)
    };
    let of_thief = all.iter().filter(|alarm| alarm.name == name).filter(is_thief);
    of_thief.filter(|alarm| alarm.node.as_deref() == Some("pi-1")).filter_map(|alarm| alarm.times).sum()
}

fn boot_of(lab: &Lab) -> BootNumber {
    let line = lab.rack.place(0).join("tree/proc/cmdline");
    let boot = || {
        let line = std::fs::read_to_string(&line).ok()?;
        piseduce_protocol::boot::BootParameters::parse(&line).ok().map(|parameters| parameters.boot)
    };
    wait_for("the node to get its token", 30.0, boot, Option::is_some).unwrap()
}

fn serial_of(lab: &Lab) -> Serial {
    lab.rack.nodes[0].serial.parse().unwrap()
}

fn rests_in(lab: &Lab, state: State) -> DeploymentStatus {
    let rests = |status: &Option<DeploymentStatus>| status.as_ref().is_some_and(|now| now.state == state);
    wait_for("the node to rest", 60.0, || lab.status(0), rests).unwrap()
}

#[test]
fn what_was_stolen_is_refused_elsewhere_and_only_the_right_token_stops_the_run() {
    let lab = Lab::new(1);
    lab.rack.set_agent(0, Path::new(MUTE));
    lab.deploy(&[]);
    let status = lab.wait_for(0, State::NfsBootOn, 30.0);
    let (serial, boot) = (serial_of(&lab), boot_of(&lab));
    let thief = lab.network.stranger(THIEFS_MAC, THIEF).unwrap();
    let entries = lab.history(status.id).journal.len();

    for _ in 0..3 {
        assert!(!is_let_in(&lab, &thief, serial, BootNumber(boot.0 - 1)), "a token of another boot");
    }
    assert_eq!(alarms(&lab, "stranger_refused"), 3);
    let bundle = piseduce_protocol::path::bundle(status.id, status.run);
    assert_eq!(bundle_status(&lab, &thief, &bundle), "403");
    assert_eq!(alarms(&lab, "stranger_refused"), 4);
    let told = lab.coordinator.cli(ADMIN, &["alarms"]).unwrap();
    assert!(told.contains("asked for the configuration of pi-1"), "{told}");
    let history = lab.history(status.id);
    assert_eq!(history.journal.len(), entries, "the node's deployment learns nothing of it");
    assert_eq!(history.deployment.status.state, State::NfsBootOn);

    assert!(!is_let_in(&lab, &thief, serial, boot), "the token of this boot, from another address");
    let cause = rests_in(&lab, State::Failed).cause.unwrap();
    assert!(cause.is(CauseKind::IdentityConflict) && cause.seen.contains(&THIEF.to_string()), "{cause}");
    assert_eq!(alarms(&lab, "token_leaked"), 1);
    assert!(!lab.rack.is_on(0), "whoever has the token may have the node");
}

#[test]
fn nobody_frees_a_node_without_its_board() {
    let lab = Lab::new(1);
    lab.deploy(&[]);
    let id = lab.wait_for(0, State::Deployed, 60.0).id;
    let (serial, old) = (serial_of(&lab), boot_of(&lab));
    let thief = lab.network.stranger(THIEFS_MAC, THIEF).unwrap();
    // The board is broken from now on: power does not wake it.
    lab.rack.connect(&BootSource::Nobody);
    lab.coordinator.cli(USER, &["destroy", "pi-1"]).unwrap();
    lab.wait_for(0, State::NfsBootOn, 30.0);

    assert!(!is_let_in(&lab, &thief, serial, old), "a token that was sniffed in the boot before");
    assert_eq!(alarms(&lab, "stranger_refused"), 1);
    assert_eq!(lab.status(0).unwrap().state, State::NfsBootOn);
    assert!(!is_let_in(&lab, &thief, serial, old.next()), "one that nobody fetched");
    let cause = rests_in(&lab, State::Quarantined).cause.unwrap();
    assert!(cause.is(CauseKind::IdentityConflict), "{cause}");

    let evidence = lab.history(id).deployment.boot_evidence;
    let firmware = evidence.iter().find(|piece| piece.name == "firmware").unwrap();
    assert_eq!(firmware.standing, "missing");
    let shown = lab.coordinator.cli(USER, &["deployment", "show", &id.to_string()]).unwrap();
    assert!(shown.contains("the node's firmware fetched no token in this boot"), "{shown}");
}

#[test]
fn what_a_release_rested_on_stays_readable() {
    let lab = Lab::new(1);
    lab.deploy(&[]);
    let id = lab.wait_for(0, State::Deployed, 60.0).id;
    lab.coordinator.cli(USER, &["destroy", "pi-1", "--wait"]).unwrap();
    let evidence = lab.history(id).deployment.boot_evidence;
    let standing =
        |piece: &piseduce_coordinator::api::EvidenceView| (piece.name.clone(), piece.standing.clone());
    let found: Vec<_> = evidence.iter().map(standing).collect();
    let expected = ["port_off", "port_on", "firmware", "agent"].map(|name| (name.into(), "seen".into()));
    assert_eq!(found[..4], expected);
}

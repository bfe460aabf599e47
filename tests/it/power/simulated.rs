//! The simulated switch with faults to order.

use super::{driver, mac, port, queue, switched, why};
use piseduce_coordinator::machine::event::Powered;
use piseduce_coordinator::power::{self, Job, Power, PowerError};
use piseduce_tests::switch::{COMMUNITY, PASSWORD, Refusal, SimulatedSwitch};
use std::collections::HashMap;
use std::fs;
use std::time::Duration;
use tokio::sync::mpsc;

/// Long enough for a slow machine to prove what is so.
const LONG: Duration = Duration::from_secs(30);
/// For what never becomes so.
const SHORT: Duration = Duration::from_millis(300);

pub(super) struct Bench {
    pub(super) switch: SimulatedSwitch,
    directory: tempfile::TempDir,
}

impl Bench {
    /// A switch with boards on the first eight of its 48 ports.
    pub(super) fn new() -> Bench {
        let switch = SimulatedSwitch::start(48, Box::new(|_, _| {})).unwrap();
        (1..=48).for_each(|number| switch.plug(number, &mac(number)));
        Bench { switch, directory: tempfile::tempdir().unwrap() }
    }

    pub(super) fn entry(&self, version: &str) -> String {
        self.switch.entry(self.directory.path(), "poe-1", version).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_switched_and_read_back_by_every_version() {
    for version in ["1", "2c", "3"] {
        let bench = Bench::new();
        let mut queue = queue(&driver(&bench.entry(version)), LONG);
        assert_eq!(switched(&mut queue, 7, Power::On).await, Powered::On, "version {version}");
        assert!(bench.switch.is_on(7) && !bench.switch.is_on(8));
        assert_eq!(switched(&mut queue, 7, Power::Off).await, Powered::Off);
        assert!(!bench.switch.is_on(7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_mib_is_switched_by_its_preset_and_by_objects_written_out() {
    let bench = Bench::new();
    bench.switch.detect_for(Duration::ZERO);
    let root = "1.3.6.1.4.1.11863.6.56.1.1.2.1.1";
    let objects = format!(
        "[switch.driver.snmp.objects]\nadmin = \"{root}.2.{{port}}\"\non = 1\noff = 0\nstatus = \"{root}.11.{{port}}\"\n\
         delivering = [2]\nwatts = \"{root}.7.{{port}}\"\nwatts_unit_mw = 100\n"
    );
    for settings in ["preset = \"tp_link\"\n", &objects] {
        let driver = driver(&(bench.entry("2c") + settings));
        let mut queue = queue(&driver, LONG);
        assert_eq!(switched(&mut queue, 7, Power::On).await, Powered::On, "{settings}");
        let ports = power::open(&driver).ports().await.unwrap().unwrap();
        assert_eq!((ports.len(), ports[6].on, ports[6].milliwatts), (48, Some(true), Some(6000)));
        assert_eq!(switched(&mut queue, 7, Power::Off).await, Powered::Off);
        assert!(!bench.switch.is_on(7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_set_is_an_error_with_the_switchs_reason() {
    for (refusal, reason) in [(Refusal::NotWritable, "notWritable"), (Refusal::GeneralFailure, "genErr")] {
        let bench = Bench::new();
        bench.switch.fault(|faults| faults.refuse = Some(refusal));
        let failed = why(&switched(&mut queue(&driver(&bench.entry("2c")), LONG), 7, Power::On).await);
        assert!(failed.starts_with("switch_refused") && failed.contains(reason), "{failed}");
    }
    let bench = Bench::new();
    let failed = why(&switched(&mut queue(&driver(&bench.entry("2c")), LONG), 77, Power::On).await);
    assert!(failed.starts_with("switch_refused"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_and_not_done_is_not_believed() {
    let bench = Bench::new();
    let mut queue = queue(&driver(&bench.entry("2c")), SHORT);
    bench.switch.fault(|faults| faults.ignore_sets = true);
    let failed = why(&switched(&mut queue, 7, Power::On).await);
    assert!(failed.starts_with("port_not_delivering: port 7 is switched off"), "{failed}");
    bench.switch.fault(|faults| faults.ignore_sets = false);
    assert_eq!(switched(&mut queue, 7, Power::On).await, Powered::On);
    bench.switch.fault(|faults| faults.ignore_sets = true);
    let failed = why(&switched(&mut queue, 7, Power::Off).await);
    assert!(failed.starts_with("port_not_off: port 7 is switched on"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_never_delivers_is_named() {
    let bench = Bench::new();
    let mut queue = queue(&driver(&bench.entry("2c")), SHORT);
    bench.switch.detect_for(Duration::from_secs(3600));
    let failed = why(&switched(&mut queue, 7, Power::On).await);
    assert!(failed.contains("port 7 is switched on and delivers no power"), "{failed}");
    bench.switch.fault(|faults| faults.stuck = [9].into());
    let failed = why(&switched(&mut queue, 9, Power::On).await);
    assert!(failed.contains("port 9 is switched on and delivers no power"), "{failed}");
    // The switch's own budget is exhausted.
    bench.switch.detect_for(Duration::ZERO);
    bench.switch.fault(|faults| faults.budget_mw = Some(7000));
    let failed = why(&switched(&mut queue, 8, Power::On).await);
    assert!(failed.starts_with("port_not_delivering"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_lost_answers_are_waited_for_and_asked_for_again() {
    let bench = Bench::new();
    let mut queue = queue(&driver(&bench.entry("2c")), LONG);
    bench.switch.fault(|faults| faults.lose = 2);
    assert_eq!(switched(&mut queue, 7, Power::On).await, Powered::On);
    bench.switch.fault(|faults| faults.delay = Duration::from_millis(300));
    assert_eq!(switched(&mut queue, 7, Power::Off).await, Powered::Off);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_restarts_in_between_is_waited_for() {
    let bench = Bench::new();
    let (send, mut ended) = mpsc::unbounded_channel();
    let driver = driver(&bench.entry("3"));
    let mut queue = queue(&driver, LONG);
    bench.switch.power_fails();
    queue.start(Job { port: port(7), power: Power::On, gap: Duration::ZERO }, move |powered| {
        send.send(powered).unwrap()
    });
    assert!(tokio::time::timeout(Duration::from_secs(3), ended.recv()).await.is_err(), "it is not there");
    bench.switch.power_returns();
    assert_eq!(ended.recv().await, Some(Powered::On));
    let uptime = power::open(&driver).uptime().await.unwrap().unwrap();
    assert!(uptime < Duration::from_secs(60), "{uptime:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_elsewhere_is_not_cut_off() {
    let bench = Bench::new();
    bench.switch.plug(7, &mac(8));
    bench.switch.plug(8, &mac(7));
    bench.switch.set(7, true);
    bench.switch.set(8, true);
    let mut queue = queue(&driver(&bench.entry("2c")), LONG);
    // The ports deliver, so the switch has seen who is there.
    assert_eq!(switched(&mut queue, 8, Power::On).await, Powered::On);
    let sets = bench.switch.sets().len();
    let failed = why(&switched(&mut queue, 7, Power::Off).await);
    assert!(failed.starts_with("wrong_port") && failed.contains("at port 8, not at 7"), "{failed}");
    assert_eq!(bench.switch.sets().len(), sets, "nothing was cut");

    let unchecked = format!("{}check_stations = false\n", bench.entry("2c"));
    assert_eq!(switched(&mut super::queue(&driver(&unchecked), LONG), 7, Power::Off).await, Powered::Off);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_wrong_credentials_look_alike_and_no_secret_is_told() {
    let bench = Bench::new();
    for (version, wrong, words) in [
        ("2c", "community = \"another-secret\"\n", "unreachable, or a community that it does not know"),
        (
            "3",
            "user = \"rack-user\"\nauth_password = \"another-secret\"\nprivacy_password = \"another-secret\"\n",
            "credentials",
        ),
    ] {
        let entry = bench.entry(version);
        let file = bench.directory.path().join("poe-1.secrets");
        fs::write(&file, wrong).unwrap();
        let error = power::open(&driver(&entry)).read(&port(7)).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(words), "{text}");
        for secret in [COMMUNITY, PASSWORD, "another-secret"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let entry = bench.entry("3");
    fs::write(bench.directory.path().join("poe-1.secrets"), "user = \"rack-user\"\n").unwrap();
    let error = power::open(&driver(&entry)).read(&port(7)).await.unwrap_err();
    assert!(matches!(&error, PowerError::Refused(why) if why.contains("`auth_password`")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_eight_ports_are_cycled_at_once_one_request_at_a_time() {
    let bench = Bench::new();
    let mut queue = queue(&driver(&bench.entry("2c")), LONG);
    for power in [Power::On, Power::Off, Power::On] {
        let (send, mut ended) = mpsc::unbounded_channel();
        for number in 1..=48 {
            let send = send.clone();
            queue.start(Job { port: port(number), power, gap: Duration::ZERO }, move |powered| {
                send.send(powered).unwrap()
            });
        }
        let expected = if power == Power::On { Powered::On } else { Powered::Off };
        for _ in 0..48 {
            assert_eq!(ended.recv().await, Some(expected.clone()));
        }
        assert!((1..=48).all(|number| bench.switch.is_on(number) == (power == Power::On)));
    }
    assert_eq!(bench.switch.most_in_flight(), 1);
    let mut times: HashMap<(u32, bool), usize> = HashMap::new();
    bench.switch.sets().iter().for_each(|(_, port, on)| *times.entry((*port, *on)).or_default() += 1);
    assert!((1..=48).all(|port| times[&(port, true)] == 2 && times[&(port, false)] == 1), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_switch_shows_is_read() {
    let bench = Bench::new();
    bench.switch.detect_for(Duration::ZERO);
    (1..=4).for_each(|number| bench.switch.set(number, true));
    for version in ["1", "2c", "3"] {
        let switch = power::open(&driver(&bench.entry(version)));
        let ports = switch.ports().await.unwrap().unwrap();
        assert_eq!(ports.len(), 48);
        let (first, last) = (&ports[0], &ports[47]);
        assert_eq!((first.port.as_str(), last.port.as_str()), ("1", "48"), "in the order of the outlets");
        assert_eq!((first.on, first.delivering, first.class), (Some(true), Some(true), Some(3)));
        assert_eq!((last.on, last.detection.as_deref()), (Some(false), Some("disabled")));
        let stations = switch.stations().await.unwrap().unwrap().stations;
        assert_eq!(stations.len(), 4 + 1, "of the boards, and of who asks");
        assert!(stations.iter().any(|station| station.mac == mac(3) && station.port == "3"));
        let supplies = switch.supplies().await.unwrap();
        assert_eq!((supplies[0].nominal_watts, supplies[0].used_milliwatts), (370, 24_000));
    }
}

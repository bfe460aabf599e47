//! Who comes in, with which answer, and when the door is opened and closed.

use crate::bench::{
    BOOT, Bench, OTHER, SERIAL, agent, agent_with_will, coordinator, monitor, mosquitto, status, topic,
    within,
};
use crate::raw::{Connect, DISCONNECT, PINGREQ, Raw, packet, publish, subscribe};
use piseduce_coordinator::bus::LiveBoots;
use piseduce_coordinator::bus::gate::{Gate, GateError, GateSettings};
use piseduce_protocol::boot::client_id;
use piseduce_protocol::topic::Topic;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn mosquittos_clients_come_in_as_they_are() {
    let bench = Bench::start().await;
    let text = status("pi-1");
    let publish = ["-i", "coordinator", "-t", &text, "-m", "free", "-q", "1", "-r"];
    assert_eq!(mosquitto(&bench, "mosquitto_pub", "coordinator", &publish).await, (true, String::new()));
    for id in [&[][..], &["-i", "grafana"], &["-I", "home.assistant-"], &["-q", "1"]] {
        let arguments = [&["-t", "piseduce/main/status/+", "-C", "1", "-v"], id].concat();
        let found = mosquitto(&bench, "mosquitto_sub", "alice", &arguments).await;
        assert_eq!(found, (true, format!("{text} free\n")), "{id:?}");
    }
}

#[tokio::test]
async fn mosquittos_clients_are_told_why_they_are_refused() {
    let bench = Bench::start().await;
    for (user, arguments, reason) in [
        ("alice", &["-i", "coordinator"][..], "identifier rejected"),
        ("banned", &[], "not authorised"),
        ("alice", &["-P", "wrong"], "bad user name or password"),
        ("alice", &["-V", "mqttv31"], "unacceptable protocol version"),
        ("unknown yet", &[], "broker unavailable"),
    ] {
        let (done, text) =
            mosquitto(&bench, "mosquitto_sub", user, &[&["-t", "x"], arguments].concat()).await;
        assert!(!done && text.contains(reason), "{reason}: {text}");
    }
}

#[tokio::test]
async fn wrong_credentials_get_return_code_4() {
    let bench = Bench::start().await;
    let nobody = Connect { user_name: None, ..monitor() };
    for (connect, why) in [
        (Connect { password: "wrong".into(), ..monitor() }, "a wrong password"),
        (Connect { password: String::new(), ..monitor() }, "no password"),
        (Connect { user_name: Some(String::new()), ..monitor() }, "no user name"),
        (nobody, "nobody"),
        (Connect { password: BOOT.next().to_string(), ..agent() }, "a boot that is not live"),
    ] {
        let (mut raw, code) = bench.answered(&connect).await;
        assert_eq!(code, 4, "{why}");
        raw.is_closed().await;
    }
}

#[tokio::test]
async fn a_client_id_that_is_odd_or_somebody_elses_gets_return_code_2() {
    let bench = Bench::start().await;
    let called = |id: &str, connect: Connect| Connect { client_id: id.into(), ..connect };
    for connect in [
        called("a/b", monitor()),
        called("a#", monitor()),
        called("+", monitor()),
        called("$SYS", monitor()),
        called("a b", monitor()),
        called(&"x".repeat(65), monitor()),
        called("coordinator", monitor()),
        called(&client_id(SERIAL), monitor()),
        called(&client_id(OTHER), agent()),
        called("", agent()),
        called("coordinator", agent()),
        called("coordinator-2", coordinator()),
        Connect { clean: false, ..called("", monitor()) },
    ] {
        assert_eq!(bench.answered(&connect).await.1, 2, "{connect:?}");
    }
    // The retry of a refused client id is what kills rumqttd's own listener.
    assert_eq!(bench.answered(&called("a/b", monitor())).await.1, 2);
    for connect in [called("", monitor()), called(&"x".repeat(64), monitor()), called("a.B-c_9", monitor())] {
        assert_eq!(bench.answered(&connect).await.1, 0, "{connect:?}");
    }
}

#[tokio::test]
async fn two_clients_without_an_id_are_two_clients() {
    let bench = Bench::start().await;
    let anonymous = Connect { client_id: String::new(), ..monitor() };
    let mut first = bench.client(&anonymous).await;
    let mut second = bench.client(&anonymous).await;
    first.is_quiet().await;
    second.is_quiet().await;
}

#[tokio::test]
async fn another_protocol_version_gets_return_code_1() {
    let bench = Bench::start().await;
    for (name, level) in [("MQTT", 5), ("MQTT", 3), ("MQIsdp", 3)] {
        assert_eq!(bench.answered(&Connect { name, level, ..monitor() }).await.1, 1, "{name} {level}");
    }
}

#[tokio::test]
async fn a_will_on_a_topic_of_somebody_else_gets_return_code_5() {
    let bench = Bench::start().await;
    let link = topic(&Topic::Link(SERIAL));
    for connect in [
        agent().will(&topic(&Topic::Link(OTHER)), b"x", 1, false),
        agent().will(&topic(&Topic::Report(SERIAL)), b"x", 1, false),
        agent().will(&link, b"x", 1, true),
        agent().will(&link, b"x", 2, false),
        monitor().will(&status("pi-1"), b"x", 0, false),
        coordinator().will("elsewhere", b"x", 0, false),
    ] {
        assert_eq!(bench.answered(&connect).await.1, 5, "{connect:?}");
    }
    assert_eq!(bench.answered(&agent_with_will()).await.1, 0);
    assert_eq!(bench.answered(&coordinator().will(&topic(&Topic::Coordinator), b"x", 1, true)).await.1, 0);
}

#[tokio::test]
async fn the_first_packet_must_be_a_connect() {
    let bench = Bench::start().await;
    for bytes in [
        PINGREQ.to_vec(),
        DISCONNECT.to_vec(),
        subscribe(&[("piseduce/main/event", 0)]),
        publish("piseduce/main/event", b"x", 0, false),
        packet(0x10, &[0; 20 * 1024]),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut raw = bench.knock().await;
        raw.send(&bytes).await;
        raw.is_closed().await;
    }
    let mut twice = bench.monitor().await;
    twice.send(&monitor().bytes()).await;
    twice.is_closed().await;
}

#[tokio::test]
async fn silent_connections_hinder_nobody_and_are_closed() {
    let bench = Bench::with(|settings| settings.connect_limit = Duration::from_secs(1)).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(bench.knock().await);
    }
    silent[0].send(&monitor().bytes()[..9]).await;
    bench.monitor().await.is_quiet().await;
    for raw in &mut silent {
        raw.is_closed().await;
    }
}

#[tokio::test]
async fn a_doorkeeper_without_an_answer_means_return_code_3() {
    let bench = Bench::with(|settings| settings.connect_limit = Duration::from_millis(500)).await;
    let slow = Connect { user_name: Some("slow".into()), ..monitor() };
    assert_eq!(bench.answered(&slow).await.1, 3);
    let unavailable = Connect { user_name: Some("unknown yet".into()), ..monitor() };
    assert_eq!(bench.answered(&unavailable).await.1, 3);
}

#[tokio::test]
async fn monitors_take_no_seats_of_agents_or_the_coordinator_and_one_user_not_all() {
    // Four seats for monitors, two for one user.
    let bench = Bench::with(|settings| settings.connections_max = 160).await;
    let called =
        |id: &str, user: &str| Connect { client_id: id.into(), user_name: Some(user.into()), ..monitor() };
    let mut first = bench.client(&called("1", "alice")).await;
    let _second = bench.client(&called("2", "alice")).await;
    for _ in 0..3 {
        assert_eq!(bench.answered(&called("3", "alice")).await.1, 3);
    }
    let _others = [bench.client(&called("1", "bob")).await, bench.client(&called("2", "bob")).await];
    assert_eq!(bench.answered(&called("1", "carol")).await.1, 3);
    bench.coordinator().await.is_quiet().await;
    bench.agent().await.is_quiet().await;
    // A client that comes back needs no second place, and one that leaves gives its place up.
    let mut again = bench.client(&called("1", "alice")).await;
    first.is_closed().await;
    again.send(&DISCONNECT).await;
    again.is_closed().await;
    within("a free place", async { while bench.answered(&called("1", "carol")).await.1 != 0 {} }).await;
}

#[tokio::test]
async fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let bench = Bench::with(|settings| settings.connections_max = 160).await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(bench.knock().await);
    }
    bench.agent().await.is_quiet().await;
    bench.coordinator().await.is_quiet().await;
    // Sixteen may arrive at once; the oldest made room, long before their time to say something is over.
    for silent in &mut crowd[..24] {
        silent.is_closed().await;
    }
}

#[tokio::test]
async fn an_agent_whose_boot_ends_while_it_comes_in_gets_return_code_4() {
    let bench = Bench::start().await;
    bench.live.send_replace(LiveBoots::default());
    assert_eq!(bench.answered(&agent()).await.1, 4, "this doorkeeper does not look at live boots");
}

#[tokio::test]
async fn a_gate_can_be_stopped_and_started_again_on_its_address() {
    let bench = Bench::start().await;
    let address = bench.gate.local_addr();
    let (mut silent, mut client) = (bench.knock().await, bench.monitor().await);
    within("stop", bench.gate.stop()).await;
    client.is_closed().await;
    silent.is_closed().await;
    for _ in 0..3 {
        let bench = Bench::with(|settings| settings.listen = address).await;
        bench.monitor().await.is_quiet().await;
        assert_eq!(bench.gate.local_addr(), address);
        within("stop", bench.gate.stop()).await;
    }
}

#[tokio::test]
async fn a_gate_that_is_dropped_closes() {
    let Bench { gate, live: _live } = Bench::start().await;
    let mut raw = Raw::knock(gate.local_addr()).await;
    drop(gate);
    raw.is_closed().await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let bench = Bench::start().await;
    let settings = GateSettings::new(bench.gate.local_addr());
    let (_live, receiver) = tokio::sync::watch::channel(LiveBoots::default());
    let second = Gate::start(settings, crate::bench::site(), Arc::new(crate::bench::Words), receiver).await;
    let error = second.err().unwrap();
    assert!(matches!(error, GateError::AddressInUse(_)));
    assert!(error.to_string().contains(&bench.gate.local_addr().to_string()), "{error}");
}

//! What goes through: messages on the topics that each identity has, retained messages, and what is refused.

use crate::bench::{
    BOOT, Bench, OTHER, PASSWORD, SERIAL, agent, agent_with_will, coordinator, monitor, site, status, topic,
    within,
};
use crate::raw::{Message, Raw, packet, publish, unsubscribe};
use piseduce_protocol::MESSAGE_BYTES_MAX;
use piseduce_protocol::boot::client_id;
use piseduce_protocol::topic::Topic;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};

fn message(topic: &str, payload: &[u8], qos: u8, retain: bool) -> Option<Message> {
    Some(Message { topic: topic.into(), payload: payload.into(), qos, retain, id: u16::from(qos > 0) })
}

/// A client of the library that coordinator and agents use.
fn rumqttc(bench: &Bench, id: &str, user: &str, password: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, "127.0.0.1", bench.port());
    options.set_credentials(user, password).set_max_packet_size(MESSAGE_BYTES_MAX * 2, MESSAGE_BYTES_MAX * 2);
    AsyncClient::new(options, 10)
}

/// Polls until this packet came.
async fn polled<T>(events: &mut EventLoop, mut wanted: impl FnMut(Incoming) -> Option<T>) -> T {
    within("a packet for rumqttc", async {
        loop {
            if let Event::Incoming(packet) = events.poll().await.unwrap()
                && let Some(found) = wanted(packet)
            {
                return found;
            }
        }
    })
    .await
}

#[tokio::test]
async fn commands_and_reports_go_both_ways_through_rumqttc() {
    let bench = Bench::start().await;
    let (head, mut head_events) = rumqttc(&bench, "coordinator", "coordinator", PASSWORD);
    let (node, mut node_events) = rumqttc(&bench, &client_id(SERIAL), &SERIAL.to_string(), &BOOT.to_string());
    let is_suback = |packet| matches!(packet, Incoming::SubAck(_)).then_some(());
    let payload = |packet| match packet {
        Incoming::Publish(publish) => Some((publish.topic, publish.payload.to_vec(), publish.qos)),
        _ => None,
    };

    head.subscribe(&site().agent_filters()[0], QoS::AtLeastOnce).await.unwrap();
    polled(&mut head_events, is_suback).await;
    let command = topic(&Topic::Command(SERIAL));
    node.subscribe(&command, QoS::AtLeastOnce).await.unwrap();
    polled(&mut node_events, is_suback).await;

    let long = vec![7; MESSAGE_BYTES_MAX];
    for round in 0..200 {
        head.publish(&command, QoS::AtLeastOnce, false, [round]).await.unwrap();
        polled(&mut head_events, |packet| matches!(packet, Incoming::PubAck(_)).then_some(())).await;
        let (found, body, qos) = polled(&mut node_events, payload).await;
        assert_eq!((found, body, qos), (command.clone(), vec![round], QoS::AtLeastOnce));
    }
    let report = topic(&Topic::Report(SERIAL));
    node.publish(&report, QoS::AtLeastOnce, false, long.clone()).await.unwrap();
    polled(&mut node_events, |packet| matches!(packet, Incoming::PubAck(_)).then_some(())).await;
    assert_eq!(polled(&mut head_events, payload).await, (report, long, QoS::AtLeastOnce));
}

#[tokio::test]
async fn a_forbidden_filter_gets_0x80_and_the_connection_stays() {
    let bench = Bench::start().await;
    let (own, other) = (topic(&Topic::Command(SERIAL)), topic(&Topic::Command(OTHER)));
    let announce = topic(&Topic::Announce);
    let mut agent = bench.agent().await;
    let asked = [(&*own, 2), (&other, 1), (&announce, 0), ("#", 0), ("$SYS/#", 0)];
    assert_eq!(agent.subscribe(&asked).await, [1, 0x80, 0, 0x80, 0x80]);
    let shared = format!("$share/group/{own}");
    assert_eq!(agent.subscribe(&[(&shared, 0), ("", 0), ("a/#/b", 0)]).await, [0x80; 3]);
    agent.is_quiet().await;
    let mut head = bench.coordinator().await;
    for (topic, payload) in [(&other, "no"), (&own, "yes")] {
        head.publish(topic, payload.as_bytes(), false).await;
    }
    assert_eq!(agent.message().await, message(&own, b"yes", 1, false));
}

#[tokio::test]
async fn a_monitors_wildcards_have_qos_0_as_the_suback_says() {
    let bench = Bench::start().await;
    let mut monitor = bench.monitor().await;
    let (one, all) = (status("pi-1"), site().status_filter());
    let report = topic(&Topic::Report(SERIAL));
    assert_eq!(monitor.subscribe(&[(&one, 2), (&all, 2), (&report, 0)]).await, [1, 0, 0x80]);
    bench.coordinator().await.publish(&status("pi-2"), b"free", true).await;
    assert_eq!(monitor.message().await, message(&status("pi-2"), b"free", 0, false));
}

#[tokio::test]
async fn every_status_comes_once_under_either_name() {
    let bench = Bench::start().await;
    let mut head = bench.coordinator().await;
    let mut monitor = bench.monitor().await;
    let (plus, tree) = (site().status_filter(), site().status_filter().replace('+', "#"));
    assert_eq!(monitor.subscribe(&[(&plus, 0), (&tree, 0)]).await, [0, 0]);
    monitor.send(&unsubscribe(&[&plus])).await;
    assert_eq!(monitor.answer().await, Some((0xb0, vec![0, 2])));
    head.publish(&status("pi-1"), b"free", false).await;
    assert_eq!(monitor.message().await, message(&status("pi-1"), b"free", 0, false));
    monitor.send(&unsubscribe(&[&tree])).await;
    assert_eq!(monitor.answer().await, Some((0xb0, vec![0, 2])));
    head.publish(&status("pi-1"), b"busy", false).await;
    monitor.is_quiet().await;
}

#[tokio::test]
async fn a_forbidden_message_ends_the_connection_and_reaches_nobody() {
    let bench = Bench::start().await;
    let report = topic(&Topic::Report(SERIAL));
    let mut listener = bench.listener().await;
    let by_agent = [
        publish(&topic(&Topic::Report(OTHER)), b"bad", 1, false),
        publish(&topic(&Topic::Command(SERIAL)), b"bad", 0, false),
        publish(&status("pi-1"), b"bad", 0, true),
        publish(&report, b"bad", 1, true),
        publish(&report, b"bad", 2, false),
        publish("piseduce/main/#", b"bad", 0, false),
        publish(&report, &vec![0; MESSAGE_BYTES_MAX + 1], 0, false),
        publish(&report, &vec![0; MESSAGE_BYTES_MAX + 1024], 0, false),
        publish("", b"bad", 0, false),
    ];
    for bytes in by_agent {
        let mut agent = bench.agent().await;
        agent.send(&bytes).await;
        agent.is_closed().await;
    }
    let mut monitor = bench.monitor().await;
    monitor.send(&publish(&status("pi-1"), b"bad", 0, false)).await;
    monitor.is_closed().await;
    bench.agent().await.publish(&report, b"good", false).await;
    assert_eq!(listener.message().await, message(&report, b"good", 0, false));
}

#[tokio::test]
async fn a_topic_that_nobody_ever_subscribed_to_can_be_published_on() {
    let bench = Bench::start().await;
    let mut agent = bench.agent().await;
    for round in 0..50 {
        agent.publish(&topic(&Topic::Beat(SERIAL)), &[round], false).await;
    }
    agent.is_quiet().await;
}

#[tokio::test]
async fn retained_messages_are_kept_and_only_an_empty_retained_one_clears_them() {
    let bench = Bench::start().await;
    let mut head = bench.coordinator().await;
    let pi = status("pi-1");
    head.publish(&pi, b"free", true).await;
    head.publish(&pi, b"", false).await;
    let mut monitor = bench.monitor().await;
    monitor.subscribe(&[(&pi, 1)]).await;
    assert_eq!(monitor.message().await, message(&pi, b"free", 1, true));
    monitor.is_quiet().await;

    head.publish(&pi, b"", true).await;
    assert_eq!(monitor.message().await.unwrap().payload, b"", "clearing is told to who is there");
    let mut late = bench.monitor().await;
    late.subscribe(&[(&pi, 1)]).await;
    late.is_quiet().await;
}

#[tokio::test]
async fn an_empty_will_without_retain_clears_nothing() {
    let bench = Bench::start().await;
    let online = topic(&Topic::Coordinator);
    let mut head = bench.client(&coordinator().will(&online, b"", 0, false)).await;
    head.publish(&online, b"online", true).await;
    drop(head);
    let mut next = bench.coordinator().await;
    next.subscribe(&[(&online, 0)]).await;
    assert_eq!(next.message().await, message(&online, b"online", 0, true));
}

#[tokio::test]
async fn a_thousand_retained_statuses_all_reach_a_new_monitor() {
    let bench = Bench::start().await;
    let mut head = bench.coordinator().await;
    for node in 0..1_000 {
        head.send(&publish(&status(&format!("pi-{node}")), &[b'x'; 300], 0, true)).await;
    }
    head.is_quiet().await;
    for filter in [site().status_filter(), site().status_filter().replace('+', "#")] {
        let mut monitor = bench.monitor().await;
        assert_eq!(monitor.subscribe(&[(&filter, 1)]).await, [0]);
        let mut topics = std::collections::BTreeSet::new();
        while topics.len() < 1_000 {
            let message = monitor.message().await.unwrap();
            assert!(message.retain && topics.insert(message.topic), "one of each");
        }
        // All of them again at once, now to somebody who is there.
        for node in 0..1_000 {
            head.send(&publish(&status(&format!("pi-{node}")), &[b'y'; 300], 0, true)).await;
        }
        for node in 0..1_000 {
            assert_eq!(monitor.message().await.unwrap().topic, status(&format!("pi-{node}")));
        }
    }
}

#[tokio::test]
async fn unsubscribing_is_answered_once_whatever_was_subscribed() {
    let bench = Bench::start().await;
    let mut monitor = bench.monitor().await;
    let (event, pi) = (topic(&Topic::Event), status("pi-1"));
    let unknown = unsubscribe(&["never/subscribed", &event]);
    monitor.send(&unknown).await;
    assert_eq!(monitor.packet().await, Some((0xb0, vec![0, 2])));
    monitor.subscribe(&[(&event, 0), (&pi, 1)]).await;
    monitor.send(&unsubscribe(&[&event, &pi, &event, "never/subscribed"])).await;
    assert_eq!(monitor.packet().await, Some((0xb0, vec![0, 2])));
    monitor.is_quiet().await;
    let mut head = bench.coordinator().await;
    head.publish(&event, b"gone", false).await;
    head.publish(&pi, b"gone", false).await;
    assert_eq!(monitor.subscribe(&[(&event, 0)]).await, [0], "and it can be subscribed again");
    head.publish(&event, b"here", false).await;
    assert_eq!(monitor.message().await, message(&event, b"here", 0, false));
}

#[tokio::test]
async fn a_second_subscription_answers_what_the_first_one_got() {
    let bench = Bench::start().await;
    let mut monitor = bench.monitor().await;
    let pi = status("pi-1");
    assert_eq!(monitor.subscribe(&[(&pi, 1), (&pi, 0)]).await, [1, 1]);
    assert_eq!(monitor.subscribe(&[(&pi, 0)]).await, [1]);
    bench.coordinator().await.publish(&pi, b"free", false).await;
    assert_eq!(monitor.message().await, message(&pi, b"free", 1, false));
}

#[tokio::test]
async fn acknowledgements_that_do_not_fit_end_the_connection_and_not_the_router() {
    let bench = Bench::start().await;
    let mut head = bench.coordinator().await;
    let pi = status("pi-1");
    let puback = |id: u8| packet(0x40, &[0, id]);
    let three = async |raw: &mut Raw| {
        for id in 1..=3 {
            assert_eq!(raw.message().await.unwrap().id, id);
        }
    };
    for wrong in [vec![puback(1)], vec![puback(2)], vec![puback(1), puback(1)], vec![puback(9)]] {
        let mut monitor = bench.monitor().await;
        monitor.subscribe(&[(&pi, 1)]).await;
        if wrong != [puback(1)] {
            for payload in [b"1", b"2", b"3"] {
                head.publish(&pi, payload, false).await;
            }
            three(&mut monitor).await;
        }
        monitor.send(&wrong.concat()).await;
        monitor.is_closed().await;
    }
    let mut monitor = bench.monitor().await;
    monitor.subscribe(&[(&pi, 1)]).await;
    for payload in [b"1", b"2", b"3"] {
        head.publish(&pi, payload, false).await;
    }
    three(&mut monitor).await;
    monitor.send(&[puback(1), puback(2), puback(3)].concat()).await;
    monitor.is_quiet().await;
}

#[tokio::test]
async fn one_user_cannot_take_over_the_session_of_another() {
    let bench = Bench::start().await;
    let bob = crate::raw::Connect { user_name: Some("bob".into()), ..monitor() };
    let mut alice = bench.monitor().await;
    let mut bob = bench.client(&bob).await;
    alice.is_quiet().await;
    bob.is_quiet().await;
    // An agent with another password than its own never gets as far as a take-over.
    let mut genuine = bench.client(&agent_with_will()).await;
    let forged = crate::raw::Connect { password: "not a boot".into(), ..agent() };
    assert_eq!(bench.answered(&forged).await.1, 4);
    genuine.is_quiet().await;
}

//! Last wills: published by the gate when a session ends without good-bye, the old one before the next session.

use crate::bench::{Bench, SERIAL, agent, agent_with_will, coordinator, topic};
use crate::raw::{DISCONNECT, Raw, publish};
use piseduce_coordinator::bus::LiveBoots;
use piseduce_protocol::topic::Topic;

/// Waits for the will of the agent's, and asserts that no other message came before.
async fn lost(listener: &mut Raw) {
    let will = listener.message().await.unwrap();
    assert_eq!((will.topic, &will.payload[..]), (topic(&Topic::Link(SERIAL)), &b"lost"[..]));
}

/// Asserts that no will has been published: the next thing that the listener hears is a report.
async fn nothing_lost(bench: &Bench, listener: &mut Raw) {
    let mut agent = bench.agent().await;
    agent.publish(&topic(&Topic::Report(SERIAL)), b"here", false).await;
    agent.send(&DISCONNECT).await;
    agent.is_closed().await;
    assert_eq!(listener.message().await.unwrap().payload, b"here");
}

#[tokio::test]
async fn a_will_is_published_when_the_connection_breaks() {
    let bench = Bench::start().await;
    let mut listener = bench.listener().await;
    for _ in 0..3 {
        drop(bench.client(&agent_with_will()).await);
        lost(&mut listener).await;
    }
}

#[tokio::test]
async fn a_will_is_not_published_after_good_bye() {
    let bench = Bench::start().await;
    let mut listener = bench.listener().await;
    let mut agent = bench.client(&agent_with_will()).await;
    agent.send(&DISCONNECT).await;
    agent.is_closed().await;
    nothing_lost(&bench, &mut listener).await;
}

#[tokio::test]
async fn a_will_is_published_when_the_client_falls_silent() {
    let bench = Bench::start().await;
    let mut listener = bench.listener().await;
    let mut agent = bench.client(&agent_with_will().keep_alive(1)).await;
    lost(&mut listener).await;
    agent.is_closed().await;
}

#[tokio::test]
async fn a_will_is_published_when_the_client_breaks_the_rules() {
    let bench = Bench::start().await;
    let mut listener = bench.listener().await;
    for bytes in [publish(&topic(&Topic::Event), b"bad", 0, false), b"\xff\xff\xff\xff".to_vec()] {
        bench.client(&agent_with_will()).await.send(&bytes).await;
        lost(&mut listener).await;
    }
}

#[tokio::test]
async fn a_will_is_published_when_the_boot_ends() {
    let bench = Bench::start().await;
    let mut listener = bench.listener().await;
    let mut agent = bench.client(&agent_with_will()).await;
    bench.live.send_replace(LiveBoots::default());
    lost(&mut listener).await;
    agent.is_closed().await;
}

#[tokio::test]
async fn a_take_over_publishes_the_old_will_and_the_new_one_stays_armed() {
    let bench = Bench::start().await;
    let mut listener = bench.listener().await;
    let link = topic(&Topic::Link(SERIAL));
    let with_will = |will: &[u8]| agent().will(&link, will, 1, false);
    let mut clients = vec![bench.client(&with_will(b"will 0")).await];
    for generation in 1..=5 {
        let mut next = bench.client(&with_will(format!("will {generation}").as_bytes())).await;
        // By the time the newcomer has its CONNACK the old will is out, so what it says comes after it.
        next.publish(&topic(&Topic::Report(SERIAL)), b"hello", false).await;
        assert_eq!(listener.message().await.unwrap().payload, format!("will {}", generation - 1).as_bytes());
        assert_eq!(listener.message().await.unwrap().payload, b"hello");
        clients.last_mut().unwrap().is_closed().await;
        clients.push(next);
    }
    drop(clients);
    assert_eq!(listener.message().await.unwrap().payload, b"will 5");
}

#[tokio::test]
async fn newcomers_that_come_at_once_leave_one_session_and_every_other_will() {
    let bench = Bench::start().await;
    let mut listener = bench.listener().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut raw = bench.knock().await;
        raw.send(&agent_with_will().bytes()).await;
        clients.push(raw);
    }
    for _ in 0..19 {
        lost(&mut listener).await;
    }
    let mut alive = 0;
    for raw in &mut clients {
        alive += usize::from(raw.is_alive().await);
    }
    assert_eq!(alive, 1);
}

#[tokio::test]
async fn the_coordinators_retained_will_is_retained() {
    let bench = Bench::start().await;
    let online = topic(&Topic::Coordinator);
    let mut monitor = bench.monitor().await;
    monitor.subscribe(&[(&online, 1)]).await;
    drop(bench.client(&coordinator().will(&online, b"offline", 1, true)).await);
    assert_eq!(monitor.message().await.unwrap().payload, b"offline");
    let mut late = bench.monitor().await;
    late.subscribe(&[(&online, 1)]).await;
    let offline = late.message().await.unwrap();
    assert!(offline.retain && offline.payload == b"offline");
}

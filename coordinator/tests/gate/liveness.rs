//! Who counts as alive: keep-alive whatever flows the other way, limits for writing, and boots that end.

use crate::bench::{
    BOOT, Bench, OTHER, SERIAL, agent_with_will, coordinator, monitor, status, topic, within,
};
use crate::raw::{Connect, PINGREQ, Raw, publish};
use piseduce_protocol::boot::client_id;
use piseduce_protocol::topic::Topic;
use std::sync::Arc;
use std::time::Duration;
use tokio::select;
use tokio::time::interval;

pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Sends `bytes` every [`TICK`] until `until` comes true; how often that was, and what came true.
async fn sending<T>(raw: &mut Raw, bytes: &[u8], until: impl Future<Output = T>) -> (u32, T) {
    let (mut clock, mut count) = (interval(TICK), 0);
    let mut until = std::pin::pin!(within("an end of the sending", until));
    loop {
        select! {
            // Ticks that this task was too late for come all at once, and count before the end does.
            biased;
            _ = clock.tick() => {
                raw.send(bytes).await;
                count += 1;
            }
            found = &mut until => return (count, found),
        }
    }
}

/// A coordinator that hears the will of the agent's, and nothing else.
pub(crate) async fn head(bench: &Bench) -> Raw {
    let mut head = bench.coordinator().await;
    head.subscribe(&[(&topic(&Topic::Link(SERIAL)), 0)]).await;
    head
}

#[tokio::test]
async fn a_silent_client_is_dropped_although_messages_flow_to_it() {
    let bench = Bench::start().await;
    let command = topic(&Topic::Command(SERIAL));
    let mut head = head(&bench).await;
    let mut node = bench.client(&agent_with_will().keep_alive(1)).await;
    node.subscribe(&[(&command, 0)]).await;
    let (count, ()) = sending(&mut head, &publish(&command, b"x", 0, false), node.is_closed()).await;
    assert!(count >= 13, "closed after {count} messages, too early for 1.5 times a second");
    assert_eq!(head.message().await.unwrap().payload, b"lost");
}

#[tokio::test]
async fn a_client_that_says_anything_in_time_stays() {
    let bench = Bench::start().await;
    let beat = publish(&topic(&Topic::Beat(SERIAL)), b"x", 0, false);
    let mut node = bench.client(&agent_with_will().keep_alive(1)).await;
    let mut monitor = bench.client(&monitor().keep_alive(1)).await;
    let mut ticks = interval(Duration::from_millis(300));
    for _ in 0..10 {
        ticks.tick().await;
        node.send(&beat).await;
        monitor.send(&PINGREQ).await;
        assert_eq!(monitor.packet().await, Some((0xd0, vec![])));
    }
    node.is_quiet().await;
}

#[tokio::test]
async fn a_client_without_keep_alive_is_accepted_and_may_be_silent_for_the_limit() {
    let bench = Bench::with(|settings| settings.silence_limit = Duration::from_millis(1_000)).await;
    let mut silent = bench.client(&monitor().keep_alive(0)).await;
    let mut talking = bench.client(&Connect { client_id: "talking".into(), ..monitor() }.keep_alive(0)).await;
    let (count, ()) = sending(&mut talking, &PINGREQ, silent.is_closed()).await;
    assert!(count >= 9, "closed after {count} ticks");
    assert!(talking.packet().await.is_some());
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped_although_it_talks() {
    let bench = Bench::with(|settings| settings.write_limit = Duration::from_secs(1)).await;
    let command = topic(&Topic::Command(SERIAL));
    let mut head = head(&bench).await;
    let mut node = bench.client(&agent_with_will()).await;
    node.subscribe(&[(&command, 0)]).await;
    // The sockets' buffers take some megabytes first.
    let flood = async {
        while !head.has_message() {
            head.publish(&command, &[0; 60_000], false).await;
            node.send(&PINGREQ).await;
        }
    };
    within("the buffers to be full and the limit over", flood).await;
    assert_eq!(head.message().await.unwrap().payload, b"lost");
}

#[tokio::test]
async fn a_client_that_asks_without_listening_is_dropped() {
    let bench = Bench::with(|settings| settings.write_limit = Duration::from_secs(1)).await;
    // The only one whose questions are not slowed down.
    let mut flooding = bench.coordinator().await;
    let pings = PINGREQ.repeat(32 * 1024);
    within("the flood's end", async { while flooding.try_send(&pings).await {} }).await;
    bench.monitor().await.is_quiet().await;
}

#[tokio::test]
async fn only_the_sessions_of_a_boot_that_ends_are_closed() {
    let bench = Bench::start().await;
    let other = Connect::new(&client_id(OTHER), &OTHER.to_string(), &BOOT.to_string());
    let mut other = bench.client(&other).await;
    let (mut monitor, mut head) = (bench.monitor().await, head(&bench).await);
    let mut node = bench.client(&agent_with_will()).await;
    bench.live.send_replace(Arc::new([(SERIAL, BOOT.next()), (OTHER, BOOT)].into()));
    tokio::time::timeout(Duration::from_secs(1), node.is_closed()).await.unwrap();
    assert_eq!(head.message().await.unwrap().payload, b"lost");
    for raw in [&mut other, &mut monitor, &mut head] {
        raw.is_quiet().await;
    }
    let next = Connect { password: BOOT.next().to_string(), ..agent_with_will() };
    bench.client(&next).await.is_quiet().await;
}

#[tokio::test]
async fn one_that_does_not_fetch_its_messages_delays_nobody() {
    let bench = Bench::start().await;
    let mut head = bench.client(&coordinator()).await;
    let mut lazy = bench.client(&Connect { client_id: "lazy".into(), ..monitor() }).await;
    let mut eager = bench.monitor().await;
    for monitor in [&mut lazy, &mut eager] {
        monitor.subscribe(&[(&status("pi-1"), 0)]).await;
    }
    for round in 0..300_u16 {
        let payload = [&round.to_be_bytes()[..], &[0; 60_000]].concat();
        head.publish(&status("pi-1"), &payload, false).await;
        assert_eq!(eager.message().await.unwrap().payload[..2], round.to_be_bytes());
    }
}

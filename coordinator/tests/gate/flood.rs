//! Those who say much, or hear slowly: they delay themselves, and nothing that was acknowledged is lost.

use crate::bench::{BOOT, Bench, OTHER, SERIAL, monitor, status, topic, within};
use crate::raw::{Connect, publish, subscribe};
use piseduce_coordinator::clock;
use piseduce_protocol::boot::client_id;
use piseduce_protocol::id::Serial;
use piseduce_protocol::topic::Topic;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// More bytes than the router's log of reports holds.
const FLOOD_BYTES: usize = 16 << 20;

fn other() -> Connect {
    Connect::new(&client_id(OTHER), &OTHER.to_string(), &BOOT.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooding_agent_delays_itself_and_no_acknowledged_report_of_another_is_lost() {
    let bench = Bench::start().await;
    let mut head = bench.coordinator().await;
    head.subscribe(&[("piseduce/main/node/+/report", 0)]).await;
    let mut flooding = bench.agent().await;
    let flood = tokio::spawn(async move {
        let report = publish(&topic(&Topic::Report(SERIAL)), &[7; 100], 0, false);
        let burst = report.repeat(1_000);
        while flooding.try_send(&burst).await {}
    });
    let mut quiet = bench.client(&other()).await;
    let report = topic(&Topic::Report(OTHER));
    let mut slowest = Duration::ZERO;
    for number in 0..100_u8 {
        let began = clock::now();
        quiet.publish(&report, &[number], false).await;
        // The coordinator hears slowly: what it has not taken is in the router, and in nobody's way.
        loop {
            let message = head.message().await.expect("a report");
            if message.topic == report {
                assert_eq!(message.payload, [number]);
                break;
            }
        }
        slowest = slowest.max(clock::now().since(began));
    }
    flood.abort();
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agents_said_waits_for_a_coordinator_that_hears_slowly() {
    const AGENTS: usize = 40;
    const REPORTS: usize = FLOOD_BYTES / AGENTS / 4_096;
    let bench = Bench::start().await;
    let serials: Vec<Serial> =
        (0..AGENTS as u64).map(|number| Serial(0x2000_0000_0000_0000 + number)).collect();
    bench.live.send_replace(Arc::new(serials.iter().map(|serial| (*serial, BOOT)).collect()));
    let mut head = bench.coordinator().await;
    head.subscribe(&[("piseduce/main/node/+/report", 0)]).await;
    let mut agents = Vec::new();
    for serial in serials {
        let connect = Connect::new(&client_id(serial), &serial.to_string(), &BOOT.to_string());
        agents.push((serial, bench.client(&connect).await));
    }
    let mut publishing = tokio::spawn(async move {
        for number in 0..REPORTS {
            for (serial, agent) in &mut agents {
                let payload = [&(number as u32).to_be_bytes()[..], &[0; 4_000]].concat();
                agent.publish(&topic(&Topic::Report(*serial)), &payload, false).await;
            }
        }
        agents
    });
    let all = timeout(Duration::from_secs(2), &mut publishing).await;
    assert!(all.is_err(), "everything was acknowledged before the coordinator had heard it");
    let mut next = HashMap::new();
    for _ in 0..AGENTS * REPORTS {
        let message = head.message().await.expect("a report");
        let number = u32::from_be_bytes(message.payload[..4].try_into().unwrap());
        let expected = next.entry(message.topic.clone()).or_insert(0);
        assert_eq!(number, *expected, "reports on {} are missing", message.topic);
        *expected += 1;
    }
    within("the agents", publishing).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_fetches_nothing_is_disconnected_and_others_get_theirs() {
    let bench = Bench::start().await;
    let (own, others) = (topic(&Topic::Command(SERIAL)), topic(&Topic::Command(OTHER)));
    let mut head = bench.coordinator().await;
    let mut stuck = bench.agent().await;
    stuck.subscribe(&[(&own, 1)]).await;
    let mut quick = bench.client(&other()).await;
    quick.subscribe(&[(&others, 1)]).await;
    // A hundred are on their way to it at most, a thousand may wait.
    head.send(&publish(&own, &[7; 100], 0, false).repeat(1_500)).await;
    head.publish(&others, b"yours", false).await;
    assert_eq!(quick.message().await.unwrap().payload, b"yours");
    within("the end of the one that is stuck", async { while stuck.packet().await.is_some() {} }).await;
    bench.agent().await.is_quiet().await;
}

#[tokio::test]
async fn names_of_nodes_that_do_not_exist_are_subscribed_and_stay_silent() {
    let bench = Bench::start().await;
    let names: Vec<String> = (0..2_048).map(|number| status(&format!("x{number}"))).collect();
    let filters: Vec<(&str, u8)> = names.iter().map(|name| (&**name, 0)).collect();
    let mut head = bench.coordinator().await;
    head.publish(&status("pi-1"), b"free", true).await;
    for round in 0..5_u8 {
        let mut early = bench.monitor().await;
        early.send(&subscribe(&filters)).await;
        assert_eq!(early.answer().await.unwrap().1.len(), 2 + 2_048);
        head.publish(&status("pi-1"), b"busy", true).await;
        head.publish(&names[0], &[round], false).await;
        assert_eq!(early.message().await.unwrap().payload, [round]);
        early.is_quiet().await;
        // One more name, later: its retained message comes, and the live ones go on.
        let mut late = bench.client(&Connect { client_id: "late".into(), ..monitor() }).await;
        late.subscribe(&[(&names[0], 0)]).await;
        late.subscribe(&[(&status("pi-1"), 0)]).await;
        let retained = late.message().await.unwrap();
        assert!(retained.retain && retained.payload == b"busy");
        late.is_quiet().await;
    }
}

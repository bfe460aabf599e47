//! Clients that mean harm, or are broken: whatever they send and whenever they leave, everybody else is served.

use crate::bench::{Bench, SERIAL, agent, coordinator, monitor, site, status, topic};
use crate::raw::{Connect, DISCONNECT, PINGREQ, Raw, packet, publish, subscribe, unsubscribe};
use piseduce_protocol::topic::Topic;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::select;
use tokio::time::timeout;

/// Xorshift: the same numbers from the same seed everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// Asserts that the router lives and that messages get through.
async fn all_is_well(bench: &Bench) {
    let mut monitor = bench.monitor().await;
    let event = topic(&Topic::Event);
    assert_eq!(monitor.subscribe(&[(&event, 0)]).await, [0]);
    bench.coordinator().await.publish(&event, b"well", false).await;
    assert_eq!(monitor.message().await.unwrap().payload, b"well");
    assert!(timeout(Duration::ZERO, bench.gate.router_died()).await.is_err(), "the router has died");
}

/// Packets of every kind that a client sends, for each to be spoilt.
fn packets() -> Vec<Vec<u8>> {
    let (report, pi) = (topic(&Topic::Report(SERIAL)), status("pi-1"));
    vec![
        monitor().bytes(),
        agent().will(&topic(&Topic::Link(SERIAL)), b"lost", 1, false).bytes(),
        publish(&report, b"hello", 1, false),
        publish(&pi, b"free", 0, true),
        packet(0x40, &[0, 1]),
        subscribe(&[(&pi, 1), (&site().status_filter(), 0), (&topic(&Topic::Command(SERIAL)), 1)]),
        unsubscribe(&[&pi, &report]),
        PINGREQ.to_vec(),
        DISCONNECT.to_vec(),
    ]
}

/// A few packets with a few bytes changed, left out or added.
fn spoilt(random: &mut Random) -> Vec<u8> {
    let packets = packets();
    let mut bytes: Vec<u8> =
        (0..=random.below(3)).flat_map(|_| packets[random.below(packets.len())].clone()).collect();
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len().max(1));
        match random.below(4) {
            0 if !bytes.is_empty() => drop(bytes.remove(at)),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, random.below(256) as u8),
            _ if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    bytes
}

/// Says something wrong, before a CONNECT or after one, as an agent, a monitor, even a coordinator.
async fn misbehave(address: SocketAddr, seed: u64) {
    let mut random = Random(seed);
    let mut raw = Raw::knock(address).await;
    let hello = [None, Some(agent()), Some(monitor()), Some(coordinator())];
    if let Some(connect) = &hello[random.below(hello.len())] {
        raw.send(&connect.bytes()).await;
    }
    let count = random.below(200);
    let bytes = if random.below(4) == 0 { random.bytes(count) } else { spoilt(&mut random) };
    raw.send(&bytes).await;
    raw.finish().await;
}

/// Subscribes to more than the router hands over at once, and leaves at a bad moment in one of several ways.
async fn hurry(address: SocketAddr, seed: u64) {
    let mut random = Random(seed);
    let mut raw = Raw::knock(address).await;
    let client_id = format!("hasty-{}", seed % 8);
    raw.send(&Connect { client_id, ..monitor() }.bytes()).await;
    let mut bytes = subscribe(&[(&site().status_filter(), 0)]);
    for _ in 0..random.below(20) {
        let pi = status(&format!("pi-{}", random.below(300)));
        bytes.extend(if random.below(3) == 0 { unsubscribe(&[&pi]) } else { subscribe(&[(&pi, 0)]) });
    }
    raw.send(&bytes).await;
    let count = random.below(30_000);
    raw.skim(count).await;
    let pi = status(&format!("pi-{}", random.below(300)));
    match random.below(5) {
        0 => {}
        1 => raw.send(&DISCONNECT).await,
        2 => raw.send(&[&subscribe(&[(&pi, 1)])[..], &DISCONNECT].concat()).await,
        3 => raw.send(&packet(0x40, &[0, 1])).await,
        _ => raw.send(&[&PINGREQ[..], &DISCONNECT].concat()).await,
    }
    if random.below(2) == 0 {
        raw.finish().await;
    }
}

/// Runs `rounds` clients, eight at a time, each with a seed of its own that a failure names.
async fn clients<F: Future<Output = ()> + Send + 'static>(rounds: u64, client: impl Fn(u64) -> F) {
    let mut running = VecDeque::new();
    for round in 1..=rounds {
        let seed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        running.push_back((seed, tokio::spawn(client(seed))));
        if running.len() == 8 || round == rounds {
            for (seed, client) in running.drain(..) {
                client.await.unwrap_or_else(|error| panic!("client with seed {seed:#x}: {error}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_bytes_never_harm_the_gate() {
    let bench = Bench::start().await;
    let address = bench.gate.local_addr();
    clients(3_000, |seed| misbehave(address, seed)).await;
    all_is_well(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_that_leave_at_bad_moments_never_harm_the_router() {
    let bench = Bench::start().await;
    let address = bench.gate.local_addr();
    let mut head = bench.coordinator().await;
    let statuses = (0..300).flat_map(|node| publish(&status(&format!("pi-{node}")), b"free", 0, true));
    let statuses: Vec<u8> = statuses.collect();
    let flood = async {
        loop {
            head.send(&statuses).await;
            head.is_quiet().await;
        }
    };
    select! {
        () = clients(800, |seed| hurry(address, seed)) => {}
        () = flood => {}
    }
    all_is_well(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_bye_with_messages_waiting_is_one() {
    let bench = Bench::start().await;
    let (command, link) = (topic(&Topic::Command(SERIAL)), topic(&Topic::Link(SERIAL)));
    let own = topic(&Topic::Coordinator);
    let mut head = bench.coordinator().await;
    head.subscribe(&[(&link, 0), (&own, 0)]).await;
    // More than the router hands over at once, none of them acknowledged, at either QoS.
    let burst = publish(&command, &[7; 20], 0, false).repeat(500);
    for round in 0..100 {
        let mut node = bench.client(&agent().will(&link, b"lost", 0, false)).await;
        node.subscribe(&[(&command, u8::from(round % 2 == 0))]).await;
        head.send(&burst).await;
        // They are through the router: those of many rounds at once would be more than may wait for one agent.
        head.publish(&own, b"through", false).await;
        assert_eq!(head.message().await.unwrap().payload, b"through", "no last will");
        if round % 3 > 0 {
            assert!(node.message().await.is_some());
        }
        node.send(&DISCONNECT).await;
        node.finish().await;
    }
    head.is_quiet().await;
    all_is_well(&bench).await;
}

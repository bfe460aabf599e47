//! Many agents at the gate: how soon they are in, what they cost, and that nothing of them stays. In a program of its own,
//! because it looks at the memory of the whole process.
#![expect(clippy::unwrap_used, reason = "clippy allows it in tests, but not in what they share")]

#[path = "../gate/bench.rs"]
#[expect(dead_code, reason = "shared with the tests of the gate, which use the rest")]
mod bench;
#[path = "../gate/raw.rs"]
#[expect(dead_code, reason = "shared with the tests of the gate, which use the rest")]
mod raw;

use bench::{BOOT, Bench, topic, within};
use piseduce_coordinator::clock;
use piseduce_protocol::boot::client_id;
use piseduce_protocol::id::Serial;
use piseduce_protocol::topic::Topic;
use raw::{Connect, DISCONNECT, Raw, packet, publish};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// One test at a time: they share one memory.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What the process holds in memory, in KiB.
fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn serials(count: u64) -> Vec<Serial> {
    (0..count).map(|number| Serial(0x2000_0000_0000_0000 + number)).collect()
}

/// A gate at which the agents of these boards may come in.
async fn bench_for(serials: &[Serial]) -> Bench {
    let bench = Bench::start().await;
    bench.live.send_replace(Arc::new(serials.iter().map(|serial| (*serial, BOOT)).collect()));
    bench
}

/// An agent that hears its commands.
async fn agent(bench: &Bench, serial: Serial) -> Raw {
    let connect = Connect::new(&client_id(serial), &serial.to_string(), &BOOT.to_string());
    let mut agent = bench.client(&connect).await;
    let (own, announce) = (topic(&Topic::Command(serial)), topic(&Topic::Announce));
    assert_eq!(agent.subscribe(&[(&own, 1), (&announce, 1)]).await, [1, 1]);
    agent
}

/// Lets all of them in at once.
async fn all(bench: &Arc<Bench>, serials: &[Serial]) -> Vec<Raw> {
    let joining: Vec<_> = serials
        .iter()
        .map(|serial| {
            let (bench, serial) = (Arc::clone(bench), *serial);
            tokio::spawn(async move { agent(&bench, serial).await })
        })
        .collect();
    let mut agents = Vec::new();
    for agent in joining {
        agents.push(agent.await.unwrap());
    }
    agents
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_agents_join_at_once_and_take_little_memory() {
    const AGENTS: u64 = 1_000;
    let _alone = ALONE.lock().await;
    let serials = serials(AGENTS);
    let bench = Arc::new(bench_for(&serials).await);
    let mut head = bench.coordinator().await;
    let before = resident_kib();
    let began = clock::now();
    let mut agents = all(&bench, &serials).await;
    let took = clock::now().since(began);
    for (serial, agent) in serials.iter().zip(&mut agents) {
        head.publish(&topic(&Topic::Command(*serial)), &serial.0.to_be_bytes(), false).await;
        assert_eq!(agent.message().await.unwrap().payload, serial.0.to_be_bytes());
    }
    head.publish(&topic(&Topic::Announce), b"hello?", false).await;
    for agent in &mut agents {
        assert_eq!(agent.message().await.unwrap().payload, b"hello?");
    }
    let each = (resident_kib() - before) / AGENTS as i64;
    eprintln!("{AGENTS} agents joined in {took:?}; each takes {each} KiB, its own end included");
    assert!(each < 50, "{each} KiB an agent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_rounds_of_deployments_leave_nothing_behind() {
    const AGENTS: u64 = 20;
    const MESSAGES: usize = 10;
    let _alone = ALONE.lock().await;
    let mut sizes = Vec::new();
    let serials = serials(AGENTS);
    let bench = Arc::new(bench_for(&serials).await);
    let mut head = bench.coordinator().await;
    head.subscribe(&[("piseduce/main/node/+/report", 0)]).await;
    for _round in 0..50 {
        let mut agents = all(&bench, &serials).await;
        for _ in 0..MESSAGES {
            for (serial, agent) in serials.iter().zip(&mut agents) {
                head.publish(&topic(&Topic::Command(*serial)), &[7; 200], false).await;
                let command = agent.message().await.unwrap();
                agent.send(&packet(0x40, &command.id.to_be_bytes())).await;
                agent.send(&publish(&topic(&Topic::Report(*serial)), &[8; 200], 0, false)).await;
                assert!(head.message().await.is_some());
            }
        }
        for agent in &mut agents {
            agent.send(&DISCONNECT).await;
            within("the end", agent.is_closed()).await;
        }
        sizes.push(resident_kib());
    }
    let grown = sizes[49] - sizes[24];
    eprintln!("KiB after rounds 1, 10, 25, 50: {} {} {} {}", sizes[0], sizes[9], sizes[24], sizes[49]);
    assert!(grown < 1_024, "{grown} KiB more after 25 further rounds: {sizes:?}");
    assert!(tokio::time::timeout(Duration::ZERO, bench.gate.router_died()).await.is_err());
}

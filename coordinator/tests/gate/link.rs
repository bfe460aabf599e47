//! Our own link at brokers that answer, but not as they should.

use crate::bench::{BOOT, Bench, SERIAL, site, topic, within};
use crate::raw::{Raw, packet};
use piseduce_coordinator::bus::LiveBoots;
use piseduce_coordinator::bus::link::{Heard, Link, LinkSettings};
use piseduce_coordinator::credentials::Credentials;
use piseduce_protocol::boot::Account;
use piseduce_protocol::command::{Command, Order};
use piseduce_protocol::id::{BootNumber, DeploymentId, Run, Seq, Ticket};
use piseduce_protocol::report::{Answer, Outcome, Report};
use piseduce_protocol::seal::{self, SiteKey};
use piseduce_protocol::topic::Topic;
use std::net::TcpListener;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// How long our own link may take to leave a broker that is of no use.
const LEAVES_WITHIN: Duration = Duration::from_secs(60);

/// What is wrong with a broker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    NoPubAck,
    NoSubAck,
    RefusesSubscriptions,
}

fn credentials() -> Credentials {
    Credentials::new(SiteKey([7; 32]))
}

fn command(seq: u32) -> Command {
    let ticket = Ticket { deployment: DeploymentId(1), run: Run(1), seq: Seq(seq) };
    Command { ticket, unix_ms: 0, order: Order::Stop }
}

/// A link to a broker on this port, and what it hears of the agents whose boots are live.
fn link_to(tcp_port: u16, live: watch::Receiver<LiveBoots>) -> (Link, mpsc::Receiver<Heard>) {
    let settings = LinkSettings {
        host: "127.0.0.1".into(),
        tcp_port,
        client_id: "coordinator".into(),
        account: Account { user: "coordinator".into(), password: "secret".into() },
        site: site(),
        epoch: 1,
    };
    let (send, heard) = mpsc::channel(16);
    (Link::start(settings, credentials(), live, send), heard)
}

/// A link to a broker on `listener`, and what it hears.
fn link(listener: &TcpListener) -> (Link, mpsc::Receiver<Heard>) {
    let (_live, live) = watch::channel(LiveBoots::default());
    link_to(listener.local_addr().unwrap().port(), live)
}

/// The next connection.
async fn accept(listener: &TcpListener) -> Raw {
    let listener = listener.try_clone().unwrap();
    let accepting = tokio::task::spawn_blocking(move || listener.accept().unwrap().0);
    Raw::over(timeout(LEAVES_WITHIN, accepting).await.expect("a connection").unwrap())
}

/// Serves one connection to its end, pings included; the topics that were published on.
async fn serve(mut raw: Raw, fault: Fault) -> Vec<String> {
    let mut topics = Vec::new();
    while let Some((first, body)) = raw.packet().await {
        let answer = match first & 0xf0 {
            0x10 => Some(packet(0x20, &[0, 0])),
            0x30 => {
                let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
                topics.push(String::from_utf8(body[2..2 + length].to_vec()).unwrap());
                None
            }
            0x80 if fault == Fault::NoSubAck => None,
            // Three filters come at once, one later: more codes than filters are as good.
            0x80 => {
                let code = if fault == Fault::RefusesSubscriptions { 0x80 } else { 1 };
                Some(packet(0x90, &[body[0], body[1], code, code, code]))
            }
            0xc0 => Some(packet(0xd0, &[])),
            _ => None,
        };
        if let Some(answer) = answer {
            raw.send(&answer).await;
        }
    }
    topics
}

#[tokio::test]
async fn a_broker_that_acknowledges_nothing_is_left_and_the_next_connection_hears_all_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (link, mut heard) = link(&listener);
    link.command(SERIAL, BootNumber(1), command(1));
    let command = site().render(&Topic::Command(SERIAL));
    for _connection in 0..2 {
        let served = serve(accept(&listener).await, Fault::NoPubAck);
        let topics = timeout(LEAVES_WITHIN, served).await.expect("it is left");
        assert!(topics.contains(&command), "{topics:?}");
        assert_eq!(heard.recv().await, Some(Heard::Up));
        assert_eq!(heard.recv().await, Some(Heard::Down));
    }
}

#[tokio::test]
async fn a_broker_that_lets_us_hear_nobody_is_no_link() {
    for fault in [Fault::NoSubAck, Fault::RefusesSubscriptions] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_link, mut heard) = link(&listener);
        let served = serve(accept(&listener).await, fault);
        assert!(timeout(LEAVES_WITHIN, served).await.expect("it is left").is_empty());
        accept(&listener).await;
        assert!(heard.try_recv().is_err(), "it was never up");
    }
}

#[tokio::test]
async fn a_broker_that_hangs_up_after_its_greeting_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_link, mut heard) = link(&listener);
    for _connection in 0..5 {
        let mut raw = accept(&listener).await;
        assert!(raw.packet().await.is_some_and(|(first, _)| first == 0x10));
        raw.send(&packet(0x20, &[0, 0])).await;
    }
    assert!(heard.try_recv().is_err(), "it was never up");
}

/// What one message waits for the acknowledgement of the one before it, where sockets collect small ones: 40 ms a round.
#[tokio::test]
async fn commands_that_follow_reports_wait_for_no_acknowledgement() {
    const ROUNDS: u32 = 75;
    let bench = Bench::start().await;
    let (link, mut heard) = link_to(bench.port(), bench.live.subscribe());
    assert_eq!(within("the link", heard.recv()).await, Some(Heard::Up));
    let (own, report_topic) = (topic(&Topic::Command(SERIAL)), topic(&Topic::Report(SERIAL)));
    let mut node = bench.agent().await;
    node.subscribe(&[(&own, 0)]).await;
    let key = credentials().boot_keys(SERIAL, BOOT).message;
    let began = piseduce_coordinator::clock::now();
    for round in 1..=ROUNDS {
        let answer = Answer { ticket: command(round).ticket, outcome: Outcome::Started };
        let report = Report::Answer(answer);
        let sealed = seal::seal(&key, &report_topic, BOOT, round.into(), &report).unwrap();
        node.publish(&report_topic, &sealed, false).await;
        assert!(matches!(within("the report", heard.recv()).await, Some(Heard::Report(..))));
        link.command(SERIAL, BOOT, command(round + 1));
        assert!(node.message().await.is_some());
    }
    let took = piseduce_coordinator::clock::now().since(began);
    assert!(took < Duration::from_millis(20) * ROUNDS, "{ROUNDS} rounds took {took:?}");
}

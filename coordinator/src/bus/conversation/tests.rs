//! What each identity is answered, and what the router gets of it.

use super::*;
use crate::bus::Identity;
use bytes::Bytes;
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::topic::Site;

const REPORT: &str = "piseduce/main/node/10000000000000ab/report";
const COMMAND: &str = "piseduce/main/node/10000000000000ab/command";
const TREE: &str = "piseduce/main/status/#";
const QOS_0: QoS = QoS::AtMostOnce;
const QOS_1: QoS = QoS::AtLeastOnce;

fn conversation(identity: Identity) -> Conversation {
    let access = Access { site: Site::new("main").unwrap(), identity };
    Conversation::new(access)
}

fn agent() -> Conversation {
    conversation(Identity::Agent { serial: Serial(0x1000_0000_0000_00ab), boot: BootNumber(1) })
}

fn monitor() -> Conversation {
    conversation(Identity::Monitor { name: "alice".into() })
}

fn report(payload: &'static [u8], qos: QoS) -> Incoming {
    let payload = Bytes::from_static(payload);
    Incoming::Publish(Message { topic: REPORT.into(), payload, qos, retain: false }, qos as u16 * 7)
}

fn statuses(names: std::ops::Range<usize>) -> Vec<(String, QoS)> {
    names.map(|name| (format!("piseduce/main/status/pi-{name}"), QOS_0)).collect()
}

fn message(topic: &str) -> Packet {
    Packet::Publish(Publish::new(Bytes::copy_from_slice(topic.as_bytes()), "x".into(), false), None)
}

/// Lets the client say `packet`; what the router gets, and what the client is answered.
fn said(conversation: &mut Conversation, packet: Incoming) -> (Vec<Packet>, Vec<u8>) {
    let mut output = BytesMut::new();
    let routed = conversation.hear(packet, &mut output).unwrap();
    (routed, output.to_vec())
}

fn told(conversation: &mut Conversation, packet: Packet) -> Vec<u8> {
    let mut output = BytesMut::new();
    conversation.tell(packet, &mut output);
    output.to_vec()
}

fn suback() -> Packet {
    Packet::SubAck(SubAck { pkid: 0, return_codes: Vec::new() }, None)
}

fn unsuback() -> Packet {
    Packet::UnsubAck(UnsubAck { pkid: 0, reasons: Vec::new() }, None)
}

#[test]
fn a_ping_is_answered_without_the_router() {
    assert_eq!(said(&mut monitor(), Incoming::PingReq), (vec![], vec![0xd0, 0]));
}

#[test]
fn a_message_reaches_the_router_with_qos_0_and_is_acknowledged_by_its_own() {
    let routed = vec![Packet::Publish(Publish::new(REPORT, "hello", false), None)];
    assert_eq!(said(&mut agent(), report(b"hello", QOS_0)), (routed.clone(), vec![]));
    assert_eq!(said(&mut agent(), report(b"hello", QOS_1)), (routed, vec![0x40, 2, 0, 7]));
}

#[test]
fn an_empty_message_is_acknowledged_and_dropped() {
    assert_eq!(said(&mut agent(), report(b"", QOS_1)), (vec![], vec![0x40, 2, 0, 7]));
}

#[test]
fn an_agents_suback_does_not_wait_for_the_router_and_says_what_was_granted() {
    let mut agent = agent();
    let filters = [(COMMAND, QoS::ExactlyOnce), ("#", QOS_0)].map(|(filter, qos)| (filter.into(), qos));
    let answered = said(&mut agent, Incoming::Subscribe(9, filters.into()));
    assert_eq!(answered, (vec![], vec![0x90, 4, 0, 9, 1, 0x80]));
}

/// The filters that the router is told to leave and to subscribe.
fn routed(packets: &[Packet]) -> (Vec<&str>, Vec<&str>) {
    let (mut left, mut taken) = (vec![], vec![]);
    for packet in packets {
        match packet {
            Packet::Subscribe(subscribe, _) => {
                taken.extend(subscribe.filters.iter().map(|filter| &*filter.path))
            }
            Packet::Unsubscribe(unsubscribe, _) => {
                left.extend(unsubscribe.filters.iter().map(String::as_str))
            }
            other => panic!("{other:?}"),
        }
    }
    (left, taken)
}

#[test]
fn names_of_any_number_of_nodes_are_one_filter_at_the_router() {
    let mut monitor = monitor();
    let (packets, answer) = said(&mut monitor, Incoming::Subscribe(1, statuses(0..2_000)));
    assert_eq!((routed(&packets), answer), ((vec![], vec![TREE]), vec![]));
    assert_eq!(told(&mut monitor, suback()).len(), 1 + 2 + 2 + 2_000);
    assert!(told(&mut monitor, suback()).is_empty(), "an answer is given once");
    assert_eq!(routed(&said(&mut monitor, Incoming::Subscribe(2, statuses(0..2_000))).0), (vec![], vec![]));

    let more = said(&mut monitor, Incoming::Subscribe(3, statuses(2_000..2_001)));
    assert_eq!(routed(&more.0), (vec![TREE], vec![TREE]), "the retained message is due");
    assert!(told(&mut monitor, unsuback()).is_empty());
    assert_eq!(told(&mut monitor, suback()), [0x90, 3, 0, 3, 0]);

    let name = |number: usize| statuses(number..number + 1).remove(0).0;
    assert!(!told(&mut monitor, message(&name(7))).is_empty());
    assert!(told(&mut monitor, message(&name(2_001))).is_empty(), "not asked for");
    let names = |numbers: std::ops::Range<usize>| numbers.map(name).collect();
    assert!(said(&mut monitor, Incoming::Unsubscribe(4, names(0..2_000))).0.is_empty());
    let last = said(&mut monitor, Incoming::Unsubscribe(5, names(1_999..2_002)));
    assert_eq!((routed(&last.0), last.1), ((vec![TREE], vec![]), vec![]));
    assert_eq!(told(&mut monitor, unsuback()), [0xb0, 2, 0, 5]);
}

#[test]
fn a_message_comes_once_with_the_best_qos_of_its_subscriptions() {
    let mut monitor = monitor();
    let name = statuses(1..2).remove(0).0;
    let filters = vec![("piseduce/main/status/+".to_owned(), QOS_1), (name.clone(), QOS_1)];
    said(&mut monitor, Incoming::Subscribe(1, filters));
    assert_eq!(told(&mut monitor, message(&name))[0], 0x32);
    assert_eq!(told(&mut monitor, message(&statuses(2..3)[0].0))[0], 0x30, "a wildcard has QoS 0");
}

#[test]
fn only_the_oldest_unacknowledged_message_can_be_acknowledged() {
    let mut agent = agent();
    said(&mut agent, Incoming::Subscribe(1, vec![(COMMAND.into(), QOS_1)]));
    for _ in 0..UNACKNOWLEDGED_MAX {
        assert!(!agent.is_full());
        told(&mut agent, message(COMMAND));
    }
    assert!(agent.is_full());
    assert_eq!(said(&mut agent, Incoming::PubAck(1)), (vec![], vec![]));
    assert!(!agent.is_full());
    let wrong = Violation::Acknowledgement { found: 3, expected: Some(2) };
    assert_eq!(agent.hear(Incoming::PubAck(3), &mut BytesMut::new()), Err(wrong));
}

#[test]
fn the_filters_of_one_session_are_bounded() {
    let mut monitor = monitor();
    said(&mut monitor, Incoming::Subscribe(1, statuses(0..SUBSCRIPTIONS_MAX + 5)));
    let answer = told(&mut monitor, suback());
    assert_eq!(answer.iter().filter(|code| **code == 0x80).count(), 5);
}

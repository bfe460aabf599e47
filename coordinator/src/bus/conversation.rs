//! One client's MQTT conversation: what its packets mean for the router, and the router's for it. Pure: packets in,
//! packets and bytes out; `session` moves them.
//!
//! It answers by itself what the router answers wrongly or not at all, and lets nothing through that makes the router
//! drop the client on its own: each function names the weakness that it stands in front of.

use super::acl::{Access, Grant};
use super::identity::Identity;
use super::wire::{self, Incoming, Message};
use bytes::BytesMut;
use piseduce_protocol::MESSAGE_BYTES_MAX;
use rumqttd::protocol::{
    Filter, Packet, PingResp, PubAck, PubAckReason, Publish, QoS, RetainForwardRule, SubAck, Subscribe,
    SubscribeReasonCode, UnsubAck, Unsubscribe,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

/// How many filters one session may have subscribed.
const SUBSCRIPTIONS_MAX: usize = 2_048;

/// How many different filters monitors may bring in the life of a gate: the router never forgets one.
const MONITOR_FILTERS_MAX: usize = 4_096;

/// Something that a client must not do, and that ends its session.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    /// A second CONNECT.
    #[error("connected twice")]
    SecondConnect,
    /// A message on a topic that is not the client's, or retained without the right to.
    #[error("published on {topic:?} (retained: {retain}) without the right to")]
    Publish { topic: String, retain: bool },
    /// A message with a QoS that is not served.
    #[error("published on {0:?} with QoS 2")]
    QosTwo(String),
    /// A message that is too long.
    #[error("published {bytes} bytes on {topic:?}, {MESSAGE_BYTES_MAX} at most are allowed")]
    Length { topic: String, bytes: usize },
    /// An acknowledgement of something else than the oldest unacknowledged message.
    #[error("acknowledged message {found}, expected was {expected:?}")]
    Acknowledgement { found: u16, expected: Option<u16> },
}

/// The filters that monitors have brought to a gate.
#[derive(Default)]
pub(super) struct MonitorFilters(Mutex<HashSet<String>>);

impl MonitorFilters {
    /// Whether `filter` is known, or one of few enough to become so.
    fn admit(&self, filter: &str) -> bool {
        let mut known = self.0.lock().expect("nothing panics while it holds this lock");
        known.contains(filter) || (known.len() < MONITOR_FILTERS_MAX && known.insert(filter.to_owned()))
    }
}

/// The state of one client's conversation.
pub(super) struct Conversation {
    access: Access,
    monitor_filters: Arc<MonitorFilters>,
    /// By the filter as the client names it.
    subscriptions: HashMap<String, Grant>,
    /// Packet ids of messages to the client, the oldest first.
    unacknowledged: VecDeque<u16>,
    /// Answers that wait for this many acknowledgements of the router's each.
    answers: VecDeque<(usize, Packet)>,
}

impl Conversation {
    pub(super) fn new(access: Access, monitor_filters: Arc<MonitorFilters>) -> Self {
        Conversation {
            access,
            monitor_filters,
            subscriptions: HashMap::new(),
            unacknowledged: VecDeque::new(),
            answers: VecDeque::new(),
        }
    }

    /// A packet came from the client; what is answered to it is appended to `output`. Returns what the router gets.
    pub(super) fn hear(
        &mut self,
        packet: Incoming,
        output: &mut BytesMut,
    ) -> Result<Option<Packet>, Violation> {
        match packet {
            Incoming::Connect(_) => Err(Violation::SecondConnect),
            Incoming::Publish(message, packet_id) => self.publish(message, packet_id, output),
            Incoming::PubAck(packet_id) => self.acknowledge(packet_id).map(Some),
            Incoming::Subscribe(packet_id, filters) => Ok(self.subscribe(packet_id, filters, output)),
            Incoming::Unsubscribe(packet_id, filters) => Ok(self.unsubscribe(packet_id, &filters, output)),
            Incoming::PingReq => {
                wire::put(Packet::PingResp(PingResp), output);
                Ok(None)
            }
            // Nothing is left to say; the session ends.
            Incoming::Disconnect => Ok(None),
        }
    }

    /// A packet came from the router; what the client gets of it is appended to `output`.
    pub(super) fn tell(&mut self, packet: Packet, output: &mut BytesMut) {
        match packet {
            Packet::Publish(publish, _) => self.unacknowledged.extend(wire::put_publish(publish, output)),
            Packet::SubAck(..) | Packet::UnsubAck(..) => {
                let Some((awaited, _)) = self.answers.front_mut() else { return };
                *awaited -= 1;
                if *awaited == 0
                    && let Some((_, answer)) = self.answers.pop_front()
                {
                    wire::put(answer, output);
                }
            }
            // The router is asked for nothing else.
            _ => {}
        }
    }

    /// What the router gets of a message. Its acknowledgement need not wait for the router, which keeps messages in
    /// memory only, and is not sent if handing the message over fails.
    fn publish(
        &self,
        message: Message,
        packet_id: u16,
        output: &mut BytesMut,
    ) -> Result<Option<Packet>, Violation> {
        let Message { topic, retain, .. } = &message;
        if message.qos == QoS::ExactlyOnce {
            return Err(Violation::QosTwo(message.topic));
        }
        if message.payload.len() > MESSAGE_BYTES_MAX {
            return Err(Violation::Length { topic: message.topic, bytes: message.payload.len() });
        }
        if !self.access.may_publish(topic, *retain) {
            return Err(Violation::Publish { retain: message.retain, topic: message.topic });
        }
        if packet_id != 0 {
            wire::put(
                Packet::PubAck(PubAck { pkid: packet_id, reason: PubAckReason::Success }, None),
                output,
            );
        }
        Ok(routed(message))
    }

    /// The router would drop a client that acknowledges anything else, and panic if that had just woken it.
    fn acknowledge(&mut self, packet_id: u16) -> Result<Packet, Violation> {
        let expected = self.unacknowledged.pop_front();
        if expected != Some(packet_id) {
            return Err(Violation::Acknowledgement { found: packet_id, expected });
        }
        Ok(Packet::PubAck(PubAck { pkid: packet_id, reason: PubAckReason::Success }, None))
    }

    /// Only filters that are allowed and new reach the router. A known one would change nothing there, but its answer
    /// would name another QoS than the one it goes on using.
    fn subscribe(
        &mut self,
        packet_id: u16,
        filters: Vec<(String, QoS)>,
        output: &mut BytesMut,
    ) -> Option<Packet> {
        let mut codes = Vec::with_capacity(filters.len());
        let mut new = Vec::new();
        for (filter, asked) in filters {
            let Some(grant) =
                self.access.grant(&filter, asked).and_then(|grant| self.settle(grant, &mut new))
            else {
                tracing::warn!(?filter, "subscription refused");
                codes.push(SubscribeReasonCode::Failure);
                continue;
            };
            codes.push(SubscribeReasonCode::Success(grant.qos));
            self.subscriptions.insert(filter, grant);
        }
        let answer = Packet::SubAck(SubAck { pkid: packet_id, return_codes: codes }, None);
        if new.is_empty() {
            wire::put(answer, output);
            return None;
        }
        self.answers.push_back((1, answer));
        Some(Packet::Subscribe(Subscribe { pkid: packet_id, filters: new }, None))
    }

    /// What a subscription that is allowed really gets: what its filter has already, or an entry in `new`, or nothing
    /// because there are too many.
    fn settle(&self, grant: Grant, new: &mut Vec<Filter>) -> Option<Grant> {
        if let Some(known) = self.subscriptions.values().find(|known| known.filter == grant.filter) {
            return Some(known.clone());
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return None;
        }
        if matches!(self.access.identity, Identity::Monitor { .. })
            && !self.monitor_filters.admit(&grant.filter)
        {
            return None;
        }
        new.push(router_filter(&grant));
        Some(grant)
    }

    /// The router answers once for each filter that it knows, and never for another.
    fn unsubscribe(&mut self, packet_id: u16, filters: &[String], output: &mut BytesMut) -> Option<Packet> {
        let mut known = Vec::new();
        for filter in filters {
            if let Some(grant) = self.subscriptions.remove(filter)
                && !self.subscriptions.values().any(|other| other.filter == grant.filter)
            {
                known.push(grant.filter);
            }
        }
        let answer = Packet::UnsubAck(UnsubAck { pkid: packet_id, reasons: Vec::new() }, None);
        if known.is_empty() {
            wire::put(answer, output);
            return None;
        }
        self.answers.push_back((known.len(), answer));
        Some(Packet::Unsubscribe(Unsubscribe { pkid: packet_id, filters: known }, None))
    }
}

/// A message as the router gets it. None for an empty one that is not retained: it means nothing to anybody here, and
/// the router would delete the retained message of its topic. An empty retained one is meant to do just that.
pub(super) fn routed(message: Message) -> Option<Packet> {
    let Message { topic, payload, retain, .. } = message;
    if payload.is_empty() && !retain {
        tracing::warn!(?topic, "empty message dropped");
        return None;
    }
    // Always QoS 0 on this side: what a subscriber gets depends on its subscription alone.
    Some(Packet::Publish(Publish::new(topic.into(), payload, retain), None))
}

fn router_filter(grant: &Grant) -> Filter {
    Filter {
        path: grant.filter.clone(),
        qos: grant.qos,
        nolocal: false,
        preserve_retain: false,
        retain_forward_rule: RetainForwardRule::OnEverySubscribe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use piseduce_protocol::id::{BootNumber, Serial};
    use piseduce_protocol::topic::Site;

    const REPORT: &str = "piseduce/main/node/10000000000000ab/report";
    const COMMAND: &str = "piseduce/main/node/10000000000000ab/command";
    const QOS_0: QoS = QoS::AtMostOnce;
    const QOS_1: QoS = QoS::AtLeastOnce;

    fn conversation(identity: Identity) -> Conversation {
        let access = Access { site: Site::new("main").unwrap(), identity };
        Conversation::new(access, Arc::default())
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

    /// A message from the router with this packet id. The codec's storage format is the only way to make one.
    fn numbered(packet_id: u8) -> Packet {
        Packet::Publish(Publish::deserialize(Bytes::from(vec![0x32, 0, packet_id, 0, 1, b't', b'x'])), None)
    }

    /// Lets the client say `packet`; what the router gets, and what the client is answered.
    fn said(conversation: &mut Conversation, packet: Incoming) -> (Option<Packet>, Vec<u8>) {
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
        assert_eq!(said(&mut monitor(), Incoming::PingReq), (None, vec![0xd0, 0]));
    }

    #[test]
    fn a_message_reaches_the_router_with_qos_0_and_is_acknowledged_by_its_own() {
        let routed = Some(Packet::Publish(Publish::new(REPORT, "hello", false), None));
        assert_eq!(said(&mut agent(), report(b"hello", QOS_0)), (routed.clone(), vec![]));
        assert_eq!(said(&mut agent(), report(b"hello", QOS_1)), (routed, vec![0x40, 2, 0, 7]));
    }

    #[test]
    fn an_empty_message_is_acknowledged_and_dropped() {
        assert_eq!(said(&mut agent(), report(b"", QOS_1)), (None, vec![0x40, 2, 0, 7]));
    }

    #[test]
    fn a_suback_waits_for_the_router_and_says_what_was_granted() {
        let mut agent = agent();
        let filters = [(COMMAND, QoS::ExactlyOnce), ("#", QOS_0)].map(|(filter, qos)| (filter.into(), qos));
        let (routed, answer) = said(&mut agent, Incoming::Subscribe(9, filters.into()));
        let Some(Packet::Subscribe(subscribe, None)) = routed else { panic!("{routed:?}") };
        let found: Vec<_> = subscribe.filters.iter().map(|filter| (&*filter.path, filter.qos)).collect();
        assert_eq!((found, answer), (vec![(COMMAND, QOS_1)], vec![]));
        assert_eq!(told(&mut agent, suback()), [0x90, 4, 0, 9, 1, 0x80]);
        assert!(told(&mut agent, suback()).is_empty(), "an answer is given once");
    }

    #[test]
    fn one_unsuback_answers_for_all_filters_of_an_unsubscribe() {
        let mut monitor = monitor();
        said(&mut monitor, Incoming::Subscribe(1, statuses(0..2)));
        told(&mut monitor, suback());
        let filters = statuses(0..3).into_iter().map(|(filter, _)| filter).collect();
        let (routed, answer) = said(&mut monitor, Incoming::Unsubscribe(5, filters));
        assert!(matches!(routed, Some(Packet::Unsubscribe(found, None)) if found.filters.len() == 2));
        assert!(answer.is_empty() && told(&mut monitor, unsuback()).is_empty());
        assert_eq!(told(&mut monitor, unsuback()), [0xb0, 2, 0, 5]);
    }

    #[test]
    fn only_the_oldest_unacknowledged_message_can_be_acknowledged() {
        let mut agent = agent();
        for packet_id in 1..=3 {
            told(&mut agent, numbered(packet_id));
        }
        let acknowledged =
            |packet_id| Some(Packet::PubAck(PubAck { pkid: packet_id, reason: PubAckReason::Success }, None));
        assert_eq!(said(&mut agent, Incoming::PubAck(1)), (acknowledged(1), vec![]));
        let wrong = Violation::Acknowledgement { found: 3, expected: Some(2) };
        assert_eq!(agent.hear(Incoming::PubAck(3), &mut BytesMut::new()), Err(wrong));
    }

    #[test]
    fn the_filters_of_one_session_and_of_all_monitors_are_bounded() {
        let filters = Arc::new(MonitorFilters::default());
        let granted = |names| {
            let mut monitor = monitor();
            monitor.monitor_filters = Arc::clone(&filters);
            let (routed, _) = said(&mut monitor, Incoming::Subscribe(1, statuses(names)));
            routed.map_or(0, |packet| match packet {
                Packet::Subscribe(subscribe, _) => subscribe.filters.len(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(granted(0..SUBSCRIPTIONS_MAX + 5), SUBSCRIPTIONS_MAX, "one session");
        assert_eq!(granted(5_000..8_000), MONITOR_FILTERS_MAX - SUBSCRIPTIONS_MAX, "all monitors");
        assert_eq!(granted(9_000..9_010), 0, "no new ones");
        assert_eq!(granted(0..10), 10, "known ones");
    }
}

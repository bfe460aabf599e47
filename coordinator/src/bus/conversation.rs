//! One client's MQTT conversation: what its packets mean for the router, and the router's for it. Pure: packets in,
//! packets and bytes out; `session` moves them.
//!
//! It answers by itself what the router answers wrongly or not at all, and lets nothing through that makes the router
//! drop the client on its own: each function names the weakness that it stands in front of.

use super::acl::{Access, router_filter};
use super::wire::{self, Incoming, Message};
use bytes::BytesMut;
use piseduce_protocol::MESSAGE_BYTES_MAX;
use rumqttd::protocol::{
    Packet, PingResp, PubAck, PubAckReason, Publish, QoS, SubAck, Subscribe, SubscribeReasonCode, UnsubAck,
    Unsubscribe, matches,
};
use std::collections::{HashMap, VecDeque};

/// How many filters one session may have subscribed.
const SUBSCRIPTIONS_MAX: usize = 2_048;

/// How many messages a client may leave unacknowledged; what follows waits in the router.
const UNACKNOWLEDGED_MAX: usize = 100;

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

/// The state of one client's conversation.
pub(super) struct Conversation {
    access: Access,
    /// What was granted to filters that name one topic, by the filter.
    topics: HashMap<String, Subscription>,
    /// And to those with wildcards, of which there are few.
    wildcards: HashMap<String, Subscription>,
    /// How many subscriptions each filter at the router serves.
    routes: HashMap<String, usize>,
    /// The packet id of the last message that the client must acknowledge.
    last_packet_id: u16,
    /// Packet ids of messages to the client, the oldest first.
    unacknowledged: VecDeque<u16>,
    /// Answers that wait for this many acknowledgements of the router's each.
    answers: VecDeque<(usize, Packet)>,
}

#[derive(Clone)]
struct Subscription {
    qos: QoS,
    route: Option<String>,
}

impl Conversation {
    pub(super) fn new(access: Access) -> Self {
        Conversation {
            access,
            topics: HashMap::new(),
            wildcards: HashMap::new(),
            routes: HashMap::new(),
            last_packet_id: 0,
            unacknowledged: VecDeque::new(),
            answers: VecDeque::new(),
        }
    }

    /// Whether the client has yet to acknowledge as much as it may leave unacknowledged.
    pub(super) fn is_full(&self) -> bool {
        self.unacknowledged.len() >= UNACKNOWLEDGED_MAX
    }

    /// The filters that the router has for this client, when it has answered everything.
    pub(super) fn routes(&self) -> Vec<String> {
        self.routes.keys().cloned().collect()
    }

    /// A packet came from the client; what is answered to it is appended to `output`. Returns what the router gets.
    pub(super) fn hear(&mut self, packet: Incoming, output: &mut BytesMut) -> Result<Vec<Packet>, Violation> {
        match packet {
            Incoming::Connect(_) => Err(Violation::SecondConnect),
            Incoming::Publish(message, packet_id) => self.publish(message, packet_id, output),
            Incoming::PubAck(packet_id) => self.acknowledge(packet_id).map(|()| Vec::new()),
            Incoming::Subscribe(packet_id, filters) => Ok(self.subscribe(packet_id, filters, output)),
            Incoming::Unsubscribe(packet_id, filters) => Ok(self.unsubscribe(packet_id, &filters, output)),
            Incoming::PingReq => {
                wire::put(Packet::PingResp(PingResp), output);
                Ok(Vec::new())
            }
            // Nothing is left to say; the session ends.
            Incoming::Disconnect => Ok(Vec::new()),
        }
    }

    /// A packet came from the router; what the client gets of it is appended to `output`.
    pub(super) fn tell(&mut self, packet: Packet, output: &mut BytesMut) {
        match packet {
            Packet::Publish(message, _) => self.deliver(&message, output),
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

    /// What the client gets of a message: one, with the best QoS that it has for the topic. The router is asked for
    /// QoS 0 only: it would number 100 retained messages at most and drop the rest, and drop a client that acknowledges
    /// out of order.
    fn deliver(&mut self, message: &Publish, output: &mut BytesMut) {
        let Ok(topic) = std::str::from_utf8(&message.topic) else { return };
        let wildcards = self.wildcards.iter().filter(|(filter, _)| matches(topic, filter));
        let subscriptions = wildcards.map(|(_, found)| found).chain(self.topics.get(topic));
        let Some(qos) = subscriptions.map(|found| found.qos as u8).max() else { return };
        let packet_id = (qos > 0).then(|| {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            self.last_packet_id
        });
        self.unacknowledged.extend(packet_id);
        wire::put_message(message, packet_id, output);
    }

    /// What the router gets of a message. Its acknowledgement need not wait for the router, which keeps messages in
    /// memory only, and is not sent if handing the message over fails.
    fn publish(
        &self,
        message: Message,
        packet_id: u16,
        output: &mut BytesMut,
    ) -> Result<Vec<Packet>, Violation> {
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
        Ok(routed(message).into_iter().collect())
    }

    fn acknowledge(&mut self, packet_id: u16) -> Result<(), Violation> {
        let expected = self.unacknowledged.pop_front();
        if expected != Some(packet_id) {
            return Err(Violation::Acknowledgement { found: packet_id, expected });
        }
        Ok(())
    }

    fn subscriptions(&mut self, filter: &str) -> &mut HashMap<String, Subscription> {
        if filter.contains(['+', '#']) { &mut self.wildcards } else { &mut self.topics }
    }

    /// What is known already changes nothing. What is new and has its filter at the router already is there subscribed
    /// anew, for its retained messages.
    fn subscribe(
        &mut self,
        packet_id: u16,
        filters: Vec<(String, QoS)>,
        output: &mut BytesMut,
    ) -> Vec<Packet> {
        let mut codes = Vec::with_capacity(filters.len());
        let (mut new, mut again) = (Vec::new(), Vec::new());
        for (filter, asked) in filters {
            let Some(granted) = self.settle(&filter, asked) else {
                tracing::debug!(?filter, "subscription refused");
                codes.push(SubscribeReasonCode::Failure);
                continue;
            };
            codes.push(SubscribeReasonCode::Success(granted.qos));
            let Subscription { route: Some(route), .. } = &granted else {
                self.subscriptions(&filter).insert(filter, granted);
                continue;
            };
            if self.subscriptions(&filter).contains_key(&filter) {
                continue;
            }
            let served = self.routes.entry(route.clone()).or_default();
            *served += 1;
            let list = if *served == 1 { &mut new } else { &mut again };
            if !list.contains(route) {
                list.push(route.clone());
            }
            self.subscriptions(&filter).insert(filter, granted);
        }
        again.retain(|route| !new.contains(route));
        let answer = Packet::SubAck(SubAck { pkid: packet_id, return_codes: codes }, None);
        if new.is_empty() && again.is_empty() {
            wire::put(answer, output);
            return Vec::new();
        }
        self.answers.push_back((again.len() + 1, answer));
        let filters = new.iter().chain(&again).map(|route| router_filter(route)).collect();
        let left = (!again.is_empty())
            .then(|| Packet::Unsubscribe(Unsubscribe { pkid: packet_id, filters: again.clone() }, None));
        let subscribe = Packet::Subscribe(Subscribe { pkid: packet_id, filters }, None);
        left.into_iter().chain([subscribe]).collect()
    }

    /// What a filter really gets: what it has already, or what it may have, or nothing because there are too many.
    fn settle(&mut self, filter: &str, asked: QoS) -> Option<Subscription> {
        if let Some(known) = self.subscriptions(filter).get(filter) {
            return Some(known.clone());
        }
        let grant = self.access.grant(filter, asked)?;
        let is_room = self.topics.len() + self.wildcards.len() < SUBSCRIPTIONS_MAX;
        is_room.then_some(Subscription { qos: grant.qos, route: grant.route })
    }

    /// The router answers once for each filter that it knows, and never for another.
    fn unsubscribe(&mut self, packet_id: u16, filters: &[String], output: &mut BytesMut) -> Vec<Packet> {
        let mut done = Vec::new();
        for filter in filters {
            let removed = self.subscriptions(filter).remove(filter);
            let Some(route) = removed.and_then(|removed| removed.route) else { continue };
            let served = self.routes.get_mut(&route).expect("a subscription's route is counted");
            *served -= 1;
            if *served == 0 {
                self.routes.remove(&route);
                done.push(route);
            }
        }
        let answer = Packet::UnsubAck(UnsubAck { pkid: packet_id, reasons: Vec::new() }, None);
        if done.is_empty() {
            wire::put(answer, output);
            return Vec::new();
        }
        self.answers.push_back((done.len(), answer));
        vec![Packet::Unsubscribe(Unsubscribe { pkid: packet_id, filters: done }, None)]
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

#[cfg(test)]
mod tests;

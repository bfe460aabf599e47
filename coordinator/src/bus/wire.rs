//! Bytes of MQTT 3.1.1 ↔ packets, for the gate's side of a connection. Pure: no socket, no rules about who may what.
//!
//! rumqttd's codec does the reading and writing. It hides the QoS and the number of a PUBLISH and lets some
//! malformed packets pass, so both are looked up and checked here in the packet's bytes.

use super::identity::Login;
use bytes::{BufMut, Bytes, BytesMut};
use rumqttd::protocol::v4::{self, V4};
use rumqttd::protocol::{self, Packet, Protocol, Publish, QoS, qos};

/// Where the flags stand after CONNECT's fixed header: behind 2 bytes of length, `MQTT`, and the protocol level.
const CONNECT_FLAGS_AT: usize = 2 + 4 + 1;

/// A packet from a client. Its bytes are copies, never views into the read buffer: the router's logs keep topics and
/// payloads for long, and would keep whole read buffers with them.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    Connect(Connect),
    Publish(Message, u16),
    PubAck(u16),
    Subscribe(u16, Vec<(String, QoS)>),
    Unsubscribe(u16, Vec<String>),
    PingReq,
    Disconnect,
}

#[derive(Debug, PartialEq)]
pub(super) struct Connect {
    /// With empty texts for what the client did not show.
    pub(super) login: Login,
    pub(super) clean_session: bool,
    /// In seconds; 0 is "none".
    pub(super) keep_alive: u16,
    pub(super) will: Option<Message>,
}

/// A message as it was published, or is to be when its sender is lost.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

/// Bytes that are not a packet which a client may send.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The codec cannot read it.
    #[error("packet is malformed")]
    Codec(#[from] protocol::Error),
    /// A kind that only a broker sends, one of QoS 2's, or flags that MQTT forbids.
    #[error("a packet that starts with byte {0:#04x} was not expected")]
    Kind(u8),
    /// A topic that is not UTF-8.
    #[error("topic is not UTF-8")]
    Topic(#[from] std::str::Utf8Error),
    /// A CONNECT with a flag that MQTT reserves.
    #[error("reserved flag of CONNECT is set")]
    ReservedFlag,
}

impl WireError {
    /// Whether this is a CONNECT of another version of MQTT.
    pub(super) fn is_other_version(&self) -> bool {
        use protocol::Error::{InvalidProtocol, InvalidProtocolLevel};
        matches!(self, WireError::Codec(InvalidProtocol | InvalidProtocolLevel(_)))
    }
}

/// Takes the first packet out of `buffer`; `None` while it is incomplete.
///
/// # Errors
/// When what is there can become no packet, or one with more than `bytes_max` bytes after its fixed header.
pub(super) fn take(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Incoming>, WireError> {
    let header = match v4::check(buffer.iter(), bytes_max) {
        Ok(header) => header,
        Err(protocol::Error::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut frame = buffer.split_to(header.frame_length());
    let body = &frame[header.fixed_header_len..];
    let packet_id = publish_packet_id(body);
    let connect_flags = body.get(CONNECT_FLAGS_AT).copied().unwrap_or(0);
    match header.byte1 {
        0x10 | 0x30..=0x3f | 0x40 | 0x82 | 0xa2 => {}
        0xc0 | 0xe0 if body.is_empty() => {}
        other => return Err(WireError::Kind(other)),
    }
    Ok(Some(match V4.read_mut(&mut frame, bytes_max)? {
        Packet::Connect(..) if connect_flags & 1 == 1 => return Err(WireError::ReservedFlag),
        Packet::Connect(connect, _, will, _, login) => {
            let (user_name, password) =
                login.map(|login| (login.username, login.password)).unwrap_or_default();
            Incoming::Connect(Connect {
                login: Login { client_id: connect.client_id, user_name, password },
                clean_session: connect.clean_session,
                keep_alive: connect.keep_alive,
                will: will
                    .map(|will| message(&will.topic, &will.message, will.qos, will.retain))
                    .transpose()?,
            })
        }
        Packet::Publish(publish, _) => {
            // The codec accepted the same two bits before.
            let qos = qos(header.byte1 >> 1 & 0b11).unwrap_or(QoS::ExactlyOnce);
            let packet_id = if qos == QoS::AtMostOnce { 0 } else { packet_id };
            Incoming::Publish(message(&publish.topic, &publish.payload, qos, publish.retain)?, packet_id)
        }
        Packet::PubAck(ack, _) => Incoming::PubAck(ack.pkid),
        Packet::Subscribe(subscribe, _) => Incoming::Subscribe(
            numbered(subscribe.pkid)?,
            subscribe.filters.into_iter().map(|filter| (filter.path, filter.qos)).collect(),
        ),
        Packet::Unsubscribe(unsubscribe, _) if unsubscribe.filters.is_empty() => {
            return Err(protocol::Error::EmptySubscription.into());
        }
        Packet::Unsubscribe(unsubscribe, _) => {
            Incoming::Unsubscribe(numbered(unsubscribe.pkid)?, unsubscribe.filters)
        }
        Packet::PingReq(_) => Incoming::PingReq,
        Packet::Disconnect(..) => Incoming::Disconnect,
        _ => return Err(WireError::Kind(header.byte1)),
    }))
}

/// The packet id behind the topic of a PUBLISH with QoS 1 or 2; 0 if these bytes cannot hold one.
fn publish_packet_id(body: &[u8]) -> u16 {
    let number = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    number(0).and_then(|topic_bytes| number(2 + usize::from(topic_bytes))).unwrap_or(0)
}

fn message(topic: &[u8], payload: &[u8], qos: QoS, retain: bool) -> Result<Message, WireError> {
    let topic = std::str::from_utf8(topic)?.to_owned();
    Ok(Message { topic, payload: Bytes::copy_from_slice(payload), qos, retain })
}

fn numbered(packet_id: u16) -> Result<u16, WireError> {
    if packet_id == 0 { Err(protocol::Error::PacketIdZero.into()) } else { Ok(packet_id) }
}

/// Appends `packet` to `output`.
pub(super) fn put(packet: Packet, output: &mut BytesMut) {
    V4.write(packet, output).expect("packets of the gate and the router have an id and are short enough");
}

/// Appends a PUBLISH to `output`, with QoS 1 if it has a packet id. The codec can write none of those.
pub(super) fn put_message(message: &Publish, packet_id: Option<u16>, output: &mut BytesMut) {
    let Publish { topic, payload, retain, .. } = message;
    let topic_bytes = u16::try_from(topic.len()).expect("topics came in a packet that bounds them");
    let mut rest = 2 + topic.len() + if packet_id.is_some() { 2 } else { 0 } + payload.len();
    output.put_u8(0x30 | u8::from(packet_id.is_some()) << 1 | u8::from(*retain));
    while rest >= 0x80 {
        output.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    output.put_u8(rest as u8);
    output.put_u16(topic_bytes);
    output.put_slice(topic);
    if let Some(packet_id) = packet_id {
        output.put_u16(packet_id);
    }
    output.put_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 100;

    fn taken(bytes: &[u8]) -> Result<Option<Incoming>, WireError> {
        let mut buffer = BytesMut::from(bytes);
        let taken = take(&mut buffer, BYTES_MAX);
        assert!(!matches!(taken, Ok(Some(_))) || buffer.is_empty(), "{bytes:?} was not taken entirely");
        taken
    }

    #[test]
    fn a_packet_is_taken_when_its_last_byte_is_there() {
        let packet = b"\x32\x0a\x00\x03a/b\x01\x02hey";
        for length in 0..packet.len() {
            assert!(matches!(taken(&packet[..length]), Ok(None)), "{length} bytes");
        }
        let message = Message {
            topic: "a/b".into(),
            payload: Bytes::from_static(b"hey"),
            qos: QoS::AtLeastOnce,
            retain: false,
        };
        assert_eq!(taken(packet).unwrap(), Some(Incoming::Publish(message, 0x0102)));
    }

    #[test]
    fn two_packets_in_one_buffer_are_taken_one_by_one() {
        let mut buffer = BytesMut::from(&b"\xc0\x00\xe0\x00"[..]);
        assert_eq!(take(&mut buffer, BYTES_MAX).unwrap(), Some(Incoming::PingReq));
        assert_eq!(take(&mut buffer, BYTES_MAX).unwrap(), Some(Incoming::Disconnect));
        assert_eq!(take(&mut buffer, BYTES_MAX).unwrap(), None);
    }

    #[test]
    fn what_a_client_must_not_send_is_refused() {
        let malformed: [&[u8]; 16] = [
            b"\x00\x00",                      // no such kind
            b"\xf0\x00",                      // no such kind
            b"\x20\x02\x00\x00",              // CONNACK
            b"\x50\x02\x00\x01",              // PUBREC
            b"\x62\x02\x00\x01",              // PUBREL
            b"\x90\x03\x00\x01\x00",          // SUBACK
            b"\xd0\x00",                      // PINGRESP
            b"\xc0\x01\x00",                  // PINGREQ with a body
            b"\x80\x06\x00\x01\x00\x01a\x00", // SUBSCRIBE without its flag
            b"\x82\x06\x00\x00\x00\x01a\x00", // SUBSCRIBE number 0
            b"\x82\x02\x00\x01",              // SUBSCRIBE to nothing
            b"\xa2\x02\x00\x01",              // UNSUBSCRIBE from nothing
            b"\x36\x06\x00\x01a\x00\x01x",    // PUBLISH with QoS 3
            b"\x32\x05\x00\x01a\x00\x00",     // PUBLISH number 0
            b"\x30\x04\x00\x02\xff\xff",      // PUBLISH on a topic that is not UTF-8
            b"\x30\xff\xff\xff\xff\x01",      // a length of five bytes
        ];
        for bytes in malformed {
            assert!(taken(bytes).is_err(), "{bytes:02x?}");
        }
        assert!(matches!(taken(b"\x30\x65"), Err(WireError::Codec(_))), "101 bytes are too many");
    }

    #[test]
    fn a_connect_of_another_version_is_told_from_a_malformed_one() {
        let version = |name: &[u8], level: u8, flags: u8| {
            let body = [&[0, name.len() as u8][..], name, &[level, flags, 0, 60, 0, 1, b'x']].concat();
            taken(&[&[0x10, body.len() as u8][..], &body].concat())
        };
        assert!(matches!(version(b"MQTT", 4, 2), Ok(Some(Incoming::Connect(_)))));
        assert!(version(b"MQTT", 5, 2).unwrap_err().is_other_version());
        assert!(version(b"MQIsdp", 3, 2).unwrap_err().is_other_version());
        assert!(!version(b"MQTT", 4, 3).unwrap_err().is_other_version(), "reserved flag");
        assert!(!taken(b"\x10\x02\x00\x04").unwrap_err().is_other_version());
    }

    #[test]
    fn a_message_is_written_with_and_without_a_packet_id() {
        let mut output = BytesMut::from(&b"before"[..]);
        put_message(&Publish::new("t", "\x09\x09", false), Some(0x0102), &mut output);
        put_message(&Publish::new("t", "\x09\x09", true), None, &mut output);
        assert_eq!(&output[6..], b"\x32\x07\x00\x01t\x01\x02\x09\x09\x31\x05\x00\x01t\x09\x09");
        for length in [0, 123, 124, 16_379, 16_380, 66_000] {
            let mut output = BytesMut::new();
            put_message(&Publish::new(Bytes::from("t"), vec![7; length].into(), false), Some(1), &mut output);
            let message = Message {
                topic: "t".into(),
                payload: vec![7; length].into(),
                qos: QoS::AtLeastOnce,
                retain: false,
            };
            assert_eq!(take(&mut output, 70_000).unwrap(), Some(Incoming::Publish(message, 1)), "{length}");
        }
    }
}

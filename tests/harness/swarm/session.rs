//! One MQTT connection of a virtual agent, from its board's own address. Packets are rumqttc's, the options those of the real
//! agent's link; its event loop is not used because it cannot choose the address that it speaks from.

use super::http;
use anyhow::{bail, ensure};
use bytes::BytesMut;
use piseduce_protocol::MESSAGE_BYTES_MAX;
use rumqttc::{Connect, ConnectReturnCode, Disconnect, Packet, PingReq, PubAck, Publish, QoS, Subscribe};
use rumqttc::{SubscribeFilter, SubscribeReasonCode};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long connecting may take, as in the real agent.
const CONNECT: Duration = Duration::from_secs(30);
/// What MQTT adds to a message, as in the real agent.
const PACKET_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 1024;

/// A connection whose filters are subscribed.
pub(super) struct Session {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    packet_id: u16,
    /// Reports that the broker did not acknowledge yet.
    pub(super) unacknowledged: usize,
}

impl Session {
    /// Connects and subscribes.
    ///
    /// # Errors
    /// When the broker cannot be reached, or refuses.
    pub(super) async fn open(
        from: Ipv4Addr,
        broker: SocketAddr,
        connect: Connect,
        filters: [String; 2],
    ) -> anyhow::Result<Session> {
        timeout(CONNECT, Session::try_open(from, broker, connect, filters)).await?
    }

    async fn try_open(
        from: Ipv4Addr,
        broker: SocketAddr,
        connect: Connect,
        filters: [String; 2],
    ) -> anyhow::Result<Session> {
        let stream = http::connect(from, broker).await?;
        let (input, output) = (BytesMut::new(), BytesMut::new());
        let mut session = Session { stream, input, output, packet_id: 0, unacknowledged: 0 };
        session.send(&Packet::Connect(connect)).await?;
        match session.packet().await? {
            Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => {}
            other => bail!("the broker refuses the connection: {other:?}"),
        }
        let filters = filters.map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
        let mut subscribe = Subscribe::new_many(filters);
        subscribe.pkid = session.next_id();
        session.send(&Packet::Subscribe(subscribe)).await?;
        match session.packet().await? {
            Packet::SubAck(answer) => {
                let is_refused = answer.return_codes.contains(&SubscribeReasonCode::Failure);
                ensure!(!is_refused, "the broker refuses the agent's subscriptions");
            }
            other => bail!("the broker does not answer the subscription: {other:?}"),
        }
        Ok(session)
    }

    /// The next message, acknowledged by [`Session::acknowledge`]. May be dropped and called again at any time.
    pub(super) async fn next(&mut self) -> anyhow::Result<Publish> {
        loop {
            match self.packet().await? {
                Packet::Publish(publish) => return Ok(publish),
                Packet::PubAck(_) => self.unacknowledged = self.unacknowledged.saturating_sub(1),
                Packet::PingResp => {}
                other => bail!("the broker sends {other:?}"),
            }
        }
    }

    /// Waits until everything that was published is acknowledged; what comes in meanwhile is lost.
    pub(super) async fn acknowledged(&mut self) -> anyhow::Result<()> {
        while self.unacknowledged > 0 {
            if let Packet::PubAck(_) = self.packet().await? {
                self.unacknowledged -= 1;
            }
        }
        Ok(())
    }

    pub(super) async fn acknowledge(&mut self, publish: &Publish) -> anyhow::Result<()> {
        match publish.qos {
            QoS::AtLeastOnce => self.send(&Packet::PubAck(PubAck::new(publish.pkid))).await,
            _ => Ok(()),
        }
    }

    pub(super) async fn publish(&mut self, topic: &str, qos: QoS, message: Vec<u8>) -> anyhow::Result<()> {
        let mut publish = Publish::new(topic, qos, message);
        if qos == QoS::AtLeastOnce {
            publish.pkid = self.next_id();
            self.unacknowledged += 1;
        }
        self.send(&Packet::Publish(publish)).await
    }

    pub(super) async fn ping(&mut self) -> anyhow::Result<()> {
        self.output.clear();
        PingReq.write(&mut self.output)?;
        Ok(self.stream.write_all(&self.output).await?)
    }

    /// Says goodbye, so that the last will is not published.
    pub(super) async fn close(mut self) -> anyhow::Result<()> {
        self.output.clear();
        Disconnect.write(&mut self.output)?;
        Ok(self.stream.write_all(&self.output).await?)
    }

    async fn send(&mut self, packet: &Packet) -> anyhow::Result<()> {
        self.output.clear();
        packet.write(&mut self.output, PACKET_BYTES_MAX)?;
        Ok(self.stream.write_all(&self.output).await?)
    }

    async fn packet(&mut self) -> anyhow::Result<Packet> {
        loop {
            match Packet::read(&mut self.input, PACKET_BYTES_MAX) {
                Ok(packet) => return Ok(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(error.into()),
            }
            ensure!(self.stream.read_buf(&mut self.input).await? > 0, "the broker closed the connection");
        }
    }

    fn next_id(&mut self) -> u16 {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.packet_id
    }
}

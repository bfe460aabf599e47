//! One connection of our own client to the broker: how it is opened, what it brings, and whether what was sent on it is
//! acknowledged. Nothing of rumqttc outlives it: that forgets what was not acknowledged when it reconnects, and can be
//! stuck behind an old packet id.

use super::link::{LinkSettings, presence};
use super::trouble::Trouble;
use crate::clock::Instant;
use piseduce_protocol::MESSAGE_BYTES_MAX;
use piseduce_protocol::topic::Topic;
use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS};
use std::time::Duration;
use tokio::sync::mpsc;

/// Requests that rumqttc may hold for us.
pub(super) const REQUESTS_HELD: usize = 256;
/// Without a packet for so long the broker is asked whether it is there, and left when it has not answered after as long
/// again.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long connecting may take, in seconds: after a restart of the broker all its clients come at once.
const CONNECT_SECONDS: u64 = 30;
/// A broker that acknowledges nothing for so long is left.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(20);
/// Room for topic and headers around a payload.
const PACKET_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 1024;

/// What a connection brings.
pub(super) enum Polled {
    /// A packet from the broker.
    Packet(Packet),
    /// Something was sent that the broker must acknowledge.
    Sent,
    /// The end; nothing follows.
    Broken(Trouble),
}

/// A client for one connection.
pub(super) fn connect(settings: &LinkSettings) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(&settings.client_id, &settings.host, settings.tcp_port);
    options.set_credentials(&settings.account.user, &settings.account.password);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
    let topic = settings.site.render(&Topic::Coordinator);
    options.set_last_will(LastWill::new(topic, presence(false), QoS::AtLeastOnce, true));
    AsyncClient::new(options, REQUESTS_HELD)
}

/// Polls rumqttc, which connects only while it is polled, and never waits for its own requests.
pub(super) async fn poll(mut event_loop: EventLoop, events: mpsc::Sender<Polled>) {
    event_loop.network_options.set_connection_timeout(CONNECT_SECONDS);
    // Else a command waits for the acknowledgement of what was sent before it, which the peer delays by 40 ms.
    event_loop.network_options.set_tcp_nodelay(true);
    let mut answered = false;
    loop {
        let polled = match event_loop.poll().await {
            Ok(Event::Incoming(packet)) => Polled::Packet(packet),
            Ok(Event::Outgoing(Outgoing::Publish(1..) | Outgoing::Subscribe(_))) => Polled::Sent,
            Ok(Event::Outgoing(_)) => continue,
            Err(error) => {
                tracing::debug!(%error, "broker connection ended");
                Polled::Broken(Trouble::of(&error, answered))
            }
        };
        answered = true;
        let broken = matches!(polled, Polled::Broken(_));
        // Without a receiver nobody is interested in this connection any more.
        if events.send(polled).await.is_err() || broken {
            return;
        }
    }
}

/// What the broker has not acknowledged. While rumqttc waits for that, it takes nothing new, and says nothing about it.
#[derive(Default)]
pub(super) struct Unacknowledged {
    count: usize,
    /// Since when nothing was acknowledged; none while nothing is waited for.
    since: Option<Instant>,
}

impl Unacknowledged {
    pub(super) fn sent(&mut self, now: Instant) {
        self.count += 1;
        self.since.get_or_insert(now);
    }

    pub(super) fn acknowledged(&mut self, now: Instant) {
        self.count = self.count.saturating_sub(1);
        self.since = (self.count > 0).then_some(now);
    }

    /// Whether the broker has been waited for too long.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.since(since) > ACKNOWLEDGE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_progress_is_overdue() {
        let at = |seconds: u64| Instant(seconds * 1000);
        let mut waiting = Unacknowledged::default();
        assert!(!waiting.is_overdue(at(1000)));
        waiting.sent(at(1000));
        waiting.sent(at(1015));
        assert!(!waiting.is_overdue(at(1020)) && waiting.is_overdue(at(1021)));
        waiting.acknowledged(at(1021));
        assert!(!waiting.is_overdue(at(1041)) && waiting.is_overdue(at(1042)));
        waiting.acknowledged(at(1042));
        assert!(!waiting.is_overdue(at(9999)));
    }
}

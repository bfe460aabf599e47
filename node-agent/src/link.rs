//! The link to the coordinator: sealed messages over an MQTT broker that may vanish at any time.
//!
//! Every connection has a client of its own: rumqttc forgets what was not acknowledged when it reconnects
//! and can be stuck behind an old packet id, so nothing of it is kept. What must arrive is said again by
//! the runner whenever it hears [`Heard::Connected`]. Nothing here knows what messages mean.

use crate::backoff::Backoff;
use crate::clock;
use piseduce_protocol::MESSAGE_BYTES_MAX;
use piseduce_protocol::boot::{Account, BootParameters, client_id};
use piseduce_protocol::command::Command;
use piseduce_protocol::id::BootNumber;
use piseduce_protocol::report::{Beat, Report};
use piseduce_protocol::seal::{BootKeys, SealError, Window, open, seal};
use piseduce_protocol::topic::Topic;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, LastWill, MqttOptions, Outgoing, QoS,
    SubscribeFilter, SubscribeReasonCode,
};
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Seconds without a packet after which the broker is asked whether it is there.
const KEEP_ALIVE_SECONDS: u64 = 5;

/// Seconds that connecting may take: many agents may come at once.
const CONNECT_SECONDS: u64 = 30;

/// Seconds after which a broker that acknowledges nothing is left.
const ACKNOWLEDGE_SECONDS: u64 = 20;

/// Pauses between connections, in milliseconds.
const PAUSE_FIRST_MS: u64 = 200;
const PAUSE_LONGEST_MS: u64 = 5000;

/// Messages that the client holds, and those that the runner has not taken yet.
const QUEUE_MAX: usize = 64;

/// Publishes that wait for their acknowledgement.
const IN_FLIGHT_MAX: u16 = 32;

/// What MQTT adds to a message: topic, packet id, lengths.
const PACKET_OVERHEAD_BYTES: usize = 1024;

/// What comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A new connection is ready; whatever counts must be said on it.
    Connected,
    /// A command with a right seal, for the first time.
    Command {
        /// The counter of its seal.
        counter: u64,
        /// The command.
        command: Command,
    },
    /// The coordinator asks every agent to say hello.
    Announce,
}

/// The broker's address on the kernel command line is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of a broker: host and TCP port are expected, as in 10.0.0.1:1883")]
pub struct AddressError(String);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Connection(Box<ConnectionError>),
    #[error("the broker refuses the agent's subscriptions")]
    Refused,
    #[error("the broker acknowledges nothing")]
    Unacknowledged,
    #[error("the client takes no more requests")]
    Full,
}

/// The agent's end of the link.
#[derive(Debug)]
pub struct Link {
    voice: Arc<Voice>,
    task: JoinHandle<()>,
}

impl Link {
    /// Begins to connect, again and again, to the broker that `parameters` name. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn open(parameters: &BootParameters) -> Result<(Self, mpsc::Receiver<Heard>), AddressError> {
        let wrong = || AddressError(parameters.broker.clone());
        let (host, port) = parameters.broker.rsplit_once(':').ok_or_else(wrong)?;
        let broker = (host.to_owned(), port.parse().map_err(|_| wrong())?);
        let topic = |topic| parameters.site.render(&topic);
        let keys = parameters.token.keys();
        // An external broker knows no boots: there all agents share an account, and only the seals tell them apart.
        let own = || Account { user: parameters.serial.to_string(), password: keys.mqtt_password.clone() };
        let voice = Arc::new(Voice {
            boot: parameters.boot,
            client_id: client_id(parameters.serial),
            account: parameters.account.clone().unwrap_or_else(own),
            keys,
            report_topic: topic(Topic::Report(parameters.serial)),
            beat_topic: topic(Topic::Beat(parameters.serial)),
            link_topic: topic(Topic::Link(parameters.serial)),
            counter: Mutex::new(0),
            client: Mutex::new(None),
            unacknowledged: watch::Sender::new(0),
        });
        let (heard, ear) = mpsc::channel(QUEUE_MAX);
        let listener = Listener {
            voice: Arc::clone(&voice),
            heard,
            command_topic: topic(Topic::Command(parameters.serial)),
            announce_topic: topic(Topic::Announce),
            window: Window::default(),
            dropped: 0,
            warned: None,
        };
        let task = tokio::spawn(listener.keep_connected(broker));
        Ok((Link { voice, task }, ear))
    }

    /// Publishes a report, if there is a connection now.
    pub fn report(&self, report: &Report) {
        self.voice.say(&self.voice.report_topic, QoS::AtLeastOnce, report);
    }

    /// Publishes a heartbeat, if there is a connection now.
    pub fn beat(&self, beat: &Beat) {
        self.voice.say(&self.voice.beat_topic, QoS::AtMostOnce, beat);
    }

    /// Waits until the broker has every report that was published, at most for `limit`.
    pub async fn acknowledged(&self, limit: Duration) {
        let mut unacknowledged = self.voice.unacknowledged.subscribe();
        let all = unacknowledged.wait_for(|count| *count == 0);
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("the broker did not acknowledge the last report in time");
        }
    }

    /// Says goodbye to the broker, so that it does not publish the last will, and ends the link.
    pub async fn close(self, limit: Duration) {
        let client = self.voice.client().take();
        let mut task = self.task;
        if client.is_some_and(|client| client.try_disconnect().is_ok()) {
            let _ = tokio::time::timeout(limit, &mut task).await;
        }
        task.abort();
    }
}

/// What is needed to speak.
struct Voice {
    keys: BootKeys,
    boot: BootNumber,
    client_id: String,
    account: Account,
    report_topic: String,
    beat_topic: String,
    link_topic: String,
    /// The counter of the last sealed message: microseconds since boot, and always more than the one before.
    counter: Mutex<u64>,
    /// The client of the present connection, once it is ready.
    client: Mutex<Option<AsyncClient>>,
    unacknowledged: watch::Sender<u64>,
}

impl std::fmt::Debug for Voice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Voice").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl Voice {
    fn client(&self) -> MutexGuard<'_, Option<AsyncClient>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seal<T: Serialize>(&self, topic: &str, body: &T) -> Result<Vec<u8>, SealError> {
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        *counter = clock::since_boot_us().max(*counter + 1);
        seal(&self.keys.message, topic, self.boot, *counter, body)
    }

    fn say<T: Serialize>(&self, topic: &str, qos: QoS, body: &T) {
        let client = self.client();
        let Some(client) = client.as_ref() else { return };
        let message = match self.seal(topic, body) {
            Ok(message) => message,
            Err(error) => return tracing::error!(topic, %error, "a message cannot be sealed"),
        };
        match client.try_publish(topic, qos, false, message) {
            Ok(()) if qos == QoS::AtLeastOnce => self.unacknowledged.send_modify(|count| *count += 1),
            Ok(()) => {}
            // The connection is stuck; the next one begins with everything that counts.
            Err(error) => tracing::warn!(topic, %error, "a message was dropped"),
        }
    }

    fn options(&self, (host, port): &(String, u16)) -> Result<MqttOptions, SealError> {
        let mut options = MqttOptions::new(&self.client_id, host, *port);
        let will = self.seal(&self.link_topic, &())?;
        options
            .set_credentials(&self.account.user, &self.account.password)
            .set_clean_session(true)
            .set_keep_alive(Duration::from_secs(KEEP_ALIVE_SECONDS))
            .set_inflight(IN_FLIGHT_MAX)
            .set_last_will(LastWill::new(&self.link_topic, will, QoS::AtLeastOnce, false));
        let packet_bytes = MESSAGE_BYTES_MAX + PACKET_OVERHEAD_BYTES;
        options.set_max_packet_size(packet_bytes, packet_bytes);
        Ok(options)
    }
}

/// Polls the connections, one after the other, and opens what comes in.
struct Listener {
    voice: Arc<Voice>,
    heard: mpsc::Sender<Heard>,
    command_topic: String,
    announce_topic: String,
    window: Window,
    dropped: u64,
    warned: Option<Instant>,
}

impl Listener {
    async fn keep_connected(mut self, broker: (String, u16)) {
        let mut pauses =
            Backoff::new(Duration::from_millis(PAUSE_FIRST_MS), Duration::from_millis(PAUSE_LONGEST_MS));
        let mut said = None;
        loop {
            let options = self.voice.options(&broker).expect("a message without a body can be sealed");
            let (client, events) = AsyncClient::new(options, QUEUE_MAX);
            let ended = self.converse(client, events, &mut pauses).await;
            let was_linked = self.voice.client().take().is_some();
            let Err(error) = ended else { return };
            // Once, not once a try: the broker may be away for hours.
            let why = Some(error.to_string());
            if was_linked || said != why {
                tracing::info!(%error, broker = broker.0, "no link to the broker");
            }
            said = why;
            tokio::time::sleep(pauses.pause()).await;
        }
    }

    /// One connection from its beginning to its end, which is good only after a goodbye.
    async fn converse(
        &mut self,
        client: AsyncClient,
        mut events: EventLoop,
        pauses: &mut Backoff,
    ) -> Result<(), LinkError> {
        events.network_options.set_connection_timeout(CONNECT_SECONDS);
        // Else a report waits for the acknowledgement of what was sent before it, which the peer delays by 40 ms.
        events.network_options.set_tcp_nodelay(true);
        let mut last_acknowledged = clock::now();
        loop {
            let event = events.poll().await.map_err(|error| LinkError::Connection(Box::new(error)))?;
            match event {
                Event::Incoming(Incoming::ConnAck(_)) => {
                    let filters = [&self.command_topic, &self.announce_topic];
                    let filters = filters.map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
                    client.try_subscribe_many(filters).map_err(|_| LinkError::Full)?;
                }
                Event::Incoming(Incoming::SubAck(answer)) => {
                    if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                        return Err(LinkError::Refused);
                    }
                    pauses.reset();
                    self.voice.unacknowledged.send_replace(0);
                    *self.voice.client() = Some(client.clone());
                    self.pass_on(Heard::Connected);
                }
                // Nothing for an agent is ever retained: what is was put there by somebody else, or long ago.
                Event::Incoming(Incoming::Publish(publish)) if !publish.retain => {
                    if let Some(heard) = self.understand(&publish.topic, &publish.payload) {
                        self.pass_on(heard);
                    }
                }
                Event::Incoming(Incoming::PubAck(_)) => {
                    last_acknowledged = clock::now();
                    self.voice.unacknowledged.send_modify(|count| *count = count.saturating_sub(1));
                }
                Event::Outgoing(Outgoing::Disconnect) => return Ok(()),
                _ => {}
            }
            if *self.voice.unacknowledged.borrow() == 0 {
                last_acknowledged = clock::now();
            } else if last_acknowledged.elapsed() > Duration::from_secs(ACKNOWLEDGE_SECONDS) {
                return Err(LinkError::Unacknowledged);
            }
        }
    }

    fn pass_on(&self, heard: Heard) {
        if self.heard.try_send(heard).is_err() {
            tracing::warn!("a message was dropped: too many came at once");
        }
    }

    /// What a message says, if it is one for this agent in this boot and new.
    fn understand(&mut self, topic: &str, payload: &[u8]) -> Option<Heard> {
        if topic == self.announce_topic {
            return Some(Heard::Announce);
        }
        let Voice { keys, boot, .. } = &*self.voice;
        match open::<Command>(&keys.message, &self.command_topic, *boot, &mut self.window, payload) {
            Ok((counter, command)) => Some(Heard::Command { counter, command }),
            Err(error) => {
                self.dropped += 1;
                // At most once a second: whoever sends nonsense must not fill the log as well.
                if self.warned.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
                    self.warned = Some(clock::now());
                    tracing::warn!(%error, dropped = self.dropped, "a command was dropped");
                }
                None
            }
        }
    }
}

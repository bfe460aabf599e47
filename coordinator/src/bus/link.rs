//! Our own client of the broker, embedded or external: commands out, reports in, status for everybody.
//!
//! Nothing relies on the broker's memory. What is to be said waits in the [`Outbox`]; after each connect
//! the agents are asked to say hello and everything is said anew. What comes is opened by the [`Ear`];
//! what fails its seal is counted and dropped. Decides nothing.

use super::ear::Ear;
use super::outbox::{Outbox, Say};
use crate::clock;
use crate::credentials::Credentials;
use piseduce_protocol::MESSAGE_BYTES_MAX;
use piseduce_protocol::command::Command;
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::report::{Beat, Report};
use piseduce_protocol::seal;
use piseduce_protocol::status::{CoordinatorStatus, NodeStatus, SCHEMA, StateEvent};
use piseduce_protocol::topic::{Site, Topic};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Packet, QoS, StateError,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// How long after a lost connection the next is tried.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);
/// Requests that rumqttc may hold for us.
const REQUESTS_HELD: usize = 256;
/// How long an orderly end may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// Room for topic and headers around a payload.
const PACKET_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 1024;

/// How to reach the broker, and as whom.
#[derive(Clone)]
pub struct LinkSettings {
    /// The broker's host.
    pub host: String,
    /// The broker's TCP port.
    pub tcp_port: u16,
    /// Our client id and user name there.
    pub name: String,
    /// Our password there.
    pub password: String,
    /// The site whose topics are ours.
    pub site: Site,
    /// This start of the coordinator; the upper half of every command's counter.
    pub epoch: u32,
}

/// What the link heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// We are connected and hear the agents.
    Up,
    /// We are not.
    Down,
    /// An agent reports.
    Report(Serial, BootNumber, Report),
    /// An agent's heartbeat.
    Beat(Serial, BootNumber, Beat),
    /// The broker lost an agent's connection: a hint.
    Lost(Serial, BootNumber),
}

/// A handle to the link; clones share it.
#[derive(Clone)]
pub struct Link {
    outbox: Arc<Mutex<Outbox>>,
    changed: Arc<Notify>,
    stopping: Arc<AtomicBool>,
    stopped: Arc<Notify>,
}

impl Link {
    /// Begins to connect, for ever; what is heard goes to `heard`. `live` says which boots may speak.
    pub fn start(
        settings: LinkSettings,
        credentials: Credentials,
        live: watch::Receiver<super::LiveBoots>,
        heard: mpsc::Sender<Heard>,
    ) -> Link {
        let link = Link {
            outbox: Arc::default(),
            changed: Arc::default(),
            stopping: Arc::default(),
            stopped: Arc::default(),
        };
        let worker = Worker {
            link: link.clone(),
            ear: Ear::new(settings.site.clone(), credentials.clone(), live),
            settings,
            credentials,
            heard,
            counter: 0,
            subscribed: 0,
            dropped: 0,
        };
        tokio::spawn(worker.run());
        link
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().expect("nobody panics while holding the outbox")
    }

    /// Sends `command` to the agent of `boot` until it is answered or replaced.
    pub fn command(&self, serial: Serial, boot: BootNumber, command: Command) {
        self.outbox().command(serial, boot, command);
        self.changed.notify_one();
    }

    /// Nothing is asked of this node's agent any more.
    pub fn forget(&self, serial: Serial) {
        self.outbox().forget(serial);
    }

    /// Publishes a node's status, now and after every connect.
    pub fn publish(&self, status: NodeStatus) {
        self.outbox().status(status);
        self.changed.notify_one();
    }

    /// Publishes a change of state once.
    pub fn event(&self, event: StateEvent) {
        self.outbox().event(event);
        self.changed.notify_one();
    }

    /// Says that the coordinator is offline and ends the connection; gives up after [`FAREWELL_MAX`].
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.changed.notify_one();
        // Who cannot be told will hear it from the broker: our last will says the same.
        let _ = tokio::time::timeout(FAREWELL_MAX, self.stopped.notified()).await;
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

struct Worker {
    link: Link,
    settings: LinkSettings,
    credentials: Credentials,
    ear: Ear,
    heard: mpsc::Sender<Heard>,
    counter: u32,
    subscribed: usize,
    dropped: u64,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let (client, event_loop) = self.connect();
            let (send, mut events) = mpsc::channel(REQUESTS_HELD);
            let polling = tokio::spawn(poll(event_loop, send));
            self.serve(&client, &mut events).await;
            if self.link.is_stopping() {
                self.say_farewell(&client, &mut events).await;
            }
            polling.abort();
            if self.link.is_stopping() || self.heard.is_closed() {
                self.link.stopped.notify_one();
                return;
            }
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    fn connect(&self) -> (AsyncClient, EventLoop) {
        let settings = &self.settings;
        let mut options = MqttOptions::new(&settings.name, &settings.host, settings.tcp_port);
        options.set_credentials(&settings.name, &settings.password);
        options.set_keep_alive(Duration::from_secs(5));
        options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        let topic = settings.site.render(&Topic::Coordinator);
        options.set_last_will(LastWill::new(topic, presence(false), QoS::AtLeastOnce, true));
        AsyncClient::new(options, REQUESTS_HELD)
    }

    /// Serves one connection after the other until rumqttc must be built anew.
    async fn serve(&mut self, client: &AsyncClient, events: &mut mpsc::Receiver<Polled>) {
        let mut resend = tokio::time::interval(Duration::from_secs(1));
        let changed = self.link.changed.clone();
        loop {
            tokio::select! {
                polled = events.recv() => match polled {
                    Some(Polled::Packet(packet)) => self.packet(client, packet).await,
                    Some(Polled::Broken { rebuild }) => {
                        self.down().await;
                        if rebuild { return }
                    }
                    None => return self.down().await,
                },
                () = changed.notified() => {}
                _ = resend.tick() => {}
            }
            if self.link.is_stopping() || self.heard.is_closed() {
                return;
            }
            if self.is_up() {
                self.flush(client);
            }
        }
    }

    async fn say_farewell(&self, client: &AsyncClient, events: &mut mpsc::Receiver<Polled>) {
        let topic = self.settings.site.render(&Topic::Coordinator);
        let said = client.try_publish(topic, QoS::AtLeastOnce, true, presence(false)).is_ok();
        while said && self.is_up() {
            match events.recv().await {
                Some(Polled::Packet(Packet::PubAck(_))) => {
                    // If there is no room for a DISCONNECT, the broker sees the connection end.
                    let _ = client.try_disconnect();
                }
                Some(Polled::Packet(_)) => {}
                Some(Polled::Broken { .. }) | None => return,
            }
        }
    }

    fn is_up(&self) -> bool {
        self.subscribed == self.settings.site.agent_filters().len()
    }

    async fn down(&mut self) {
        if std::mem::take(&mut self.subscribed) > 0 {
            tracing::warn!("link to the broker is down");
            self.tell(Heard::Down).await;
        }
    }

    async fn tell(&self, heard: Heard) {
        // A closed channel means that the coordinator stops; `serve` notices.
        let _ = self.heard.send(heard).await;
    }

    async fn packet(&mut self, client: &AsyncClient, packet: Packet) {
        match packet {
            Packet::ConnAck(_) => {
                self.subscribed = 0;
                for filter in self.settings.site.agent_filters() {
                    if client.try_subscribe(filter, QoS::AtLeastOnce).is_err() {
                        tracing::error!("no room for our own subscriptions");
                    }
                }
            }
            Packet::SubAck(_) => {
                self.subscribed += 1;
                if self.is_up() {
                    self.up(client).await;
                }
            }
            Packet::Publish(publish) => self.publish(&publish.topic, &publish.payload).await,
            _ => {}
        }
    }

    async fn up(&mut self, client: &AsyncClient) {
        tracing::info!("link to the broker is up");
        let site = &self.settings.site;
        let online =
            client.try_publish(site.render(&Topic::Coordinator), QoS::AtLeastOnce, true, presence(true));
        let announced = client.try_publish(site.render(&Topic::Announce), QoS::AtLeastOnce, false, "hello?");
        if online.is_err() || announced.is_err() {
            tracing::error!("no room for our own announcement");
        }
        self.link.outbox().begin_anew();
        self.tell(Heard::Up).await;
    }

    /// Hands to rumqttc what is due, as far as it has room.
    fn flush(&mut self, client: &AsyncClient) {
        let Worker { link, settings, credentials, counter, .. } = self;
        link.outbox().flush(clock::now(), |say| {
            let sent = match say {
                Say::Command(serial, boot, command) => {
                    *counter += 1;
                    let counter = u64::from(settings.epoch) << 32 | u64::from(*counter);
                    let topic = settings.site.render(&Topic::Command(serial));
                    let key = credentials.boot_keys(serial, boot).message;
                    let sealed = seal::seal(&key, &topic, boot, counter, command)
                        .expect("commands are far shorter than a message may be");
                    client.try_publish(topic, QoS::AtLeastOnce, false, sealed)
                }
                Say::Status(status) => {
                    let topic = settings.site.render(&Topic::Status(status.node.clone()));
                    client.try_publish(topic, QoS::AtLeastOnce, true, json(status))
                }
                Say::Event(event) => {
                    let topic = settings.site.render(&Topic::Event);
                    client.try_publish(topic, QoS::AtMostOnce, false, json(event))
                }
            };
            sent.is_ok()
        });
    }

    async fn publish(&mut self, topic: &str, payload: &[u8]) {
        match self.ear.open(topic, payload) {
            Ok(Some(heard)) => {
                if let Heard::Report(serial, _, Report::Answer(answer)) = &heard {
                    self.link.outbox().answered(*serial, answer.ticket);
                }
                self.tell(heard).await;
            }
            Ok(None) => {}
            Err(error) => {
                self.dropped += 1;
                tracing::warn!(topic, %error, dropped = self.dropped, "message dropped");
            }
        }
    }
}

enum Polled {
    Packet(Packet),
    Broken { rebuild: bool },
}

/// Polls rumqttc, which connects only while it is polled, and never waits for its own requests.
async fn poll(mut event_loop: EventLoop, events: mpsc::Sender<Polled>) {
    event_loop.network_options.set_connection_timeout(30);
    loop {
        let polled = match event_loop.poll().await {
            Ok(Event::Incoming(packet)) => Polled::Packet(packet),
            Ok(Event::Outgoing(_)) => continue,
            Err(error) => {
                tracing::debug!(%error, "broker connection ended");
                // After a collision rumqttc would wait for an acknowledgement that never comes.

                Polled::Broken {
                    rebuild: matches!(error, ConnectionError::MqttState(StateError::CollisionTimeout)),
                }
            }
        };
        let broken = matches!(polled, Polled::Broken { .. });
        if events.send(polled).await.is_err() {
            return;
        }
        if broken {
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }
}

fn presence(online: bool) -> Vec<u8> {
    json(&CoordinatorStatus { schema: SCHEMA, online, version: env!("CARGO_PKG_VERSION").into() })
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("views have text keys only")
}

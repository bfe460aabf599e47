//! Our own client of the broker, embedded or external: commands out, reports in, status for everybody.
//!
//! Nothing relies on the broker's memory. What is to be said waits in the [`Outbox`]; after each connect
//! the agents are asked to say hello and everything is said anew. What comes is opened by the [`Ear`];
//! what fails its seal is counted and dropped. Decides nothing.

use super::client::{self, Polled, Unacknowledged};
use super::ear::Ear;
use super::outbox::{Outbox, Say};
use super::retention::Retention;
use super::trouble::Trouble;
use crate::clock::{self, Instant};
use crate::credentials::Credentials;
use piseduce_protocol::boot::Account;
use piseduce_protocol::command::Command;
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::report::{Beat, Report};
use piseduce_protocol::seal;
use piseduce_protocol::status::{CoordinatorStatus, NodeStatus, SCHEMA, StateEvent};
use piseduce_protocol::topic::{Site, Topic};
use rumqttc::{AsyncClient, ClientError, Packet, QoS, SubscribeFilter, SubscribeReasonCode};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// How long after a lost connection the next is tried.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);
/// How long an orderly end may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// How to reach the broker, and as whom.
#[derive(Clone)]
pub struct LinkSettings {
    /// The broker's host: a name or an IP address, in brackets if it has colons.
    pub host: String,
    /// The broker's TCP port.
    pub tcp_port: u16,
    /// Our client id there.
    pub client_id: String,
    /// Our user there.
    pub account: Account,
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
    /// The agent of the boot before the live one wanted to come in at the gate.
    Stale(Serial),
    /// Somebody showed the token of a live boot at an address that did not fetch it.
    TokenElsewhere(Serial, BootNumber, IpAddr),
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
            is_up: false,
            unacknowledged: Unacknowledged::default(),
            retention: Retention::default(),
            trouble: None,
            dropped: 0,
            warned: None,
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

    /// Clears the retained status of a node that is none any more.
    pub fn unpublish(&self, node: &str) {
        self.outbox().no_status(node);
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
    /// Whether the broker lets us hear the agents on this connection.
    is_up: bool,
    unacknowledged: Unacknowledged,
    retention: Retention,
    /// What was last said about why there is no link.
    trouble: Option<Trouble>,
    dropped: u64,
    /// When the last dropped message was logged.
    warned: Option<Instant>,
}

/// How a connection was left.
enum Left {
    Broken(Trouble),
    Stopping,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let (client, event_loop) = client::connect(&self.settings);
            let (send, mut events) = mpsc::channel(client::REQUESTS_HELD);
            let polling = tokio::spawn(client::poll(event_loop, send));
            self.unacknowledged = Unacknowledged::default();
            self.retention.begin_anew();
            let left = self.serve(&client, &mut events).await;
            if self.link.is_stopping() && self.is_up {
                self.say_farewell(&client, &mut events).await;
            }
            polling.abort();
            match left {
                Left::Broken(trouble) => self.down(trouble).await,
                Left::Stopping => return self.link.stopped.notify_one(),
            }
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    /// Serves one connection to its end.
    async fn serve(&mut self, client: &AsyncClient, events: &mut mpsc::Receiver<Polled>) -> Left {
        let mut look_again = tokio::time::interval(Duration::from_secs(1));
        let changed = self.link.changed.clone();
        loop {
            tokio::select! {
                polled = events.recv() => match polled {
                    Some(Polled::Packet(packet)) => {
                        if let Err(trouble) = self.packet(client, packet).await {
                            return Left::Broken(trouble);
                        }
                    }
                    Some(Polled::Sent) => self.unacknowledged.sent(clock::now()),
                    Some(Polled::Broken(trouble)) => return Left::Broken(trouble),
                    // Polling ended by a panic, which the runtime has reported.
                    None => return Left::Broken(Trouble::Ended),
                },
                () = changed.notified() => {}
                _ = look_again.tick() => {}
            }
            if self.link.is_stopping() || self.heard.is_closed() {
                return Left::Stopping;
            }
            // What came while we were busy counts first.
            if events.is_empty() && self.unacknowledged.is_overdue(clock::now()) {
                return Left::Broken(Trouble::Unacknowledged);
            }
            if self.is_up {
                self.flush(client);
                self.retention.judge(clock::now(), &self.settings);
            }
        }
    }

    async fn say_farewell(&self, client: &AsyncClient, events: &mut mpsc::Receiver<Polled>) {
        let topic = self.settings.site.render(&Topic::Coordinator);
        if client.try_publish(topic, QoS::AtLeastOnce, true, presence(false)).is_err() {
            return;
        }
        loop {
            match events.recv().await {
                Some(Polled::Packet(Packet::PubAck(_))) => {
                    // If there is no room for a DISCONNECT, the broker sees the connection end.
                    let _ = client.try_disconnect();
                }
                Some(Polled::Packet(_) | Polled::Sent) => {}
                Some(Polled::Broken(_)) | None => return,
            }
        }
    }

    /// There is no link; says why, unless that was said before.
    async fn down(&mut self, trouble: Trouble) {
        let was_up = std::mem::take(&mut self.is_up);
        if was_up || self.trouble.as_ref() != Some(&trouble) {
            let LinkSettings { host, tcp_port, account, .. } = &self.settings;
            let broker = format!("{host}:{tcp_port}");
            match trouble.needs_somebody() {
                true => tracing::error!(broker, user = account.user, why = %trouble, "no link to the broker"),
                false => tracing::warn!(broker, why = %trouble, "no link to the broker"),
            }
            self.trouble = Some(trouble);
        }
        if was_up {
            self.tell(Heard::Down).await;
        }
    }

    async fn tell(&self, heard: Heard) {
        // A closed channel means that the coordinator stops; `serve` notices.
        let _ = self.heard.send(heard).await;
    }

    async fn packet(&mut self, client: &AsyncClient, packet: Packet) -> Result<(), Trouble> {
        match packet {
            Packet::ConnAck(_) => {
                let filters = self.settings.site.agent_filters();
                let filters = filters.map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
                client.try_subscribe_many(filters).map_err(gone)?;
            }
            Packet::SubAck(answer) => {
                self.unacknowledged.acknowledged(clock::now());
                match self.is_up {
                    false if answer.return_codes.contains(&SubscribeReasonCode::Failure) => {
                        return Err(Trouble::Subscription);
                    }
                    false => self.up(client).await?,
                    true => self.retention.asked(clock::now()),
                }
            }
            Packet::PubAck(_) => self.unacknowledged.acknowledged(clock::now()),
            Packet::Publish(publish) => self.publish(&publish.topic, &publish.payload).await,
            _ => {}
        }
        Ok(())
    }

    async fn up(&mut self, client: &AsyncClient) -> Result<(), Trouble> {
        let site = &self.settings.site;
        let own = site.render(&Topic::Coordinator);
        client.try_publish(&own, QoS::AtLeastOnce, true, presence(true)).map_err(gone)?;
        let announce = site.render(&Topic::Announce);
        client.try_publish(announce, QoS::AtLeastOnce, false, "hello?").map_err(gone)?;
        client.try_subscribe(own, QoS::AtLeastOnce).map_err(gone)?;
        tracing::info!("link to the broker is up");
        self.is_up = true;
        self.trouble = None;
        self.link.outbox().begin_anew();
        self.tell(Heard::Up).await;
        Ok(())
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
                Say::NoStatus(node) => {
                    let topic = settings.site.render(&Topic::Status(node.into()));
                    client.try_publish(topic, QoS::AtLeastOnce, true, vec![])
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
        if self.settings.site.parse(topic) == Some(Topic::Coordinator) {
            return self.retention.found();
        }
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
                // At most once a second: whoever sends nonsense must not fill the log as well.
                let now = clock::now();
                if self.warned.is_none_or(|at| now.since(at) >= Duration::from_secs(1)) {
                    self.warned = Some(now);
                    tracing::warn!(topic, %error, dropped = self.dropped, "message dropped");
                }
            }
        }
    }
}

/// A new client has room for some requests: it refuses one only when its connection has ended already.
fn gone(_: ClientError) -> Trouble {
    Trouble::Ended
}

/// What is said about ourselves.
pub(super) fn presence(online: bool) -> Vec<u8> {
    json(&CoordinatorStatus { schema: SCHEMA, online, version: env!("CARGO_PKG_VERSION").into() })
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("views have text keys only")
}

//! One line to the router for all agents: what comes on it is handed to the mailbox of the agent that it is for.
//!
//! A line of its own would cost each agent 120 KiB, and a filter of its own in the router would be there for ever, be
//! compared with every new topic and keep the last commands: with N agents that is N × N. So the router has one filter
//! for the commands of all.

use super::acl::router_filter;
use super::backlog::Consuming;
use super::router::{Line, Router, RouterGone};
use piseduce_protocol::id::Serial;
use piseduce_protocol::topic::{Site, Topic};
use rumqttd::protocol::{Packet, Publish, Subscribe};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};

/// How many messages may wait for an agent; they take no room before. One that does not fetch them in time is disconnected;
/// the coordinator repeats what counts.
const MESSAGES_MAX: usize = 1_000;

/// The mailboxes of all connected agents.
pub(super) struct Mailboxes {
    site: Site,
    by_serial: Mutex<HashMap<Serial, Slot>>,
}

/// Where messages for an agent are put. It is dropped when no more fit.
struct Slot {
    messages: mpsc::Sender<Publish>,
    _has_room: oneshot::Sender<Infallible>,
}

/// The mailbox of one agent, until it is dropped.
pub(super) struct Mailbox {
    serial: Serial,
    messages: mpsc::Receiver<Publish>,
    has_room: Option<oneshot::Receiver<Infallible>>,
    mailboxes: Arc<Mailboxes>,
}

/// The filters of everything that agents may hear.
pub(super) fn filters(site: &Site) -> [String; 2] {
    let any = Serial(0);
    let commands = site.render(&Topic::Command(any)).replace(&any.to_string(), "+");
    [commands, site.render(&Topic::Announce)]
}

impl Mailboxes {
    /// Opens the line, which [`Mailboxes::deliver`] serves.
    pub(super) async fn open(router: &Router, site: &Site) -> Result<(Arc<Self>, Line), RouterGone> {
        let mut line = router.open().await?;
        let filters = filters(site).iter().map(|filter| router_filter(filter)).collect();
        line.send(Packet::Subscribe(Subscribe { pkid: 1, filters }, None)).await?;
        // The answer: from here on nothing is missed.
        line.next().await?;
        let mailboxes = Mailboxes { site: site.clone(), by_serial: Mutex::default() };
        Ok((Arc::new(mailboxes), line))
    }

    fn by_serial(&self) -> MutexGuard<'_, HashMap<Serial, Slot>> {
        self.by_serial.lock().expect("nothing panics while it holds this lock")
    }

    /// A mailbox for the agent of this node, which has none.
    pub(super) fn register(self: &Arc<Self>, serial: Serial) -> Mailbox {
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let (room, has_room) = oneshot::channel();
        self.by_serial().insert(serial, Slot { messages: sender, _has_room: room });
        Mailbox { serial, messages, has_room: Some(has_room), mailboxes: Arc::clone(self) }
    }

    /// Hands out what comes, until the router has died.
    pub(super) async fn deliver(self: Arc<Self>, mut line: Line, consuming: Consuming) {
        while let Ok(packet) = line.next().await {
            let Packet::Publish(message, _) = packet else { continue };
            let Ok(topic) = std::str::from_utf8(&message.topic) else { continue };
            consuming.took(topic, message.payload.len());
            match self.site.parse(topic) {
                Some(Topic::Command(serial)) => self.put(serial, message),
                Some(Topic::Announce) => {
                    self.by_serial().retain(|_, slot| slot.messages.try_send(message.clone()).is_ok());
                }
                _ => {}
            }
        }
    }

    fn put(&self, serial: Serial, message: Publish) {
        let mut mailboxes = self.by_serial();
        if mailboxes.get(&serial).is_some_and(|slot| slot.messages.try_send(message).is_err()) {
            mailboxes.remove(&serial);
        }
    }
}

impl Mailbox {
    /// The next message; none when too many have waited. Nothing is lost when this future is dropped.
    pub(super) async fn next(&mut self) -> Option<Publish> {
        self.messages.recv().await
    }

    /// Resolves when too many messages have waited, whether any is taken or not. To be asked for once.
    pub(super) fn overrun(&mut self) -> impl Future<Output = ()> + use<> {
        let has_room = self.has_room.take();
        async move {
            if let Some(has_room) = has_room {
                // Nothing is ever sent.
                let _ = has_room.await;
            }
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.mailboxes.by_serial().remove(&self.serial);
    }
}

//! The only room that talks to rumqttd's router: its configuration, its thread, and the one thread that feeds it.
//!
//! A session holds a [`Line`]. What it sends goes through the feeder's own thread, because rumqttd blocks whoever
//! sends while the router's queue is full, and that must be no thread of the runtime's. The router never learns a
//! client's name: it knows numbered slots, so nobody can be taken over inside it and its table of names is bounded.

use piseduce_protocol::id::Serial;
use piseduce_protocol::topic::{Site, Topic};
use rumqttd::local::{LinkBuilder, LinkRx, LinkTx};
use rumqttd::protocol::{Disconnect, DisconnectReasonCode, Packet, PingReq};
use rumqttd::{RouterConfig, SegmentConfig};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// How many packets of all sessions together may wait for the feeder; whoever sends one more waits for its turn.
const QUEUE_PACKETS_MAX: usize = 1_000;

/// Lines beside those of counted clients: the coordinator's, the pulse's, and some that nobody waits for any more.
const OWN_LINES: usize = 16;

/// How many messages of QoS 0 the router hands over at once. Retained messages beyond it would be dropped.
const MESSAGES_AT_ONCE_MAX: u64 = 100_000;

/// The log of a filter: it holds a burst with the status of 1,000 nodes even when one segment was just dropped.
const LOG: SegmentConfig = SegmentConfig { max_segment_size: 256 * 1024, max_segment_count: 4 };

/// The log of a filter of which there is one a node; its last message is what counts.
const NODE_LOG: SegmentConfig = SegmentConfig { max_segment_size: 16 * 1024, max_segment_count: 2 };

/// The router has died, or the gate is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker's router does not answer")]
pub(super) struct RouterGone;

/// The way to the router. When the last clone and the last line are gone, so is the feeder.
///
/// The router's own thread stays until the process ends: it holds a sender of its own queue and cannot be told to
/// stop. It sleeps then.
#[derive(Clone)]
pub(super) struct Router {
    jobs: mpsc::UnboundedSender<Job>,
    /// Bounds the jobs that carry packets; of the others there are two a connection.
    queue: Arc<Semaphore>,
}

enum Job {
    Open {
        router: Router,
        reply: oneshot::Sender<Line>,
    },
    /// The packet is boxed: a rumqttd packet has 392 bytes, whatever is in it.
    Send {
        slot: usize,
        packet: Box<Packet>,
        _turn: OwnedSemaphorePermit,
    },
    Close {
        slot: usize,
        woke: bool,
    },
}

impl Router {
    /// Starts a router and its feeder. Must be called in a runtime.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(site: &Site, connections_max: usize) -> io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let lines_max = connections_max + OWN_LINES;
        // The type of this sender has no name outside of rumqttd, so it lives in a closure.
        let router = rumqttd::Router::new(0, config(site, lines_max)).spawn();
        let connect = move |name: &str| match LinkBuilder::new(name, router.clone()).build() {
            Ok((to_router, from_router, _connack)) => Ok((to_router, from_router)),
            Err(_) => Err(RouterGone),
        };
        let feeder = Feeder { connect, links: (0..lines_max).map(|_| None).collect() };
        let runtime = Handle::current();
        let thread = thread::Builder::new().name("gate-feeder".into());
        thread.spawn(move || runtime.block_on(feeder.run(queue)))?;
        Ok(Router { jobs, queue: Arc::new(Semaphore::new(QUEUE_PACKETS_MAX)) })
    }

    /// A new connection to the router.
    pub(super) async fn open(&self) -> Result<Line, RouterGone> {
        let (reply, line) = oneshot::channel();
        self.jobs.send(Job::Open { router: self.clone(), reply }).map_err(|_| RouterGone)?;
        line.await.map_err(|_| RouterGone)
    }

    /// Ends when the router has died, or has not answered a ping for `limit`. Asks every `interval`.
    ///
    /// The pings have a second use: the router may go to sleep with work left when a connection ended at a bad
    /// moment (rumqttd's `consume` takes its remains in the queue for the end of the queue). The next ping wakes it.
    pub(super) async fn watch(&self, interval: Duration, limit: Duration) {
        let Ok(Ok(mut line)) = timeout(limit, self.open()).await else { return };
        loop {
            let answer = async {
                line.send(Packet::PingReq(PingReq)).await?;
                line.next().await
            };
            if !matches!(timeout(limit, answer).await, Ok(Ok(_))) {
                return;
            }
            // Nothing comes on this line but answers, so waiting for more is a pause that only a death cuts short.
            if timeout(interval, line.next()).await.is_ok() {
                return;
            }
        }
    }
}

fn config(site: &Site, lines_max: usize) -> RouterConfig {
    let any = Serial(0);
    let commands = site.render(&Topic::Command(any)).replace(&any.to_string(), "+");
    RouterConfig {
        // One more for the fence.
        max_connections: lines_max + 1,
        max_outgoing_packet_count: MESSAGES_AT_ONCE_MAX,
        max_segment_size: LOG.max_segment_size,
        max_segment_count: LOG.max_segment_count,
        // These patterns stand for every filter that they match, `…/status/+` itself too: `acl` asks for
        // `…/status/#` instead, which they do not match, so that "every status" has a log of full size.
        custom_segment: Some(HashMap::from([(commands, NODE_LOG), (site.status_filter(), NODE_LOG)])),
        // With it every topic of the site has a filter from the start. The router looks up the filters of a topic
        // that has none anew for every message, and elsewhere in its code means to drop who published it.
        initialized_filters: Some(vec![site.everything()]),
        ..RouterConfig::default()
    }
}

/// One connection to the router. Dropping it ends the connection, after everything that was sent before.
///
/// The router panics when it is woken by a connection that it has removed. Here waking needs the line and removing
/// needs its end, so within the gate the order is right; see [`Feeder::close`] for the router's side.
pub(super) struct Line {
    slot: usize,
    from_router: LinkRx,
    router: Router,
    /// The router has stopped sending until it is woken.
    wake_owed: bool,
    woke: bool,
}

impl Line {
    /// Sends a packet to the router; waits for a turn while the feeder's queue is full.
    pub(super) async fn send(&self, packet: Packet) -> Result<(), RouterGone> {
        let turn = Arc::clone(&self.router.queue).acquire_owned().await.map_err(|_| RouterGone)?;
        let job = Job::Send { slot: self.slot, packet: Box::new(packet), _turn: turn };
        self.router.jobs.send(job).map_err(|_| RouterGone)
    }

    /// The next packet from the router. Nothing is lost when this future is dropped.
    pub(super) async fn next(&mut self) -> Result<Packet, RouterGone> {
        loop {
            if self.wake_owed {
                self.woke = true;
                self.from_router.wake().await.map_err(|_| RouterGone)?;
                self.wake_owed = false;
            }
            let Some(notification) = self.from_router.next().await.map_err(|_| RouterGone)? else {
                continue;
            };
            match notification.into() {
                Some(packet) => return Ok(packet),
                // The only notification that stands for no packet is "unscheduled": 200 messages were handed over.
                None => self.wake_owed = true,
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Without a feeder there is nothing to close.
        let _ = self.router.jobs.send(Job::Close { slot: self.slot, woke: self.woke });
    }
}

/// The thread that may block.
struct Feeder<C> {
    connect: C,
    /// By slot, which are used again and again: the router keeps a few bytes a name for ever.
    links: Vec<Option<LinkTx>>,
}

impl<C: Fn(&str) -> Result<(LinkTx, LinkRx), RouterGone>> Feeder<C> {
    async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        while let Some(job) = jobs.recv().await {
            let done = match job {
                Job::Open { router, reply } => self.open(router, reply),
                Job::Send { slot, packet, _turn } => self.send(slot, *packet).await,
                Job::Close { slot, woke } => self.close(slot, woke).await,
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn open(&mut self, router: Router, reply: oneshot::Sender<Line>) -> Result<(), RouterGone> {
        let free = self.links.iter().position(Option::is_none);
        // Dropping `reply` is the answer that there is no line.
        let Some(slot) = free.filter(|_| !reply.is_closed()) else { return Ok(()) };
        let (to_router, from_router) = (self.connect)(&format!("slot-{slot}"))?;
        self.links[slot] = Some(to_router);
        // If the client has given up meanwhile, the line is dropped here and closes itself.
        let _ = reply.send(Line { slot, from_router, router, wake_owed: false, woke: false });
        Ok(())
    }

    async fn send(&mut self, slot: usize, packet: Packet) -> Result<(), RouterGone> {
        let link = self.links[slot].as_mut().expect("a slot is free only after its line was dropped");
        link.send(packet).await.map(drop).map_err(|_| RouterGone)
    }

    /// Packets reach the router beside its queue: it takes all that wait in a connection's buffer whenever the queue
    /// tells of one. So it may find this DISCONNECT while a wake-up that was sent before still stands in the queue,
    /// and panic when it comes to it. Therefore a connection that ever woke it is fenced off first: opening another
    /// one is answered only after everything that stood in the queue.
    async fn close(&mut self, slot: usize, woke: bool) -> Result<(), RouterGone> {
        let disconnect = || {
            Packet::Disconnect(Disconnect { reason_code: DisconnectReasonCode::NormalDisconnection }, None)
        };
        if woke {
            let (mut fence, _from_router) = (self.connect)("fence")?;
            fence.send(disconnect()).await.map_err(|_| RouterGone)?;
        }
        self.send(slot, disconnect()).await?;
        self.links[slot] = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttd::protocol::{Filter, Publish, QoS, RetainForwardRule, Subscribe};

    const EVERYTHING: &str = "piseduce/main/#";

    /// So many that the router is busy for some milliseconds with handing them over.
    const MESSAGES: usize = 20_000;

    fn start() -> Router {
        Router::start(&Site::new("main").unwrap(), 10).unwrap()
    }

    async fn subscribe(line: &Line) {
        let filter = Filter {
            path: EVERYTHING.into(),
            qos: QoS::AtMostOnce,
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: RetainForwardRule::OnEverySubscribe,
        };
        line.send(Packet::Subscribe(Subscribe { pkid: 1, filters: vec![filter] }, None)).await.unwrap();
    }

    async fn publish_retained(line: &Line) {
        for number in 0..MESSAGES {
            let publish = Publish::new(format!("piseduce/main/{number}"), "x".into(), true);
            line.send(Packet::Publish(publish, None)).await.unwrap();
        }
    }

    /// Waits until the feeder has handed everything over, whatever the router has done with it.
    async fn fed(router: &Router) {
        while router.queue.available_permits() < QUEUE_PACKETS_MAX {
            tokio::task::yield_now().await;
        }
    }

    /// Whether the router is so busy that a ping is not answered at once.
    async fn is_busy(probe: &mut Line) -> bool {
        probe.send(Packet::PingReq(PingReq)).await.unwrap();
        timeout(Duration::from_millis(1), probe.next()).await.is_err()
    }

    #[tokio::test]
    async fn a_line_that_has_just_woken_the_router_can_end_at_once() {
        let router = start();
        let mut probe = router.open().await.unwrap();
        publish_retained(&probe).await;
        for _ in 0..5 {
            let mut line = router.open().await.unwrap();
            subscribe(&line).await;
            for _suback_and_messages in 0..=MESSAGES {
                line.next().await.unwrap();
            }
            // The next news on the line is that it was unscheduled. While the router is busy with another one, its
            // queue gets news of a packet, then the wake-up; and the line's end arrives beside the queue.
            let other = router.open().await.unwrap();
            subscribe(&other).await;
            for _try in 0..100 {
                if is_busy(&mut probe).await {
                    break;
                }
            }
            line.send(Packet::PingReq(PingReq)).await.unwrap();
            fed(&router).await;
            let _ = timeout(Duration::ZERO, line.next()).await;
            drop(line);
            let alive = timeout(Duration::from_secs(5), router.open()).await;
            assert!(matches!(alive, Ok(Ok(_))), "the router has died");
        }
    }

    #[tokio::test]
    async fn the_death_of_the_router_is_noticed_by_everybody() {
        let router = start();
        let watch = tokio::spawn({
            let router = router.clone();
            async move { router.watch(Duration::from_millis(1), Duration::from_secs(10)).await }
        });
        let mut idle = router.open().await.unwrap();
        let line = router.open().await.unwrap();
        // This is how it dies: woken by a connection that it has removed.
        line.send(Packet::Disconnect(
            Disconnect { reason_code: DisconnectReasonCode::NormalDisconnection },
            None,
        ))
        .await
        .unwrap();
        while line.from_router.wake().await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(idle.next().await, Err(RouterGone));
        watch.await.unwrap();
        assert_eq!(router.open().await.err(), Some(RouterGone));
        assert_eq!(idle.send(Packet::PingReq(PingReq)).await, Err(RouterGone));
    }
}

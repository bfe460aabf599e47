//! The only room that talks to rumqttd's router: its configuration, its thread, and the one thread that feeds it.
//!
//! A session holds a [`Line`]. What it sends goes through the feeder's own thread, because rumqttd blocks whoever
//! sends while the router's queue is full, and that must be no thread of the runtime's.
//!
//! No connection to the router ever ends: rumqttd takes the remains of a removed one at the head of its queue for the
//! end of the queue and goes to sleep with work left, and it panics when a removed one wakes it. So a line that is
//! done with is unsubscribed, emptied and used again. The router never learns a client's name either: it knows
//! numbered lines, so nobody can be taken over inside it.

use piseduce_protocol::id::Serial;
use piseduce_protocol::topic::{Site, Topic};
use rumqttd::local::{LinkBuilder, LinkRx, LinkTx};
use rumqttd::protocol::{Packet, PingReq, Unsubscribe};
use rumqttd::{RouterConfig, SegmentConfig};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// How many packets of all sessions together may wait for the feeder; whoever sends one more waits for its turn.
const QUEUE_PACKETS_MAX: usize = 1_000;

/// Lines beside those of counted clients: the coordinator's, the agents', the pulse's, and some that are being emptied.
const OWN_LINES: usize = 16;

/// How many messages of QoS 0 the router hands over at once. Retained messages beyond it would be dropped.
const MESSAGES_AT_ONCE_MAX: u64 = 100_000;

/// The log of "every status": it holds a burst of 1,000 nodes even when one segment was just dropped.
const STATUS_LOG: SegmentConfig = SegmentConfig { max_segment_size: 256 * 1024, max_segment_count: 4 };

/// The log of what agents say or hear, and of events. Without the segment that was just dropped it holds more than
/// [`super::backlog::ROOM_BYTES`], so nothing that is waited for is lost.
const LOG: SegmentConfig = SegmentConfig { max_segment_size: 128 * 1024, max_segment_count: 4 };

/// The log of every other filter, "everything" among them, which nobody reads.
const SMALL_LOG: SegmentConfig = SegmentConfig { max_segment_size: 16 * 1024, max_segment_count: 2 };

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
    /// Bounds the jobs that carry packets; of the others there is one a line.
    queue: Arc<Semaphore>,
    lines: Arc<Lines>,
}

enum Job {
    Add {
        number: usize,
        to_router: LinkTx,
    },
    /// The packet is boxed: a rumqttd packet has 392 bytes, whatever is in it.
    Send {
        number: usize,
        packet: Box<Packet>,
        _turn: OwnedSemaphorePermit,
    },
}

type Connect = dyn Fn(&str) -> Result<(LinkTx, LinkRx), RouterGone> + Send + Sync;

/// All lines that there are.
struct Lines {
    connect: Box<Connect>,
    made: AtomicUsize,
    idle: Mutex<Vec<Ends>>,
    /// Bounds the lines that are in use or being emptied.
    free: Arc<Semaphore>,
    runtime: Handle,
}

impl Lines {
    fn idle(&self) -> MutexGuard<'_, Vec<Ends>> {
        self.idle.lock().expect("nothing panics while it holds this lock")
    }
}

impl Router {
    /// Starts a router and its feeder. Must be called in a runtime.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(site: &Site, clients_max: usize) -> io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let lines_max = clients_max + OWN_LINES;
        // The type of this sender has no name outside of rumqttd, so it lives in a closure.
        let router = rumqttd::Router::new(0, config(site, lines_max)).spawn();
        let connect = move |name: &str| match LinkBuilder::new(name, router.clone()).build() {
            Ok((to_router, from_router, _connack)) => Ok((to_router, from_router)),
            Err(_) => Err(RouterGone),
        };
        let runtime = Handle::current();
        let lines = Lines {
            connect: Box::new(connect),
            made: AtomicUsize::new(0),
            idle: Mutex::default(),
            free: Arc::new(Semaphore::new(lines_max)),
            runtime: runtime.clone(),
        };
        let thread = thread::Builder::new().name("gate-feeder".into());
        thread.spawn(move || runtime.block_on(feed(queue)))?;
        Ok(Router { jobs, queue: Arc::new(Semaphore::new(QUEUE_PACKETS_MAX)), lines: Arc::new(lines) })
    }

    /// A connection to the router: one that is done with, or a new one. Waits while there are as many as there may be.
    pub(super) async fn open(&self) -> Result<Line, RouterGone> {
        let place = Arc::clone(&self.lines.free).acquire_owned().await.map_err(|_| RouterGone)?;
        let idle = self.lines.idle().pop();
        if let Some(ends) = idle {
            return Ok(self.line(ends, place));
        }
        // In a task of its own: a new connection that nobody waits for any more must not be forgotten in the router.
        let (reply, line) = oneshot::channel();
        let router = self.clone();
        self.lines.runtime.spawn(async move {
            if let Ok(ends) = router.connect().await {
                // If the client has given up meanwhile, the line is dropped here and kept for the next one.
                let _ = reply.send(router.line(ends, place));
            }
        });
        line.await.map_err(|_| RouterGone)
    }

    /// Connects on a thread that may block, and that feeds nobody: rumqttd waits there for the router's answer.
    async fn connect(&self) -> Result<Ends, RouterGone> {
        let lines = Arc::clone(&self.lines);
        let number = lines.made.fetch_add(1, Ordering::Relaxed);
        let connecting = tokio::task::spawn_blocking(move || (lines.connect)(&format!("line-{number}")));
        let (to_router, from_router) = connecting.await.map_err(|_| RouterGone)??;
        // It has room for 200 packets of 392 bytes, and few lines ever need that.
        to_router.buffer().shrink_to_fit();
        self.jobs.send(Job::Add { number, to_router }).map_err(|_| RouterGone)?;
        Ok(Ends { number, from_router, wake_owed: false, filters: HashSet::new() })
    }

    fn line(&self, ends: Ends, place: OwnedSemaphorePermit) -> Line {
        let sender = LineSender { number: ends.number, router: self.clone() };
        Line { sender, open: Some((ends, place)) }
    }

    /// Ends when the router has died, or has not answered a ping for `limit`. Asks every `interval`.
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
    let of_agents = site.render(&Topic::Command(any)).replace(&any.to_string(), "+").replace("command", "+");
    // These patterns stand for every filter that they match.
    let logs = [
        (of_agents, LOG),
        (site.render(&Topic::Event), LOG),
        (site.status_filter().replace('+', "#"), STATUS_LOG),
    ];
    RouterConfig {
        max_connections: lines_max,
        max_outgoing_packet_count: MESSAGES_AT_ONCE_MAX,
        max_segment_size: SMALL_LOG.max_segment_size,
        max_segment_count: SMALL_LOG.max_segment_count,
        custom_segment: Some(HashMap::from(logs)),
        // With it every topic of the site has a filter from the start. The router looks up the filters of a topic
        // that has none anew for every message, and elsewhere in its code means to drop who published it.
        initialized_filters: Some(vec![site.everything()]),
        ..RouterConfig::default()
    }
}

/// What is kept of a connection to the router, whoever uses it.
struct Ends {
    number: usize,
    from_router: LinkRx,
    /// The router has stopped sending until it is woken.
    wake_owed: bool,
    filters: HashSet<String>,
}

impl Ends {
    async fn next(&mut self) -> Result<Packet, RouterGone> {
        loop {
            if self.wake_owed {
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

/// The end of a line at which packets go in; clones share it.
#[derive(Clone)]
pub(super) struct LineSender {
    number: usize,
    router: Router,
}

impl LineSender {
    /// Sends a packet to the router; waits for a turn while the feeder's queue is full.
    pub(super) async fn send(&self, packet: Packet) -> Result<(), RouterGone> {
        let turn = Arc::clone(&self.router.queue).acquire_owned().await.map_err(|_| RouterGone)?;
        let job = Job::Send { number: self.number, packet: Box::new(packet), _turn: turn };
        self.router.jobs.send(job).map_err(|_| RouterGone)
    }
}

/// One connection to the router. When it is dropped, all that was sent before still counts.
///
/// One that subscribes must not publish: where the router finds both together, it forgets that a filter was left and
/// delivers twice when it is taken again. So messages go by a line that never leaves a filter.
pub(super) struct Line {
    sender: LineSender,
    /// There until the line is dropped.
    open: Option<(Ends, OwnedSemaphorePermit)>,
}

impl Line {
    fn ends(&mut self) -> &mut Ends {
        &mut self.open.as_mut().expect("a line has its ends until it is dropped").0
    }

    /// For others that speak on this line, too, and hear nothing.
    pub(super) fn sender(&self) -> LineSender {
        self.sender.clone()
    }

    /// Sends a packet to the router; waits for a turn while the feeder's queue is full.
    pub(super) async fn send(&mut self, packet: Packet) -> Result<(), RouterGone> {
        let filters = match &packet {
            Packet::Subscribe(subscribe, _) => {
                subscribe.filters.iter().map(|filter| filter.path.clone()).collect()
            }
            _ => Vec::new(),
        };
        self.sender.send(packet).await?;
        self.ends().filters.extend(filters);
        Ok(())
    }

    /// The next packet from the router. Nothing is lost when this future is dropped.
    pub(super) async fn next(&mut self) -> Result<Packet, RouterGone> {
        self.ends().next().await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Some((ends, place)) = self.open.take() else { return };
        let sender = self.sender.clone();
        sender.router.lines.runtime.clone().spawn(async move {
            // With a router that is gone nobody needs the line.
            if let Ok(ends) = emptied(ends, &sender).await {
                sender.router.lines.idle().push(ends);
            }
            drop(place);
        });
    }
}

/// The same line as if nobody had used it. The router answers in order, so nothing comes after the answer to a ping.
async fn emptied(mut ends: Ends, sender: &LineSender) -> Result<Ends, RouterGone> {
    // One that the client has unsubscribed already is passed over by the router.
    let filters: Vec<String> = ends.filters.drain().collect();
    if !filters.is_empty() {
        sender.send(Packet::Unsubscribe(Unsubscribe { pkid: 1, filters }, None)).await?;
    }
    sender.send(Packet::PingReq(PingReq)).await?;
    while !matches!(ends.next().await?, Packet::PingResp(_)) {}
    Ok(ends)
}

/// Hands packets to the router, on the one thread that may block for that.
async fn feed(mut jobs: mpsc::UnboundedReceiver<Job>) {
    let mut links: HashMap<usize, LinkTx> = HashMap::new();
    while let Some(job) = jobs.recv().await {
        match job {
            Job::Add { number, to_router } => drop(links.insert(number, to_router)),
            Job::Send { number, packet, _turn } => {
                let link = links.get_mut(&number).expect("a line is added before it is used");
                if link.send(*packet).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

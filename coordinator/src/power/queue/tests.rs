//! The queue against a switch with faults to order.

use super::super::Reading;
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// A switch with faults to order.
#[derive(Default)]
struct Fake {
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    sets: AtomicUsize,
    /// This many requests get no answer.
    silent: AtomicUsize,
    /// This many readings show the old state.
    lagging: AtomicUsize,
    refuses: bool,
    on: std::sync::Mutex<HashMap<Port, bool>>,
}

impl Fake {
    async fn request(&self) -> Result<(), PowerError> {
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        let silent = self.silent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match (silent, self.refuses) {
            (Ok(_), _) => Err(PowerError::Unreachable("no answer".into())),
            (_, true) => Err(PowerError::Refused("read-only".into())),
            _ => Ok(()),
        }
    }
}

impl PowerSwitch for Fake {
    fn set<'a>(&'a self, port: &'a Port, power: Power) -> Answer<'a, ()> {
        Box::pin(async move {
            self.request().await?;
            self.sets.fetch_add(1, Ordering::SeqCst);
            self.on.lock().unwrap().insert(port.clone(), power == Power::On);
            Ok(())
        })
    }
    fn read<'a>(&'a self, port: &'a Port) -> Answer<'a, Reading> {
        Box::pin(async move {
            self.request().await?;
            let on = self.on.lock().unwrap().get(port).copied().unwrap_or(true);
            let lags = self.lagging.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            Ok(Reading { on, delivering: Some(on != lags.is_ok()) })
        })
    }
}

fn limits() -> Limits {
    let short = Duration::from_millis(50);
    Limits { off_proven: short, on_proven: short, read_every: Duration::from_millis(1), unreachable: short }
}

fn port(number: usize) -> Port {
    Port { port: number.to_string(), node: format!("pi-{number}") }
}

fn queue_of(fake: Arc<Fake>) -> PowerQueue {
    PowerQueue::new(Line::new(fake), Duration::ZERO, vec!["48".into()], limits())
}

async fn end_of(fake: Fake, power: Power) -> Powered {
    let (send, mut ended) = mpsc::unbounded_channel();
    let mut queue = queue_of(Arc::new(fake));
    queue
        .start(Job { port: port(1), power, gap: Duration::ZERO }, move |powered| send.send(powered).unwrap());
    ended.recv().await.unwrap()
}

fn cause(powered: &Powered) -> Option<&Cause> {
    match powered {
        Powered::Failed(cause) => Some(cause),
        Powered::On | Powered::Off => None,
    }
}

#[tokio::test]
async fn a_set_is_believed_only_after_a_reading_shows_it() {
    assert_eq!(end_of(Fake { lagging: 5.into(), ..Fake::default() }, Power::Off).await, Powered::Off);
    assert_eq!(end_of(Fake { lagging: 5.into(), ..Fake::default() }, Power::On).await, Powered::On);
    let stuck = end_of(Fake { lagging: usize::MAX.into(), ..Fake::default() }, Power::Off).await;
    assert!(cause(&stuck).unwrap().is(CauseKind::PortNotOff), "{stuck:?}");
    let dead = end_of(Fake { lagging: usize::MAX.into(), ..Fake::default() }, Power::On).await;
    assert!(cause(&dead).unwrap().is(CauseKind::PortNotDelivering), "{dead:?}");
}

#[tokio::test]
async fn silence_is_tried_again_and_given_up_in_the_end_and_a_refusal_at_once() {
    assert_eq!(end_of(Fake { silent: 3.into(), ..Fake::default() }, Power::On).await, Powered::On);
    let gone = end_of(Fake { silent: usize::MAX.into(), ..Fake::default() }, Power::On).await;
    assert!(cause(&gone).unwrap().is(CauseKind::SwitchUnreachable), "{gone:?}");
    let refused = end_of(Fake { refuses: true, ..Fake::default() }, Power::On).await;
    assert_eq!(cause(&refused), Some(&Cause::new(CauseKind::SwitchRefused, "read-only")));
}

#[tokio::test]
async fn a_protected_port_is_never_asked_for() {
    let fake = Arc::new(Fake::default());
    let (send, mut ended) = mpsc::unbounded_channel();
    queue_of(fake.clone())
        .start(Job { port: port(48), power: Power::Off, gap: Duration::ZERO }, move |powered| {
            send.send(powered).unwrap()
        });
    let refused = ended.recv().await.unwrap();
    assert!(cause(&refused).unwrap().seen.contains("port 48 is protected"), "{refused:?}");
    assert_eq!(fake.sets.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn many_ports_at_once_are_all_switched_with_one_request_in_flight() {
    let fake = Arc::new(Fake::default());
    let (send, mut ended) = mpsc::unbounded_channel();
    let mut queue = queue_of(fake.clone());
    for number in 0..48 {
        let send = send.clone();
        queue.start(Job { port: port(number), power: Power::Off, gap: Duration::ZERO }, move |end| {
            send.send(end).unwrap()
        });
    }
    for _ in 0..48 {
        assert_eq!(ended.recv().await, Some(Powered::Off));
    }
    assert_eq!(fake.most_in_flight.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn all_that_wait_for_a_silent_switch_give_up_together() {
    let fake = Arc::new(Fake { silent: usize::MAX.into(), ..Fake::default() });
    let (send, mut ended) = mpsc::unbounded_channel();
    let patient = Limits { unreachable: Duration::from_millis(400), ..limits() };
    let mut queue = PowerQueue::new(Line::new(fake), Duration::ZERO, vec![], patient);
    let began = clock::now();
    for number in 0..40 {
        let send = send.clone();
        let job = Job { port: port(number), power: Power::On, gap: Duration::ZERO };
        queue.start(job, move |end| send.send(end).unwrap());
    }
    for _ in 0..40 {
        let end = ended.recv().await.unwrap();
        assert!(cause(&end).unwrap().is(CauseKind::SwitchUnreachable), "{end:?}");
    }
    // One after the other they would take 16 s.
    assert!(clock::now().since(began) < Duration::from_secs(8));
}

#[tokio::test]
async fn a_newer_job_replaces_an_older_one_of_its_port() {
    let (send, mut ended) = mpsc::unbounded_channel();
    let fake = Arc::new(Fake { lagging: 5.into(), ..Fake::default() });
    let mut queue = queue_of(fake);
    for power in [Power::Off, Power::On] {
        let send = send.clone();
        queue.start(Job { port: port(1), power, gap: Duration::ZERO }, move |end| send.send(end).unwrap());
    }
    drop(send);
    assert_eq!(ended.recv().await, Some(Powered::On));
    assert_eq!(ended.recv().await, None, "the replaced job is silent");
}

//! One queue a switch: never more than one request in flight, a `set` believed only after a `read`, every
//! wait bounded. A newer job for a port replaces an older one.

use super::{Answer, Line, Port, Power, PowerError, PowerSwitch, Station};
use crate::clock::{self, Instant};
use crate::domain::boot_evidence::Place;
use crate::machine::event::Powered;
use futures_util::FutureExt as _;
use piseduce_protocol::cause::{Cause, CauseKind};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

/// How long the queue waits for what.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Until a port that was switched off shows that it delivers nothing.
    pub off_proven: Duration,
    /// Until a port that was switched on shows that it delivers power.
    pub on_proven: Duration,
    /// Between two readings.
    pub read_every: Duration,
    /// Until a switch that does not answer is given up.
    pub unreachable: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            // PSEs end power within a second; 10 s and 20 s leave room for slow management processors.
            off_proven: Duration::from_secs(10),
            on_proven: Duration::from_secs(20),
            read_every: Duration::from_millis(250),
            unreachable: Duration::from_secs(600),
        }
    }
}

/// The longest pause between two tries at a switch that does not answer.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// What to do with a port.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which port.
    pub port: Port,
    /// What to make of it.
    pub power: Power,
    /// For how long after another port was switched on this one may not be.
    pub gap: Duration,
}

/// Which node belongs at which outlet of a switch, by network address.
pub type Places = HashMap<String, Port>;

/// The queue of one switch.
pub struct PowerQueue {
    line: Line,
    off_time: Duration,
    protected: Vec<String>,
    limits: Limits,
    jobs: HashMap<String, AbortHandle>,
    places: Arc<Places>,
    stations: Arc<Mutex<Seen>>,
    troubles: Troubles,
    sightings: Sightings,
    /// When a port was last switched on.
    last_on: Arc<Mutex<Option<Instant>>>,
}

/// Why the switch does not answer for a port now.
type Troubles = Arc<std::sync::Mutex<HashMap<String, String>>>;

/// Where the switch saw the node of a port when that was last cut off.
type Sightings = Arc<std::sync::Mutex<HashMap<String, Place>>>;

/// What the switch has seen where, if it tells, and when that was read; none before.
type Seen = Option<(Instant, Option<Vec<Station>>)>;

/// For so long what the switch has seen is not read again: many ports are cut in one go.
const STATIONS_FRESH: Duration = Duration::from_secs(5);

impl PowerQueue {
    /// A queue for the switch at the end of `line`; after a port is off it stays so for `off_time` before the job is
    /// done. Jobs for `protected` ports fail.
    pub fn new(line: Line, off_time: Duration, protected: Vec<String>, limits: Limits) -> Self {
        PowerQueue {
            line,
            off_time,
            protected,
            limits,
            jobs: HashMap::new(),
            places: Arc::default(),
            stations: Arc::default(),
            troubles: Arc::default(),
            sightings: Arc::default(),
            last_on: Arc::default(),
        }
    }

    /// Why the switch does not answer for a port now, if it does not.
    pub fn trouble(&self, port: &str) -> Option<String> {
        self.troubles.lock().expect("nobody panics while holding it").get(port).cloned()
    }

    /// Where the switch saw the node of a port before it was last cut off, as far as it tells.
    pub fn place(&self, port: &str) -> Option<Place> {
        self.sightings.lock().expect("nobody panics while holding it").get(port).copied()
    }

    /// Where nodes belong; whoever is seen elsewhere is not cut off.
    pub fn set_places(&mut self, places: Places) {
        self.places = Arc::new(places);
    }

    /// The line that the queue uses.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Starts `job` in place of any other for its port; `done` hears how it ended, unless it is replaced.
    pub fn start(&mut self, job: Job, done: impl FnOnce(Powered) + Send + 'static) {
        let port = job.port.port.clone();
        if self.protected.contains(&port) {
            let cause =
                Cause::new(CauseKind::SwitchRefused, format!("port {port} is protected: nobody switches it"));
            return done(Powered::Failed(cause));
        }
        let worker = Worker {
            line: self.line.clone(),
            off_time: self.off_time,
            limits: self.limits.clone(),
            places: self.places.clone(),
            stations: self.stations.clone(),
            troubles: self.troubles.clone(),
            sightings: self.sightings.clone(),
            last_on: self.last_on.clone(),
            job,
        };
        self.troubles.lock().expect("nobody panics while holding it").remove(&port);
        let task = tokio::spawn(async move {
            // A driver that panics is told of; without an answer its node would wait for a day.
            let ended = AssertUnwindSafe(worker.run()).catch_unwind().await;
            done(ended.unwrap_or_else(|_| {
                let why = "the switch's driver failed, which is our mistake: see the coordinator's log";
                Powered::Failed(Cause::new(CauseKind::SwitchRefused, why))
            }));
        });
        if let Some(replaced) = self.jobs.insert(port, task.abort_handle()) {
            replaced.abort();
        }
    }
}

impl Drop for PowerQueue {
    fn drop(&mut self) {
        self.jobs.values().for_each(AbortHandle::abort);
    }
}

struct Worker {
    line: Line,
    off_time: Duration,
    limits: Limits,
    places: Arc<Places>,
    stations: Arc<Mutex<Seen>>,
    troubles: Troubles,
    sightings: Sightings,
    last_on: Arc<Mutex<Option<Instant>>>,
    job: Job,
}

impl Worker {
    async fn run(&self) -> Powered {
        match self.set_and_prove().await {
            Ok(()) if self.job.power == Power::Off => {
                tokio::time::sleep(self.off_time).await;
                Powered::Off
            }
            Ok(()) => Powered::On,
            Err(cause) => Powered::Failed(cause),
        }
    }

    async fn set_and_prove(&self) -> Result<(), Cause> {
        let Job { port, power, gap } = &self.job;
        let (proven, kind) = match power {
            Power::Off => (self.limits.off_proven, CauseKind::PortNotOff),
            Power::On => (self.limits.on_proven, CauseKind::PortNotDelivering),
        };
        match power {
            Power::Off => {
                self.check_place().await?;
                self.answered(self.until(), |switch| switch.set(port, *power)).await?;
            }
            Power::On => {
                // Counted from here, so that those behind one that gets no answer give up with it.
                let until = self.until();
                // Admission spaces its permissions; requests of others between them would bring them together again.
                let mut last_on = self.last_on.lock().await;
                if let Some(at) = *last_on {
                    clock::sleep_until(at + *gap).await;
                }
                self.answered(until, |switch| switch.set(port, *power)).await?;
                *last_on = Some(clock::now());
            }
        }
        if !self.line.driver().reads_back() {
            return Ok(());
        }
        let proven = self.line.driver().patience().unwrap_or(proven);
        let until = clock::now() + proven;
        loop {
            let shown = self.answered(self.until(), |switch| switch.read(port)).await?;
            let is_so = match power {
                Power::Off => !shown.on && shown.delivering != Some(true),
                Power::On => shown.on && shown.delivering != Some(false),
            };
            if is_so {
                return Ok(());
            }
            if clock::now() >= until {
                let switched = if shown.on { "on" } else { "off" };
                let delivers = match shown.delivering {
                    Some(true) => " and delivers power",
                    Some(false) => " and delivers no power",
                    None => "",
                };
                let seen = format!(
                    "port {} is switched {switched}{delivers} after {} s",
                    port.port,
                    proven.as_secs()
                );
                return Err(Cause::new(kind, seen));
            }
            tokio::time::sleep(self.limits.read_every).await;
        }
    }

    /// Refuses to cut where the switch has seen the node elsewhere, or another one here: who is wired otherwise than
    /// registered would cut off a stranger. A switch that shows no addresses contradicts nothing.
    async fn check_place(&self) -> Result<(), Cause> {
        let mut seen = self.stations.lock().await;
        if seen.as_ref().is_none_or(|(at, _)| clock::now() >= *at + STATIONS_FRESH) {
            let read = self.line.ask(|switch| switch.stations()).await;
            if let Err(error) = &read {
                tracing::debug!(port = %self.job.port.port, %error, "the switch's table of addresses cannot be read");
            }
            *seen = Some((clock::now(), read.ok().flatten()));
        }
        let table = seen.as_ref().and_then(|(_, stations)| stations.as_deref());
        let place = place(&self.job.port, &self.places, table);
        self.sightings
            .lock()
            .expect("nobody panics while holding it")
            .insert(self.job.port.port.clone(), place);
        match contradiction(&self.job.port, &self.places, table.unwrap_or_default()) {
            Some(seen) => Err(Cause::new(CauseKind::WrongPort, seen)),
            None => Ok(()),
        }
    }

    /// When a switch that does not answer from now on is given up.
    fn until(&self) -> Instant {
        clock::now() + self.limits.unreachable
    }

    /// One request, tried again while the switch does not answer.
    async fn answered<'a, T>(
        &'a self,
        until: Instant,
        request: impl Fn(&'a dyn PowerSwitch) -> Answer<'a, T>,
    ) -> Result<T, Cause> {
        let mut pause = self.limits.read_every;
        loop {
            let result = self.line.ask(&request).await;
            self.note_trouble(&result);
            match result {
                Ok(answer) => return Ok(answer),
                Err(PowerError::Refused(why)) => return Err(Cause::new(CauseKind::SwitchRefused, why)),
                Err(PowerError::Unreachable(why)) if clock::now() >= until => {
                    return Err(Cause::new(CauseKind::SwitchUnreachable, why));
                }
                Err(PowerError::Unreachable(why)) => {
                    tracing::warn!(port = %self.job.port.port, node = %self.job.port.node, why, "switch does not answer");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }
}

impl Worker {
    /// Lets others know why the switch does not answer.
    fn note_trouble<T>(&self, result: &Result<T, PowerError>) {
        let mut troubles = self.troubles.lock().expect("nobody panics while holding it");
        match result {
            Err(PowerError::Unreachable(why)) => troubles.insert(self.job.port.port.clone(), why.clone()),
            Ok(_) | Err(PowerError::Refused(_)) => troubles.remove(&self.job.port.port),
        };
    }
}

/// Where a switch with this table of addresses sees the node that belongs at `own`.
fn place(own: &Port, places: &Places, table: Option<&[Station]>) -> Place {
    // One that never shows anybody may keep its table elsewhere.
    let Some(stations) = table.filter(|stations| !stations.is_empty()) else { return Place::NoTable };
    let mac = places.iter().find_map(|(mac, place)| (place == own).then_some(mac));
    match stations.iter().any(|station| Some(&station.mac) == mac && station.port == own.port) {
        true => Place::AtPort,
        false => Place::NotInTable,
    }
}

/// What speaks against `own` being the outlet of its node.
fn contradiction(own: &Port, places: &Places, stations: &[Station]) -> Option<String> {
    let (mac, _) = places.iter().find(|(_, place)| *place == own)?;
    let elsewhere = || stations.iter().filter(|station| station.mac == *mac).map(|station| &station.port);
    if elsewhere().any(|port| *port == own.port) {
        return None;
    }
    if let Some(other) = elsewhere().next() {
        return Some(format!("the switch sees {mac} of {} at port {other}, not at {}", own.node, own.port));
    }
    let here = stations.iter().filter(|station| station.port == own.port);
    let stranger = here.filter_map(|station| places.get(&station.mac)).find(|place| *place != own)?;
    Some(format!(
        "the switch sees {} at port {}, which is registered for {}",
        stranger.node, own.port, own.node
    ))
}

#[cfg(test)]
mod tests {
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
                let lags =
                    self.lagging.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                Ok(Reading { on, delivering: Some(on != lags.is_ok()) })
            })
        }
    }

    fn limits() -> Limits {
        let short = Duration::from_millis(50);
        Limits {
            off_proven: short,
            on_proven: short,
            read_every: Duration::from_millis(1),
            unreachable: short,
        }
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
        queue.start(Job { port: port(1), power, gap: Duration::ZERO }, move |powered| {
            send.send(powered).unwrap()
        });
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

    #[test]
    fn only_what_contradicts_the_register_stands_against_a_cut() {
        let places: Places = (1..=3).map(|number| (format!("mac-{number}"), port(number))).collect();
        let check = |seen: &[(&str, usize)]| {
            let station = |(mac, at): &(&str, usize)| Station { mac: (*mac).into(), port: at.to_string() };
            contradiction(&port(1), &places, &seen.iter().map(station).collect::<Vec<_>>())
        };
        assert_eq!(check(&[]), None);
        let station = |mac: &str, at: &str| Station { mac: mac.into(), port: at.into() };
        let at = |table: Option<&[Station]>| place(&port(1), &places, table);
        assert_eq!((at(None), at(Some(&[]))), (Place::NoTable, Place::NoTable));
        assert_eq!(at(Some(&[station("mac-2", "2")])), Place::NotInTable);
        assert_eq!(at(Some(&[station("mac-2", "2"), station("mac-1", "1")])), Place::AtPort);
        assert_eq!(check(&[("mac-1", 1), ("mac-2", 2)]), None);
        assert_eq!(check(&[("a container of the node", 1)]), None, "users' own addresses say nothing");
        assert_eq!(check(&[("mac-1", 24), ("mac-1", 1)]), None, "seen in two VLANs");
        assert!(check(&[("mac-1", 2)]).unwrap().contains("at port 2, not at 1"));
        assert!(check(&[("mac-3", 1)]).unwrap().contains("sees pi-3 at port 1"));
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
            queue
                .start(Job { port: port(1), power, gap: Duration::ZERO }, move |end| send.send(end).unwrap());
        }
        drop(send);
        assert_eq!(ended.recv().await, Some(Powered::On));
        assert_eq!(ended.recv().await, None, "the replaced job is silent");
    }
}

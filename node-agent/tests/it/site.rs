//! A broker, a coordinator that only listens and orders, and an agent with its own card and head.

use crate::broker::Broker;
use crate::rig::{Rig, TICKET};
use crate::wait;
use piseduce_agent::identity::Identity;
use piseduce_agent::log::Log;
use piseduce_agent::runner::{self, End, Options, RunError};
use piseduce_protocol::boot::BootParameters;
use piseduce_protocol::command::{Command, Order, Work};
use piseduce_protocol::id::{BootNumber, Seq, Serial, Ticket};
use piseduce_protocol::report::{Beat, Outcome, Report};
use piseduce_protocol::seal::{BootToken, Window, open, seal};
use piseduce_protocol::state::State;
use piseduce_protocol::topic::{Site as Topics, Topic};
use rumqttc::{Client, Connection, Event, Incoming, MqttOptions, QoS, SubscribeFilter};
use std::fs;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub(crate) const SERIAL: Serial = Serial(0x1000_0000_0000_0007);
pub(crate) const EPOCH: u64 = 3;
const BOOT: BootNumber = BootNumber(5);
const BEAT: Duration = Duration::from_millis(100);

/// What the coordinator heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) reports: Vec<Report>,
    pub(crate) beats: Vec<Beat>,
    /// Last wills that were published.
    pub(crate) wills: usize,
    connections: usize,
}

pub(crate) struct Site {
    pub(crate) broker: Broker,
    pub(crate) rig: Rig,
    pub(crate) client: Client,
    heard: Arc<Mutex<Heard>>,
    counter: u64,
    /// The agent's log.
    pub(crate) log: Log,
    stop: Option<oneshot::Sender<()>>,
    agent: Option<JoinHandle<Result<End, RunError>>>,
    tree: TempDir,
}

/// The identity tree of the node.
pub(crate) fn identity_tree(parameters: &BootParameters) -> TempDir {
    let tree = TempDir::new().unwrap();
    let put = |path: &str, content: &str| {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    put("proc/device-tree/serial-number", &format!("{SERIAL}\0"));
    put("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
    put("sys/class/net/eth0/address", "dc:a6:32:01:02:03\n");
    put("proc/sys/kernel/random/boot_id", "b0b0\n");
    put("proc/cmdline", &format!("console=tty1 {}\n", parameters.render()));
    tree
}

pub(crate) fn parameters(broker_port: u16, head: &str) -> BootParameters {
    BootParameters {
        site: Topics::new("main").unwrap(),
        broker: format!("127.0.0.1:{broker_port}"),
        head: head.into(),
        serial: SERIAL,
        boot: BOOT,
        token: token(),
        account: None,
    }
}

fn token() -> BootToken {
    BootToken([3; 32])
}

pub(crate) fn ticket(seq: u32) -> Ticket {
    Ticket { seq: Seq(seq), ..TICKET }
}

impl Site {
    /// Everything up and an agent that said hello.
    pub(crate) fn new() -> Self {
        let broker = Broker::new();
        let rig = Rig::new();
        let parameters = parameters(broker.port, &rig.head.address);
        let tree = identity_tree(&parameters);
        let heard = Arc::<Mutex<Heard>>::default();
        let client = listen(broker.port, &heard);
        let mut site = Site {
            broker,
            rig,
            client,
            heard,
            counter: EPOCH << 32,
            log: Log::default(),
            stop: None,
            agent: None,
            tree,
        };
        site.until("the coordinator's subscription", |heard| heard.connections == 1);
        site.start_agent(parameters);
        site.until("a hello", |heard| heard.reports.iter().any(|report| matches!(report, Report::Hello(_))));
        site
    }

    fn start_agent(&mut self, parameters: BootParameters) {
        let options = Options {
            identity: Identity::read(self.tree.path()).unwrap(),
            root: self.tree.path().into(),
            parameters,
            card: self.rig.card.path.clone(),
            set_clock: false,
            beat: BEAT,
            patience: Duration::from_secs(2),
            log: self.log.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        self.stop = Some(stop);
        self.agent = Some(thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(runner::run(options, async {
                let _ = stopped.await;
            }))
        }));
    }

    /// Ends the agent from outside, unless it ends by itself, and says how it ended.
    pub(crate) fn end_agent(&mut self, from_outside: bool) -> End {
        if from_outside {
            self.stop = None;
        }
        self.agent.take().unwrap().join().unwrap().unwrap()
    }

    /// Waits until what was heard satisfies `condition`.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Heard) -> bool) {
        wait::until(what, || {
            let heard = self.heard.lock().unwrap();
            match condition(&heard) {
                true => Ok(()),
                false => Err(format!("{:?}, {} beats", heard.reports, heard.beats.len())),
            }
        });
    }

    /// Waits for a final answer to the command `seq`.
    pub(crate) fn end_of(&self, seq: u32) -> Outcome {
        self.until(&format!("the end of {seq}"), |heard| !heard.ends_of(seq).is_empty());
        self.look(|heard| heard.ends_of(seq)[0].clone())
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.heard.lock().unwrap())
    }

    /// Forgets what was heard.
    pub(crate) fn forget(&self) {
        let mut heard = self.heard.lock().unwrap();
        heard.reports.clear();
        heard.beats.clear();
    }

    pub(crate) fn perform(&mut self, seq: u32, state: State) {
        let work = Work { state, ..self.rig.work.clone() };
        self.order(seq, Order::Perform(work));
    }

    pub(crate) fn order(&mut self, seq: u32, order: Order) {
        self.counter += 1;
        let command = Command { ticket: ticket(seq), unix_ms: crate::rig::UNIX_MS, order };
        let topic = topic(&Topic::Command(SERIAL));
        let message = seal(&token().keys().message, &topic, BOOT, self.counter, &command).unwrap();
        self.publish(&topic, message);
    }

    pub(crate) fn publish(&self, topic: &str, message: Vec<u8>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, message).unwrap();
    }
}

impl Heard {
    pub(crate) fn outcomes(&self, seq: u32) -> Vec<&Outcome> {
        let answers = self.reports.iter().filter_map(|report| match report {
            Report::Answer(answer) => Some(answer),
            Report::Hello(_) | Report::Log(_) | Report::Written(_) => None,
        });
        answers.filter(|answer| answer.ticket == ticket(seq)).map(|answer| &answer.outcome).collect()
    }

    pub(crate) fn ends_of(&self, seq: u32) -> Vec<&Outcome> {
        let mut outcomes = self.outcomes(seq);
        outcomes.retain(|outcome| !matches!(outcome, Outcome::Started | Outcome::Progress(_)));
        outcomes
    }

    /// Where a line of the agent's log was first told, among the reports.
    pub(crate) fn told(&self, text: &str) -> Option<usize> {
        let has = |report: &Report| matches!(report, Report::Log(log) if log.lines.iter().any(|line| line.text == text));
        self.reports.iter().position(has)
    }

    pub(crate) fn hellos(&self) -> usize {
        self.reports.iter().filter(|report| matches!(report, Report::Hello(_))).count()
    }
}

pub(crate) fn topic(topic: &Topic) -> String {
    Topics::new("main").unwrap().render(topic)
}

/// Connects the coordinator, which opens whatever the agent seals.
fn listen(port: u16, heard: &Arc<Mutex<Heard>>) -> Client {
    let mut options = MqttOptions::new("coordinator", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(100_000, 100_000);
    let (client, connection) = Client::new(options, 100);
    let (subscriber, heard) = (client.clone(), Arc::clone(heard));
    thread::spawn(move || attend(connection, &subscriber, &heard));
    client
}

fn attend(mut connection: Connection, subscriber: &Client, heard: &Mutex<Heard>) {
    let key = token().keys().message;
    let mut window = Window::default();
    let topics = Topics::new("main").unwrap();
    for event in connection.iter() {
        match event {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                let filters =
                    topics.agent_filters().map(|topic| SubscribeFilter::new(topic, QoS::AtLeastOnce));
                subscriber.try_subscribe_many(filters).unwrap();
            }
            Ok(Event::Incoming(Incoming::SubAck(_))) => heard.lock().unwrap().connections += 1,
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                let mut heard = heard.lock().unwrap();
                let message = &publish.payload;
                match topics.parse(&publish.topic) {
                    Some(Topic::Report(_)) => {
                        let report = open(&key, &publish.topic, BOOT, &mut window, message);
                        heard.reports.push(report.expect("the agent's seal is right").1);
                    }
                    Some(Topic::Beat(_)) => {
                        let beat = open(&key, &publish.topic, BOOT, &mut window, message);
                        heard.beats.push(beat.expect("the agent's seal is right").1);
                    }
                    _ => heard.wills += 1,
                }
            }
            Ok(_) => {}
            Err(_) => wait::pause(Duration::from_millis(50)),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(agent) = self.agent.take() {
            let _ = agent.join();
        }
        let _ = self.client.disconnect();
    }
}

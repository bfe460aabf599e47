//! An agent that says what it is told to: for reports that no honest agent sends. It speaks from its board's address.

use crate::coordinator::Coordinator;
use crate::lab::Lab;
use piseduce_protocol::boot::client_id;
use piseduce_protocol::command::Command;
use piseduce_protocol::id::{BootNumber, Serial, Ticket};
use piseduce_protocol::report::{Answer, Hello, KernelId, Outcome, Report};
use piseduce_protocol::seal::{self, BootKeys, SiteKey, Window};
use piseduce_protocol::topic::{Site, Topic};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use std::sync::mpsc;
use std::time::Duration;

/// A connection to the broker with the credentials of one boot of one node.
pub struct FalseAgent {
    client: Client,
    commands: mpsc::Receiver<Command>,
    serial: Serial,
    boot: BootNumber,
    keys: BootKeys,
    topic: String,
    counter: u64,
}

impl FalseAgent {
    /// Connects as the agent of `boot` of a node, with keys that follow from the coordinator's site key.
    ///
    /// # Panics
    /// When the site key cannot be read, or the broker does not let it in within 10 s.
    pub fn connect(lab: &Lab, index: usize, boot: BootNumber) -> FalseAgent {
        let serial: Serial = lab.rack.nodes[index].serial.parse().expect("a board has a serial number");
        let keys = site_key(&lab.coordinator).boot_token(serial, boot).keys();
        let (name, host) = (client_id(serial), lab.coordinator.broker.ip().to_string());
        let mut options = MqttOptions::new(name, host, lab.coordinator.broker.port());
        options.set_credentials(serial.to_string(), &keys.mqtt_password);
        let (client, mut connection) = Client::new(options, 16);
        let site = Site::new("main").expect("a valid name");
        let command_topic = site.render(&Topic::Command(serial));
        client.subscribe(&command_topic, QoS::AtLeastOnce).expect("the queue has room");
        let (send, commands) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let key = keys.message;
        let hear = move || {
            let mut window = Window::default();
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let opened = seal::open(&key, &command_topic, boot, &mut window, &publish.payload);
                        let (_, command) = opened.expect("the coordinator seals its commands");
                        if send.send(command).is_err() {
                            return;
                        }
                    }
                    // Nobody may be waiting for the first subscription any more.
                    Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready.send(())),
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        };
        // The thread that hears is the one that connects.
        lab.network.boards[index].during(|| std::thread::spawn(hear));
        is_ready.recv_timeout(Duration::from_secs(10)).expect("the broker lets the agent in");
        let topic = site.render(&Topic::Report(serial));
        FalseAgent { client, commands, serial, boot, keys, topic, counter: 1 }
    }

    /// Says hello as `kernel`.
    pub fn hello(&mut self, kernel: &str) {
        let hello = Hello {
            serial: self.serial,
            mac: "dc:a6:32:00:00:01".into(),
            model: "false".into(),
            kernel: KernelId(kernel.into()),
            protocol: (1, 1),
            agent: "0".into(),
            card: None,
            bootloader: vec![],
            doing: None,
        };
        self.report(&Report::Hello(hello));
    }

    /// Answers with any ticket.
    pub fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        self.report(&Report::Answer(Answer { ticket, outcome }));
    }

    /// Reports under this boot's key.
    pub fn report(&mut self, report: &Report) {
        self.counter += 1;
        self.report_as(self.boot, self.counter, report);
    }

    /// Reports with another boot number or counter in the seal.
    ///
    /// # Panics
    /// When rumqttc has no room for it.
    pub fn report_as(&self, boot: BootNumber, counter: u64, report: &Report) {
        let sealed = seal::seal(&self.keys.message, &self.topic, boot, counter, report).expect("short");
        self.client.publish(&self.topic, QoS::AtLeastOnce, false, sealed).expect("the queue has room");
    }

    /// Waits for the next command.
    ///
    /// # Panics
    /// When none comes within 10 s.
    pub fn command(&self) -> Command {
        self.commands.recv_timeout(Duration::from_secs(10)).expect("a command comes")
    }
}

/// The secret of the coordinator's site.
///
/// # Panics
/// When it cannot be read.
pub fn site_key(coordinator: &Coordinator) -> SiteKey {
    let file = coordinator.settings().with_file_name("data").join("site.key");
    let bytes = std::fs::read(file).expect("the coordinator has a site key");
    SiteKey(bytes.try_into().expect("a site key has 32 bytes"))
}

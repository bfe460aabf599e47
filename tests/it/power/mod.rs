//! Power by SNMP: the real driver and queue against real agents.

mod orders;
mod places;
mod simulated;
mod site;
mod snmpd;

use piseduce_coordinator::domain::driver::Driver;
use piseduce_coordinator::machine::event::Powered;
use piseduce_coordinator::power::{self, Job, Limits, Line, Places, Port, Power, PowerQueue};
use std::time::Duration;
use tokio::sync::mpsc;

/// A driver as an operator registers it.
fn driver(inventory: &str) -> Driver {
    let inventory: piseduce_coordinator::api::Inventory = toml::from_str(inventory).unwrap();
    let driver = inventory.switches[0].driver.clone();
    driver.check().unwrap();
    driver
}

fn port(number: u32) -> Port {
    Port { port: number.to_string(), node: format!("pi-{number}") }
}

/// A queue whose patience is short, with each node at the port of its number.
fn queue(driver: &Driver, proven: Duration) -> PowerQueue {
    let limits = Limits {
        off_proven: proven,
        on_proven: proven,
        read_every: Duration::from_millis(20),
        unreachable: Duration::from_secs(60),
    };
    let mut queue =
        PowerQueue::new(Line::new(power::open(driver)), Duration::from_millis(50), vec![], limits);
    queue.set_places((1..=48).map(|number| (mac(number), port(number))).collect::<Places>());
    queue
}

fn mac(number: u32) -> String {
    format!("dc:a6:32:00:00:{number:02x}")
}

/// One job to its end.
async fn switched(queue: &mut PowerQueue, number: u32, power: Power) -> Powered {
    let (send, mut ended) = mpsc::unbounded_channel();
    queue.start(Job { port: port(number), power, gap: Duration::ZERO }, move |powered| {
        send.send(powered).unwrap()
    });
    ended.recv().await.unwrap()
}

/// Why it failed, in words.
fn why(powered: &Powered) -> String {
    match powered {
        Powered::Failed(cause) => cause.to_string(),
        Powered::On | Powered::Off => panic!("{powered:?} and no failure"),
    }
}

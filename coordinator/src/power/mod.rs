//! Power: a small trait for what switches ports, and one queue a switch that believes only what it read
//! back. Drivers do one request and know no order, no pause and no second try; those are in [`queue`].
//! A new driver is a file here, its settings in [`crate::domain::driver`], and one arm of [`open`].

mod command;
mod http;
mod line;
mod manual;
mod place;
mod queue;
mod secrets;
mod serial;
mod snmp;

pub use line::{Line, Lines};
pub use place::Places;
pub use queue::{Job, Limits, PowerQueue};
pub use snmp::{Detected, detect, held_back};

use crate::domain::driver::Driver;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What a driver's request returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, PowerError>> + Send + 'a>>;

/// What to make of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It delivers power.
    On,
    /// It delivers none.
    Off,
}

/// An outlet and the node on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// The outlet in the switch's own words.
    pub port: String,
    /// The node's name, for drivers that are asked by it.
    pub node: String,
}

/// What a port shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whether it is switched on.
    pub on: bool,
    /// Whether it delivers power, where the switch can tell.
    pub delivering: Option<bool>,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PowerError {
    /// No answer; another try may help.
    #[error("switch does not answer: {0}")]
    Unreachable(String),
    /// An answer, and it is no; another try will not help.
    #[error("switch refused: {0}")]
    Refused(String),
}

/// Everything that a switch shows of one of its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortView {
    /// The outlet in the switch's own words.
    pub port: String,
    /// Whether it is switched on; none: the switch cannot tell.
    pub on: Option<bool>,
    /// Whether it delivers power, where the switch can tell.
    pub delivering: Option<bool>,
    /// What the switch says of the device on it, in words.
    pub detection: Option<String>,
    /// Its power class, 0 to 8.
    pub class: Option<u8>,
    /// What it delivers now, in milliwatts.
    pub milliwatts: Option<u64>,
}

/// What one power supply of a switch has for its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supply {
    /// What it can deliver, in watts.
    pub nominal_watts: u32,
    /// What it delivers now, in milliwatts.
    pub used_milliwatts: u64,
}

/// A network address that a switch has seen, and at which of its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// The address, lower case with colons.
    pub mac: String,
    /// The outlet where it was seen.
    pub port: String,
}

/// What a switch tells of the addresses that it has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressTable {
    /// The addresses that it shows.
    pub stations: Vec<Station>,
    /// Why it may have seen more than it shows; none: it shows all.
    pub gap: Option<String>,
}

/// Something that switches ports. Each driver says on which hardware it was tried.
///
/// What not every switch can do has a default that says so.
pub trait PowerSwitch: Send + Sync {
    /// Asks for `power` at `port`; believed only after a `read`.
    fn set<'a>(&'a self, port: &'a Port, power: Power) -> Answer<'a, ()>;

    /// Reads what `port` shows.
    fn read<'a>(&'a self, port: &'a Port) -> Answer<'a, Reading>;

    /// Reads everything that `port` shows.
    fn view<'a>(&'a self, port: &'a Port) -> Answer<'a, PortView> {
        Box::pin(async move {
            let Reading { on, delivering } = self.read(port).await?;
            Ok(PortView { port: port.port.clone(), on: Some(on), delivering, ..PortView::default() })
        })
    }

    /// Whether `read` shows what the switch does; if not, a `set` is believed once it was sent.
    fn reads_back(&self) -> bool {
        true
    }

    /// How long it may take until a `set` shows, where that is not for the queue to say: people switch.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// A person says that what was asked for at `port` is done.
    fn confirm(&self, port: &str) -> Result<(), PowerError> {
        Err(PowerError::Refused(format!("port {port} is switched by a program, not by a person")))
    }

    /// Lists all ports; none: it knows only those that it is asked about.
    fn ports(&self) -> Answer<'_, Option<Vec<PortView>>> {
        Box::pin(async { Ok(None) })
    }

    /// Its power supplies; empty: it tells of none.
    fn supplies(&self) -> Answer<'_, Vec<Supply>> {
        Box::pin(async { Ok(vec![]) })
    }

    /// The addresses that it has seen lately; none: it keeps no such table, or is not to be asked for it.
    fn stations(&self) -> Answer<'_, Option<AddressTable>> {
        Box::pin(async { Ok(None) })
    }

    /// Where it has seen these addresses, without reading all that it has; none as for `stations`.
    fn locate<'a>(&'a self, _macs: &'a [String]) -> Answer<'a, Option<AddressTable>> {
        self.stations()
    }

    /// For how long it has been running; none: it cannot tell.
    fn uptime(&self) -> Answer<'_, Option<Duration>> {
        Box::pin(async { Ok(None) })
    }
}

/// The driver with these settings; must be called in a runtime. Whatever is wrong with them is told by each request, until it is mended.
pub fn open(driver: &Driver) -> Arc<dyn PowerSwitch> {
    match driver {
        Driver::Command(settings) => Arc::new(command::CommandSwitch::new(settings)),
        Driver::Snmp(settings) => Arc::new(snmp::SnmpSwitch::new(settings)),
        Driver::Http(settings) => Arc::new(http::HttpSwitch::new(settings)),
        Driver::Manual => Arc::new(manual::ManualSwitch::default()),
        Driver::Serial(settings) => Arc::new(serial::SerialSwitch::new(settings)),
    }
}

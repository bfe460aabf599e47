//! Power: a small trait for what switches ports, and one queue a switch that believes only what it read
//! back. Drivers do one request and know no order, no pause and no second try; those are in [`queue`].

mod command;
mod queue;

pub use command::CommandSwitch;
pub use queue::{Job, Limits, PowerQueue};

use std::pin::Pin;

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

/// Something that switches ports. Each driver says on which hardware it was tried.
pub trait PowerSwitch: Send + Sync {
    /// Asks for `power` at `port`; believed only after a `read`.
    fn set<'a>(&'a self, port: &'a Port, power: Power) -> Answer<'a, ()>;

    /// Reads what `port` shows.
    fn read<'a>(&'a self, port: &'a Port) -> Answer<'a, Reading>;
}

//! Decides what happens to a deployment: `advance` is the only place where one changes.
//!
//! Pure: no input or output, no clock, no randomness, no log. Order, limits and recovery are in
//! [`table`]; what can happen is in [`event`]; what follows is in [`effect`]. Start at [`advance`].

mod advance;
mod evidence;
mod powered;
mod release;
mod requested;
mod resting;
mod seen;
mod turn;

pub mod admission;
pub mod effect;
pub mod event;
pub mod live;
pub mod policy;
pub mod table;
pub mod waiting;

pub use advance::advance;
pub use effect::{Effect, Refusal, outstanding};
pub use event::Event;
pub use live::{Live, Moment};
pub use policy::Policy;

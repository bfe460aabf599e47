//! The command line as a client of the HTTP API. Knows the API's JSON and nothing of what is behind it.

mod cards;
pub mod commands;
mod discover;
pub mod error;

mod connection;
mod console;
mod deploy;
mod deployments;
mod environments;
mod follow;
mod interrupt;
mod lifecycle;
mod logs;
mod nodes;
mod qualify;
mod switches;
mod table;
mod tables;
mod time;
mod watch;

pub use connection::{Connection, ConnectionOptions};
pub use deploy::Ended;
pub use error::ClientError;

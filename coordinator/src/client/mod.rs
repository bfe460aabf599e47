//! The command line as a client of the HTTP API. Knows the API's JSON and nothing of what is behind it.

pub mod commands;

mod connection;
mod deploy;
mod tables;
mod watch;

pub use connection::{ClientError, Connection, ConnectionOptions};
pub use deploy::Ended;

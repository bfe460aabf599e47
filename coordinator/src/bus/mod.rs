//! The embedded broker's door (`gate`, `session`, `acl` …) and our own client of whichever broker it is (`link`, `client`,
//! `outbox`, `ear`).

mod acl;
mod arrivals;
mod backlog;
mod client;
mod conversation;
mod ear;
pub mod gate;
mod handshake;
mod identity;
pub mod link;
mod mailboxes;
mod outbox;
mod pace;
mod refusals;
mod retention;
mod router;
mod seats;
mod session;
mod trouble;
mod wire;

pub use identity::{Admission, COORDINATOR_CLIENT_ID, Doorkeeper, Identity, LiveBoots, Login, Refusal};

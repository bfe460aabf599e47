//! The embedded broker's door (`gate`, `session`, `acl` …) and our own client of whichever broker it is (`link`, `client`,
//! `outbox`, `ear`).

mod acl;
mod client;
mod conversation;
mod ear;
pub mod gate;
mod handshake;
mod identity;
pub mod link;
mod outbox;
mod retention;
mod router;
mod seats;
mod session;
mod trouble;
mod wire;

pub use identity::{Admission, COORDINATOR_CLIENT_ID, Doorkeeper, Identity, LiveBoots, Login, Refusal};

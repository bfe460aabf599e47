//! The broker: its door (`gate`, `session`, `acl`) and our own client of it (`link`,
//! `outbox`, `ear`).

mod acl;
mod conversation;
mod ear;
pub mod gate;
mod handshake;
mod identity;
pub mod link;
mod outbox;
mod router;
mod seats;
mod session;
mod wire;

pub use identity::{Admission, COORDINATOR_CLIENT_ID, Doorkeeper, Identity, LiveBoots, Login, Refusal};

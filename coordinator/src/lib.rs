//! The coordinator: decides what happens to every node and serves people and nodes. See ARCHITECTURE.md.

pub mod api;
pub mod bus;
pub mod clock;
pub mod credentials;
pub mod domain;
pub mod image;
pub mod machine;
pub mod netboot;
pub mod permission;
pub mod power;
pub mod print;
pub mod signal;
pub mod store;

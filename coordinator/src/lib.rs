//! The coordinator: decides what happens to every node and serves people and nodes. See ARCHITECTURE.md.

pub mod bus;
pub mod clock;
pub mod domain;
pub mod image;
pub mod machine;

//! The TFTP server that nodes' firmware asks: RFC 1350 with blksize, tsize, timeout and windowsize, for reading only. It speaks as
//! real firmware does: an ERROR ends a transfer, and the same port may ask something else at once.
//!
//! Who gets what is decided at the [desk](super::desk). Begin to read with `server.rs`: a question is parsed by `packet`, its asker
//! found by `neighbours`, its place kept by `seats`, its answer sent by `sending` as the pure `transfer` says. Everything that a
//! stranger can open is bounded, each bound beside what it bounds.

mod content;
mod neighbours;
mod packet;
mod seats;
mod sending;
mod server;
mod socket;
mod transfer;

pub use neighbours::Table;
pub use server::{Server, TftpError};

#[cfg(test)]
mod tests;

//! What the coordinator and its agents say to each other, and the words for it.
//!
//! No std, no input or output, no clock: the same bytes on a head node, in a boot root and in a test.
//! Every format here is a promise, pinned by golden bytes in `tests/golden_v1.rs`.
#![no_std]

extern crate alloc;

mod named;

pub mod boot;
pub mod boot_files;
pub mod bundle;
pub mod cause;
pub mod command;
pub mod enrolment;
pub mod id;
pub mod manifest;
pub mod model;
pub mod path;
pub mod report;
pub mod seal;
pub mod state;
pub mod status;
pub mod table;
pub mod topic;

/// The version of everything in this crate that goes over a wire. First byte of every sealed message.
pub const PROTOCOL_VERSION: u8 = 1;

/// The longest MQTT payload that either side sends or accepts, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

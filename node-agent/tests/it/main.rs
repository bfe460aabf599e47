//! The agent against real things: loop devices and e2fsprogs, an HTTP server, Mosquitto, shells.
//!
//! Needs root, loop devices, and the packages named where something is missing. Nothing remains after a
//! run, nor after a crash: loop devices detach themselves when the process that opened them is gone.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

mod binary;
mod broker;
mod card;
mod deploy;
mod faults;
mod fetch;
mod first_boot;
mod gpt;
mod head;
mod image;
mod link;
mod memory;
mod program;
mod resize;
mod resume;
mod rig;
mod site;
mod tree;
mod wait;

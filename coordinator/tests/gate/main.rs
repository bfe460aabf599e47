//! The broker's gate over TCP: Debian's Mosquitto clients, rumqttc, and a client of raw bytes for what those two
//! would never send; and our own link to brokers that misbehave. Every test has a port of the system's choice.
#![expect(clippy::unwrap_used, reason = "clippy allows it in tests, but not in what they share")]

mod admission;
mod bench;
mod flood;
mod hostile;
mod link;
mod liveness;
mod power_cut;
mod raw;
mod topics;
mod wills;

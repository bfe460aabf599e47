//! The stories: what a user can rely on, told against the real programs.
#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod addresses;
mod admission;
mod backup;
mod boot_root;
mod broker;
mod calendar;
mod cards;
mod client;
mod consoles;
mod crashes;
mod demo;
mod deploy;
mod discover;
mod docs;
mod doctor;
mod drivers;
mod firmware;
mod guards;
mod house;
mod images;
mod lifecycle;
mod machine;
mod monitoring;
mod netboot;
mod network;
mod network_boot;
mod power;
mod qualify;
mod release;
mod service;
mod silence;
mod store;
mod waits;
mod walks;
mod wishes;

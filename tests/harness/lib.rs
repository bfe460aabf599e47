//! Harness of the end-to-end tests and of the demo: the real programs, virtual boards, real block devices.
//!
//! Everything that is started here ends with the process that started it, also when that is killed:
//! boards by the parent-death signal, loop devices by their autoclear flag, mounts with their namespace.

pub mod bench_boot_root;
pub mod board;
pub mod boot_root;
pub mod cards;
pub mod console;
pub mod coordinator;
pub mod disk;
pub mod dnsmasq;
pub mod false_agent;
pub mod firmware;
pub mod images;
pub mod lab;
pub mod monitor;
pub mod mosquitto;
pub mod namespace;
pub mod nfs_server;
pub mod process;
mod process_tree;
pub mod rack;
pub mod rack_network;
pub mod relay;
pub mod show;
pub mod swarm;
pub mod switch;
pub mod virtual_lab;
pub mod virtual_rack;
pub mod wait;

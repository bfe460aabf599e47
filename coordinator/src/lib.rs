//! The coordinator: decides what happens to every node and serves people and nodes. See ARCHITECTURE.md.

pub mod api;
pub mod app;
pub mod bus;
pub mod client;
pub mod clock;
pub mod clock_trust;
pub mod config;
pub mod console;
pub mod credentials;
pub mod data_directory;
pub mod descriptors;
pub mod domain;
pub mod http;
pub mod image;
pub mod machine;
pub mod netboot;
pub mod operate;
pub mod permission;
pub mod power;
pub mod print;
pub mod private;
pub mod runner;
pub mod serial_port;
pub mod service_manager;
pub mod signal;
pub mod store;

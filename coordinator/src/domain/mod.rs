//! What there is: nodes, switches, environments, reservations, users, deployments. Plain values with
//! checked constructors; nothing here decides, stores or sends.

pub mod boot_evidence;
pub mod card;
pub mod console;
pub mod deployment;
pub mod driver;
pub mod environment;
pub mod guard;
pub mod network;
pub mod node;
pub mod reservation;
pub mod switch;
pub mod user;

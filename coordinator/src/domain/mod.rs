//! What there is: nodes, switches, environments, reservations, users, deployments. Plain values with
//! checked constructors; nothing here decides, stores or sends.

pub mod deployment;

//! What a node's firmware gets when it asks.

pub mod view;

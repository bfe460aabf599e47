//! What is configured in an environment, as texts: old file in, new file out. Pure.
//!
//! Which files those are is known to the family (`family/`), how they are read and written to `tree.rs`
//! and `card/fat.rs`.

pub mod cloud_init;
pub mod family;
pub mod first_boot;
pub mod hostname;
pub mod ssh;
pub mod time;
pub mod users;

//! What a node's firmware gets when it asks.

pub mod boot_root;
pub mod view;

pub use boot_root::{BootRoot, BootRootError, BootRoots};

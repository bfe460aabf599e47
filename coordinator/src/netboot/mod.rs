//! What a node's firmware gets when it asks.

pub mod alarm;
mod begun;
pub mod boot_root;
pub mod card_files;
pub mod command_line;
pub mod desk;
pub mod dhcp;
pub mod dnsmasq;
pub mod ear;
pub mod frame;
mod log_limit;
mod needs;
pub mod neighbour;
pub mod nfs;
pub mod overhear;
pub mod question;
mod read_once;
pub mod refusals;
pub mod silence;
pub mod stranger;
pub mod tftp;
pub mod token_holder;
pub mod view;

pub use alarm::Alarms;
pub use boot_root::{BootRoot, BootRootError, BootRoots};
pub use card_files::CardFiles;
pub use command_line::CommandLines;
pub use stranger::{Stranger, Strangers};

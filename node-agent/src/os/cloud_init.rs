//! Keeps cloud-init from undoing what was configured: it would delete the host keys, set the host name
//! and, from the image's own seed, reset the user's password.
//!
//! It still runs, since on Ubuntu it makes the network configuration. Sources: cloud-init's modules cc_ssh
//! (`ssh_deletekeys`), cc_set_hostname (`preserve_hostname`), cc_users_groups (`users: []`) and the NoCloud
//! data source (`instance-id`).

use piseduce_protocol::id::Ticket;

/// Where cloud-init's own configuration is extended, in the root.
pub const CONFIGURATION_PATH: &str = "/etc/cloud/cloud.cfg.d/99-piseduce.cfg";

/// What stands there.
pub const CONFIGURATION: &str = "\
# Written by PiSeduce: host keys, host name and user are configured already.
preserve_hostname: true
ssh_deletekeys: false
ssh_genkeytypes: []
";

/// The seed's user data on the boot partition, and what replaces it where it exists.
pub const USER_DATA_NAME: &str = "user-data";
/// Makes no user and sets no password.
pub const USER_DATA: &str = "\
#cloud-config
# Written by PiSeduce: the user is configured already.
users: []
";

/// The seed's meta data on the boot partition.
pub const META_DATA_NAME: &str = "meta-data";

/// A new instance for every run, so that cloud-init does its once-per-instance work again.
pub fn meta_data(ticket: Ticket) -> String {
    format!("instance-id: piseduce-{}-{}\ndsmode: local\n", ticket.deployment, ticket.run)
}

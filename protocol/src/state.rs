//! The states and processes of a deployment by their names, and nothing about their order:
//! that is known to the coordinator's machine alone.

use crate::named::named;

named! {
    /// Where a deployment is.
    pub enum State as "state" {
        /// The node is held for a user whose form is open.
        Initialized = "initialized",
        /// The boot number is raised and the boot view becomes the boot root.
        NfsBootConf = "nfs_boot_conf",
        /// The port is switched off and proven off.
        NfsBootOff = "nfs_boot_off",
        /// The port is switched on; the agent's hello is awaited.
        NfsBootOn = "nfs_boot_on",
        /// The agent writes the image to the card.
        EnvCopy = "env_copy",
        /// The agent reads the card back past the page cache.
        EnvCheck = "env_check",
        /// The entry of the partition to grow leaves the table in memory.
        DeletePartition = "delete_partition",
        /// The entry is re-created with its new end.
        CreatePartition = "create_partition",
        /// Boot and root are checked, mounted read-only and recognised.
        MountPartition = "mount_partition",
        /// The grow of the root file system is checked and planned.
        ResizePartition = "resize_partition",
        /// The root file system grows.
        WaitResizing = "wait_resizing",
        /// Host name, host keys, boot configuration, clock.
        SystemConf = "system_conf",
        /// Password, SSH keys, script, first-boot units; then the card is committed.
        UserConf = "user_conf",
        /// The boot view becomes the card.
        EnvBootConf = "env_boot_conf",
        /// The node boots the written card.
        EnvBoot = "env_boot",
        /// The user's script runs on the node.
        UserScript = "user_script",
        /// The environment runs; the user has the node.
        Deployed = "deployed",
        /// The node stayed silent or blocked, or its restarts are used up.
        Lost = "lost",
        /// The node said why it cannot go on.
        Failed = "failed",
        /// A `reboot`, `destroy` or halt switches the port off.
        TurnOff = "turn_off",
        /// A `reboot` switches the port on and awaits a sign of the deployed system.
        TurnOn = "turn_on",
        /// The node could not be released; an administrator must look at it.
        Quarantined = "quarantined",
        /// The deployment is over and its node is free.
        Ended = "ended",
        /// The agent makes the card unbootable and carries out the wipe that is due.
        Wipe = "wipe",
    }
}

impl State {
    /// The states of a deployment whose work the agent in the boot root does, in the order of the normal course.
    pub const AGENTS: [State; 9] = [
        State::EnvCopy,
        State::EnvCheck,
        State::DeletePartition,
        State::CreatePartition,
        State::MountPartition,
        State::ResizePartition,
        State::WaitResizing,
        State::SystemConf,
        State::UserConf,
    ];

    /// Whether the agent in the boot root does the work of this state.
    pub fn is_agents(self) -> bool {
        State::AGENTS.contains(&self) || self == State::Wipe
    }
}

named! {
    /// What is being done with the node.
    pub enum Process as "process" {
        /// Brings the node to its environment.
        Deploy = "deploy",
        /// Powers a deployed node off and on.
        Reboot = "reboot",
        /// Ends the deployment, proves that the node can be used again, and frees it.
        Destroy = "destroy",
        /// Powers the node off because going on would be wrong.
        Halt = "halt",
        /// Proves that a quarantined or free node can be used, and frees it.
        Test = "test",
        /// Powers a node off that could not be released, before it is quarantined.
        Isolate = "isolate",
    }
}

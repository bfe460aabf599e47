//! Why a deployment waits, stopped or ended: every reason has a name, and what was seen last beside it.
//!
//! The enumeration is open: a name from a newer agent passes through as text.

use crate::named::named;
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

named! {
    /// The causes that this version knows.
    pub enum CauseKind as "cause" {
        /// The user withdrew the deployment.
        Cancelled = "cancelled",
        /// The user gave the node back.
        Destroyed = "destroyed",
        /// The form stayed open longer than nodes are held for it.
        HoldExpired = "hold_expired",
        /// The reservation came to its end.
        ReservationEnded = "reservation_ended",
        /// An administrator had the node tested, and it can be used.
        Tested = "tested",

        /// The node was taken out of the rack for good.
        Retired = "retired",

        /// Power was switched on, but the node's firmware asked for nothing.
        NoBootRequest = "no_boot_request",
        /// The firmware asked for an address, and nobody was heard to offer one.
        NoDhcp = "no_dhcp",
        /// The firmware was offered an address, and asked for no file.
        DhcpNoTftp = "dhcp_no_tftp",
        /// The firmware began to fetch the boot root, and did not get as far as its kernel.
        FirmwareStopped = "firmware_stopped",
        /// The firmware asked for nothing, and what is on the card booted.
        BootsCardFirst = "boots_card_first",
        /// The firmware fetched the boot root, but no agent said hello.
        KernelSentNoAgent = "kernel_sent_no_agent",
        /// No heartbeat comes from the agent.
        AgentSilent = "agent_silent",
        /// Heartbeats come, but the work does not move.
        AgentStuck = "agent_stuck",
        /// The card was to boot, but its system never reported.
        FirstBootSilent = "first_boot_silent",
        /// The node rebooted while the agent worked.
        UnexpectedReboot = "unexpected_reboot",
        /// Two running kernels, or two addresses, showed the credentials of one boot.
        IdentityConflict = "identity_conflict",
        /// A node was to be freed, and not all was seen that a release rests on.
        ReleaseUnproven = "release_unproven",

        /// The port still delivers power after it was switched off.
        PortNotOff = "port_not_off",
        /// The port delivers no power after it was switched on.
        PortNotDelivering = "port_not_delivering",
        /// The switch does not answer.
        SwitchUnreachable = "switch_unreachable",
        /// The switch refused the request.
        SwitchRefused = "switch_refused",
        /// The node hangs on another port than the one registered for it.
        WrongPort = "wrong_port",
        /// The switch cannot tell any more who is at the port, and nothing was cut.
        PlaceUnknown = "place_unknown",

        /// The agent and its kernel command line name different nodes.
        IdentityMismatch = "identity_mismatch",
        /// No card was found.
        CardMissing = "card_missing",
        /// The image does not fit on the card.
        CardTooSmall = "card_too_small",
        /// The card refuses writes.
        CardReadOnly = "card_read_only",
        /// Another program uses the card.
        CardBusy = "card_busy",
        /// Reading or writing the card failed.
        CardError = "card_error",
        /// Content does not have the hash that the manifest names.
        HashMismatch = "hash_mismatch",
        /// Manifest, chunks or configuration could not be fetched.
        ImageUnreachable = "image_unreachable",
        /// The configuration bundle is not what the command named.
        BundleInvalid = "bundle_invalid",
        /// The partition table cannot be handled.
        TableInvalid = "table_invalid",
        /// The size asked for the root partition is impossible on this card.
        PartSizeImpossible = "part_size_impossible",
        /// No boot or root partition was recognised on the card.
        NoSystemFound = "no_system_found",
        /// The image has nothing that this board's firmware boots from the network.
        NoBootFiles = "no_boot_files",
        /// A file system is damaged beyond repair.
        FilesystemBroken = "filesystem_broken",
        /// A program of the boot root failed.
        ToolFailed = "tool_failed",
        /// The environment's system could not be configured.
        ConfigurationFailed = "configuration_failed",

        /// The bootloader asks the card before the network, or never the network: the node would not come back.
        BootOrderUnreachable = "boot_order_unreachable",
        /// The bootloader never asks the card: what is deployed would not boot.
        BootOrderNoCard = "boot_order_no_card",
        /// A USB disk is plugged in, and the board asks it before the network or the card.
        UsbFirst = "usb_first",
        /// The board waits for a button when its power returns.
        PowerButton = "power_button",
        /// A transfer that stops leaves the bootloader hanging.
        NoBootWatchdog = "no_boot_watchdog",
        /// A board that finds nothing to boot once does not look again.
        GivesUp = "gives_up",
        /// The bootloader is older than a fix that a node needs.
        OldBootloader = "old_bootloader",
        /// An address that DHCP should tell is set in the bootloader.
        FixedAddress = "fixed_address",

        /// The user's script ended with another exit code than 0.
        ScriptFailed = "script_failed",
        /// The user's script ran out of time.
        ScriptTimeout = "script_timeout",
        /// A power cut or hard reboot ended the user's script.
        ScriptInterrupted = "script_interrupted",
        /// The user's script rebooted the node.
        ScriptRebooted = "script_rebooted",
    }
}

/// The name of a cause, known to this version or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CauseName {
    /// A cause of this version.
    Known(CauseKind),
    /// A cause that only the other side knows.
    Other(String),
}

impl CauseName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        match self {
            CauseName::Known(kind) => kind.name(),
            CauseName::Other(name) => name,
        }
    }
}

impl From<&str> for CauseName {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| CauseName::Other(text.into()), CauseName::Known)
    }
}

impl Serialize for CauseName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CauseName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| CauseName::from(text.as_str()))
    }
}

/// A named cause and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Which cause.
    pub name: CauseName,
    /// What was seen last, in a clause without a full stop; may be empty.
    pub seen: String,
}

impl Cause {
    /// A cause of this version with what was seen of it.
    pub fn new(kind: CauseKind, seen: impl Into<String>) -> Self {
        Cause { name: CauseName::Known(kind), seen: seen.into() }
    }

    /// Whether this is the cause `kind`.
    pub fn is(&self, kind: CauseKind) -> bool {
        self.name == CauseName::Known(kind)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seen.as_str() {
            "" => f.write_str(self.name.as_str()),
            seen => write!(f, "{}: {seen}", self.name.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_from_a_newer_agent_passes_through_as_text() {
        let json = r#"{"name":"card_on_fire","seen":"smoke"}"#;
        let cause: Cause = serde_json::from_str(json).unwrap();
        assert_eq!(cause.name, CauseName::Other("card_on_fire".into()));
        assert_eq!(serde_json::to_string(&cause).unwrap(), json);
    }
}

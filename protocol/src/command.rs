//! What the coordinator asks of an agent. Variants and fields are only ever appended.

use crate::id::{Hash, Ticket};
use crate::named::named;
use crate::state::State;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One request to an agent, sealed and published on its command topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What the answer must show.
    pub ticket: Ticket,
    /// The head node's calendar time in milliseconds since 1970, because a Pi has none of its own at boot; 0 when
    /// the head's own clock is not to be believed.
    pub unix_ms: u64,
    /// What to do.
    pub order: Order,
}

/// What an agent can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Do the work of one state.
    Perform(Work),
    /// End what is being written in an orderly way and answer `Done`.
    Stop,
    /// Answer `Done`, then leave the boot root: unmount, sync, reboot.
    Reboot,
    /// Make the card unbootable and wipe it.
    Wipe(Wipe),
}

named! {
    /// What is done with the old content of a card, from little to much.
    pub enum Wipe as "wipe" {
        /// Partition tables and the beginnings of all partitions become zeros.
        Headers = "headers",
        /// The headers, and the card is told that it need not keep anything; one that cannot be told is zeroed.
        Discard = "discard",
        /// Every byte becomes zero.
        Zero = "zero",
    }
}

/// The work of one state of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Which state; one of those for which [`State::is_agents`] holds.
    pub state: State,
    /// 1 for the first go at this state in this run.
    pub attempt: u32,
    /// The BLAKE3 of the image's manifest, which is fetched by this name.
    pub manifest: Hash,
    /// The BLAKE3 of the locked configuration bundle.
    pub bundle: Hash,
    /// How large the root partition becomes.
    pub part_size: PartSize,
    /// Which chunks `env_check` reads back.
    pub verify: Verify,
    /// Copy the chunks of the boot partition again before configuring it: an earlier attempt may have
    /// been cut off inside an edit of the FAT file system, which has no journal.
    pub recopy_boot: bool,
}

named! {
    /// Which chunks are read back.
    pub enum Verify as "verification" {
        /// What this boot of the agent wrote; everything if it cannot know.
        Written = "written",
        /// Every defined chunk.
        Full = "full",
    }
}

/// How large the root partition becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartSize {
    /// All of the card behind its start.
    Whole,
    /// This many bytes.
    Bytes(u64),
}

/// A text that is no partition size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a partition size: `whole`, or a number with M, G or T such as `8G`")]
pub struct PartSizeError(String);

const UNITS: [(char, u64); 3] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20)];

impl FromStr for PartSize {
    type Err = PartSizeError;
    fn from_str(text: &str) -> Result<Self, PartSizeError> {
        if text == "whole" {
            return Ok(PartSize::Whole);
        }
        let parsed = UNITS.iter().find_map(|(unit, factor)| {
            let number = text.strip_suffix(*unit)?;
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            number.parse::<u64>().ok().filter(|n| digits && *n > 0)?.checked_mul(*factor)
        });
        parsed.map(PartSize::Bytes).ok_or_else(|| PartSizeError(text.into()))
    }
}

impl fmt::Display for PartSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PartSize::Bytes(bytes) = *self else { return f.write_str("whole") };
        match UNITS.iter().find(|(_, factor)| bytes % factor == 0) {
            Some((unit, factor)) => write!(f, "{}{unit}", bytes / factor),
            None => write!(f, "{bytes} bytes"),
        }
    }
}

impl Serialize for PartSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PartSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_partition_size_is_whole_or_a_number_with_a_unit() {
        for (text, size) in [
            ("whole", PartSize::Whole),
            ("8G", PartSize::Bytes(8 << 30)),
            ("300M", PartSize::Bytes(300 << 20)),
        ] {
            assert_eq!(text.parse(), Ok(size));
            assert_eq!(size.to_string(), text);
        }
        for wrong in ["", "8", "G", "-1G", "0G", "8g", "8 G", "99999999999999999999T", "17000000T000T"] {
            assert!(wrong.parse::<PartSize>().is_err(), "{wrong}");
        }
    }
}

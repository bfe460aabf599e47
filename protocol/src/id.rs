//! Identifiers: who, which deployment, which attempt. Plain values with one text form each.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A Raspberry Pi's serial number: 64 bits, written as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(pub u64);

impl Serial {
    /// The last 8 hex digits, which is all that a Pi's firmware shows in its TFTP requests.
    pub fn short(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// A text that is not the identifier it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A serial number has exactly 16 hex digits.
    #[error(
        "`{0}` is not a serial number: 16 hex digits are expected, as in /proc/device-tree/serial-number"
    )]
    Serial(String),
    /// A hash has exactly 64 hex digits.
    #[error("`{0}` is not a hash: 64 hex digits are expected")]
    Hash(String),
}

fn hex_digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl FromStr for Serial {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let value = hex_digits(text, 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
        value.map(Serial).ok_or_else(|| IdError::Serial(text.into()))
    }
}

/// A BLAKE3 hash, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Hash(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if !hex_digits(text, 64) {
            return Err(IdError::Hash(text.into()));
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = core::str::from_utf8(digits).expect("hex digits are ASCII");
            *byte = u8::from_str_radix(digits, 16).expect("checked above to be hex digits");
        }
        Ok(Hash(bytes))
    }
}

/// Text in readable formats, the bare value in binary ones.
macro_rules! serde_as_text_or {
    ($type:ident, $raw:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    <$raw>::deserialize(deserializer).map($type)
                }
            }
        }
    };
}
serde_as_text_or!(Serial, u64);
serde_as_text_or!(Hash, [u8; 32]);

macro_rules! number {
    ($(#[$outer:meta])* $type:ident($raw:ty)) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub $raw);

        impl $type {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}
number! {
    /// A deployment. Numbers are never used twice.
    DeploymentId(u64)
}
number! {
    /// One go at a deployment from the beginning; *deploy again* starts the next.
    Run(u32)
}
number! {
    /// One thing asked of somebody within a deployment; grows with every command and power job.
    Seq(u32)
}
number! {
    /// One boot of a node's boot root; raised before every power-on that leads there.
    BootNumber(u32)
}

/// What an answer must show to count: whoever answers repeats it, and any other is a straggler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket {
    /// The deployment that asked.
    pub deployment: DeploymentId,
    /// Its run at that time.
    pub run: Run,
    /// The number of the request in it.
    pub seq: Seq,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.deployment, self.run, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_serial_has_sixteen_hex_digits_and_a_short_form() {
        let serial: Serial = "10000000deadbeef".parse().unwrap();
        assert_eq!(serial.to_string(), "10000000deadbeef");
        assert_eq!(serial.short(), 0xdead_beef);
        for wrong in ["", "deadbeef", "10000000deadbeeg", "+1000000deadbeef", "10000000deadbeef0"] {
            assert!(wrong.parse::<Serial>().unwrap_err().to_string().contains("16 hex digits"), "{wrong}");
        }
    }

    #[test]
    fn a_hash_reads_back_what_it_wrote() {
        let hash = Hash::of(b"chunk");
        assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
        assert!("00".parse::<Hash>().is_err());
    }
}

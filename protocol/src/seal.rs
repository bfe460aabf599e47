//! Seals: who sent a message, in which boot, and that it was not seen before. No secrecy, no clock.
//!
//! A sealed message is version (1 byte), boot number (4, little endian), counter (8, little endian),
//! body, and the first 16 bytes of a BLAKE3 keyed hash over topic, a zero byte and all before it.

use crate::id::{BootNumber, Serial};
use crate::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;
use serde::{Serialize, de::DeserializeOwned};

const HEADER_BYTES: usize = 1 + 4 + 8;
const MAC_BYTES: usize = 16;

/// How far behind the highest counter a message may come and still be the first of its number.
pub const WINDOW: u64 = 64;

/// The secret of a site, from which every credential of every boot follows.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteKey(pub [u8; 32]);

impl SiteKey {
    /// The token of one boot of one node; it stands on that boot's kernel command line.
    pub fn boot_token(&self, serial: Serial, boot: BootNumber) -> BootToken {
        let mut hasher = blake3::Hasher::new_derive_key("piseduce v1 boot token");
        hasher.update(&self.0).update(&serial.0.to_le_bytes()).update(&boot.0.to_le_bytes());
        BootToken(*hasher.finalize().as_bytes())
    }
}

/// The secret of one boot of one node.
#[derive(Clone, PartialEq, Eq)]
pub struct BootToken(pub [u8; 32]);

/// The keys that follow from one boot's token.
#[derive(Clone, PartialEq, Eq)]
pub struct BootKeys {
    /// Seals the messages in both directions.
    pub message: [u8; 32],
    /// Locks the configuration bundle.
    pub bundle: [u8; 32],
    /// Proves what the node uploads.
    pub upload: [u8; 32],
    /// The password of the node's MQTT session, in hex.
    pub mqtt_password: String,
}

impl BootToken {
    /// The keys that follow from this token.
    pub fn keys(&self) -> BootKeys {
        let derive = |context| blake3::derive_key(context, &self.0);
        BootKeys {
            message: derive("piseduce v1 message key"),
            bundle: derive("piseduce v1 bundle key"),
            upload: derive("piseduce v1 upload key"),
            mqtt_password: hex(&derive("piseduce v1 mqtt password")),
        }
    }

    /// The token as it stands on a kernel command line: 64 hex digits.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// The token that these 64 hex digits are.
    pub fn from_hex(text: &str) -> Option<Self> {
        text.parse::<crate::id::Hash>().ok().map(|hash| BootToken(hash.0))
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}

/// Why a message was not accepted. Such a message is counted and dropped, never acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It cannot be a sealed message.
    #[error("message of {0} bytes is too short or too long")]
    Length(usize),
    /// Another version of the protocol.
    #[error("message has protocol version {0}, not {PROTOCOL_VERSION}")]
    Version(u8),
    /// Another boot than the expected one.
    #[error("message is of boot {0}")]
    Boot(BootNumber),
    /// Not sealed with this boot's key for this topic.
    #[error("message authentication code is wrong")]
    Mac,
    /// Its counter was seen before, or is too old to tell.
    #[error("message {0} was seen before or is too old")]
    Counter(u64),
    /// The body is not what this version expects.
    #[error("message body cannot be read")]
    Body,
}

fn mac(key: &[u8; 32], topic: &str, message: &[u8]) -> [u8; MAC_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(topic.as_bytes()).update(&[0]).update(message);
    let mut mac = [0; MAC_BYTES];
    mac.copy_from_slice(&hasher.finalize().as_bytes()[..MAC_BYTES]);
    mac
}

/// Seals `body` for `topic`.
///
/// # Errors
/// [`SealError::Length`] when the message would be longer than [`MESSAGE_BYTES_MAX`].
pub fn seal<T: Serialize>(
    key: &[u8; 32],
    topic: &str,
    boot: BootNumber,
    counter: u64,
    body: &T,
) -> Result<Vec<u8>, SealError> {
    let mut message = Vec::with_capacity(256);
    message.push(PROTOCOL_VERSION);
    message.extend_from_slice(&boot.0.to_le_bytes());
    message.extend_from_slice(&counter.to_le_bytes());
    let mut message = postcard::to_extend(body, message).map_err(|_| SealError::Body)?;
    let mac = mac(key, topic, &message);
    message.extend_from_slice(&mac);
    match message.len() <= MESSAGE_BYTES_MAX {
        true => Ok(message),
        false => Err(SealError::Length(message.len())),
    }
}

/// The boot number that a sealed message claims, to choose the key to open it with.
///
/// # Errors
/// [`SealError::Length`] and [`SealError::Version`].
pub fn claimed_boot(message: &[u8]) -> Result<BootNumber, SealError> {
    if !(HEADER_BYTES + MAC_BYTES..=MESSAGE_BYTES_MAX).contains(&message.len()) {
        return Err(SealError::Length(message.len()));
    }
    match message[0] {
        PROTOCOL_VERSION => {
            Ok(BootNumber(u32::from_le_bytes([message[1], message[2], message[3], message[4]])))
        }
        other => Err(SealError::Version(other)),
    }
}

/// Opens a message of `boot` on `topic` and marks its counter as seen in `window`.
///
/// # Errors
/// Every [`SealError`]; the window changes only when the seal is right.
pub fn open<T: DeserializeOwned>(
    key: &[u8; 32],
    topic: &str,
    boot: BootNumber,
    window: &mut Window,
    message: &[u8],
) -> Result<(u64, T), SealError> {
    let claimed = claimed_boot(message)?;
    if claimed != boot {
        return Err(SealError::Boot(claimed));
    }
    let (sealed, found) = message.split_at(message.len() - MAC_BYTES);
    let expected = mac(key, topic, sealed);
    // Every byte is looked at, so that the time taken says nothing about where they differ.
    if expected.iter().zip(found).fold(0, |differ, (a, b)| differ | (a ^ b)) != 0 {
        return Err(SealError::Mac);
    }
    let (header, body) = sealed.split_at(HEADER_BYTES);
    let counter =
        u64::from_le_bytes(header[5..].try_into().expect("the header ends with 8 bytes of counter"));
    if !window.admit(counter) {
        return Err(SealError::Counter(counter));
    }
    postcard::from_bytes(body).map(|body| (counter, body)).map_err(|_| SealError::Body)
}

/// Which counters of one topic and boot were seen: the highest, and the [`WINDOW`] below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    highest: Option<u64>,
    /// Bit n stands for `highest - n`.
    seen: u64,
}

impl Window {
    /// Whether `counter` is seen for the first time; marks it.
    pub fn admit(&mut self, counter: u64) -> bool {
        let Some(highest) = self.highest else {
            *self = Window { highest: Some(counter), seen: 1 };
            return true;
        };
        if counter > highest {
            let ahead = counter - highest;
            self.seen = if ahead < WINDOW { self.seen << ahead } else { 0 } | 1;
            self.highest = Some(counter);
            return true;
        }
        let behind = highest - counter;
        let fresh = behind < WINDOW && self.seen & (1 << behind) == 0;
        if fresh {
            self.seen |= 1 << behind;
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const BOOT: BootNumber = BootNumber(3);

    fn sealed(counter: u64) -> Vec<u8> {
        seal(&KEY, "a/topic", BOOT, counter, &42u32).unwrap()
    }

    fn open_it(topic: &str, boot: BootNumber, message: &[u8]) -> Result<(u64, u32), SealError> {
        open(&KEY, topic, boot, &mut Window::default(), message)
    }

    #[test]
    fn a_sealed_message_opens_on_its_topic_and_in_its_boot_only() {
        let message = sealed(9);
        assert_eq!(open_it("a/topic", BOOT, &message), Ok((9, 42)));
        assert_eq!(open_it("b/topic", BOOT, &message), Err(SealError::Mac));
        assert_eq!(open_it("a/topic", BOOT.next(), &message), Err(SealError::Boot(BOOT)));
    }

    #[test]
    fn a_flip_of_any_bit_is_noticed() {
        let message = sealed(9);
        for bit in 0..message.len() * 8 {
            let mut changed = message.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open_it("a/topic", BOOT, &changed).is_err(), "bit {bit}");
        }
        for length in 0..message.len() {
            assert!(open_it("a/topic", BOOT, &message[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_counter_counts_once_and_only_near_the_highest() {
        let mut window = Window::default();
        assert!(window.admit(100));
        assert!(!window.admit(100));
        assert!(window.admit(98) && !window.admit(98));
        assert!(window.admit(101) && !window.admit(98) && window.admit(99));
        assert!(window.admit(38) && !window.admit(37), "64 numbers are remembered");
        assert!(window.admit(u64::MAX) && !window.admit(101));
    }

    #[test]
    fn a_forged_message_does_not_use_up_a_counter() {
        let mut window = Window::default();
        let mut forged = sealed(9);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(open::<u32>(&KEY, "a/topic", BOOT, &mut window, &forged), Err(SealError::Mac));
        assert_eq!(open::<u32>(&KEY, "a/topic", BOOT, &mut window, &sealed(9)), Ok((9, 42)));
    }

    #[test]
    fn tokens_and_keys_differ_by_node_boot_and_purpose() {
        let site = SiteKey([1; 32]);
        let token = site.boot_token(Serial(1), BOOT);
        assert!(
            token != site.boot_token(Serial(2), BOOT) && token != site.boot_token(Serial(1), BOOT.next())
        );
        let keys = token.keys();
        assert_ne!(keys.message, keys.bundle);
        assert!(BootToken::from_hex(&token.to_hex()) == Some(token));
    }
}

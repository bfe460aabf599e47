//! What makes a written image one user's node: names, keys, script. Readable by one boot of one node.
//!
//! A bundle travels locked (ChaCha20-Poly1305 under the boot's bundle key) over plain HTTP; the sealed
//! command names the hash of the locked bytes, so that nobody on the way can read or swap it.

use crate::id::Hash;
use alloc::string::String;
use alloc::vec::Vec;
use chacha20poly1305::aead::Aead;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};
use serde::{Deserialize, Serialize};

const NONCE_BYTES: usize = 12;

/// The configuration of one run of one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The node's host name.
    pub host_name: String,
    /// The user's password as `crypt(3)` writes it; without one the password is locked.
    pub password_hash: Option<String>,
    /// Lines of `authorized_keys`.
    pub authorized_keys: Vec<String>,
    /// The SSH host keys of the run; all others are removed from the image.
    pub host_keys: Vec<HostKey>,
    /// The user's script.
    pub script: Option<Vec<u8>>,
    /// Whether the script may run again after a cut inside it.
    pub rerun_script: bool,
    /// How long the script may take, in seconds.
    pub script_seconds: u32,
    /// Where the first boot reports to: the URL without the last level.
    pub first_boot_url: String,
    /// What proves that a report about the script comes from this run; removed from the card with the script.
    pub first_boot_token: String,
    /// What proves that a report of a boot comes from this run's card; stays there.
    pub booted_token: String,
}

/// An SSH host key in OpenSSH's own formats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostKey {
    /// The algorithm as file names have it, such as `ed25519`.
    pub algorithm: String,
    /// The private key file's text.
    pub private: String,
    /// The public key file's line.
    pub public: String,
}

/// Why locked bytes are not a bundle of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not locked under this key, or changed on the way.
    #[error("configuration bundle was not locked for this boot or was changed on the way")]
    Locked,
    /// Unlocked, but not a bundle of this version.
    #[error("configuration bundle cannot be decoded")]
    Encoding,
}

impl Bundle {
    /// The bundle locked under `key`. The same bundle and key give the same bytes: the nonce is a keyed
    /// hash of the content, so it repeats only where all repeats.
    pub fn lock(&self, key: &[u8; 32]) -> Vec<u8> {
        let plain = postcard::to_allocvec(self).expect("growing a vector cannot fail");
        let nonce_key = blake3::derive_key("piseduce v1 bundle nonce", key);
        let mut locked = blake3::keyed_hash(&nonce_key, &plain).as_bytes()[..NONCE_BYTES].to_vec();
        let cipher = ChaCha20Poly1305::new(Key::from_slice(key));
        let sealed = cipher.encrypt(Nonce::from_slice(&locked), plain.as_slice());
        locked
            .extend_from_slice(&sealed.expect("a bundle is far shorter than the cipher's limit of 256 GiB"));
        locked
    }

    /// The bundle in bytes that were locked under `key`.
    ///
    /// # Errors
    /// Every [`BundleError`].
    pub fn unlock(key: &[u8; 32], locked: &[u8]) -> Result<Self, BundleError> {
        let (nonce, sealed) = locked.split_at_checked(NONCE_BYTES).ok_or(BundleError::Locked)?;
        let cipher = ChaCha20Poly1305::new(Key::from_slice(key));
        let plain = cipher.decrypt(Nonce::from_slice(nonce), sealed).map_err(|_| BundleError::Locked)?;
        postcard::from_bytes(&plain).map_err(|_| BundleError::Encoding)
    }

    /// The name of locked bytes in a command.
    pub fn name_of(locked: &[u8]) -> Hash {
        Hash::of(locked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn bundle() -> Bundle {
        Bundle {
            host_name: "pi-1".into(),
            password_hash: None,
            authorized_keys: vec!["ssh-ed25519 AAAA user".into()],
            host_keys: vec![],
            script: Some(b"echo hello".to_vec()),
            rerun_script: false,
            script_seconds: 60,
            first_boot_url: "http://10.0.0.1:8070/first-boot/v1/1/1".into(),
            first_boot_token: "token".into(),
            booted_token: "boots".into(),
        }
    }

    #[test]
    fn only_the_boot_it_is_for_can_unlock_a_bundle() {
        let locked = bundle().lock(&[1; 32]);
        assert_eq!(Bundle::unlock(&[1; 32], &locked), Ok(bundle()));
        assert_eq!(Bundle::unlock(&[2; 32], &locked), Err(BundleError::Locked));
        assert!(!locked.windows(10).any(|bytes| bytes == b"echo hello"), "the script is readable");
        for byte in 0..locked.len() {
            let mut changed = locked.clone();
            changed[byte] ^= 1;
            assert_eq!(Bundle::unlock(&[1; 32], &changed), Err(BundleError::Locked), "byte {byte}");
        }
        assert_eq!(Bundle::unlock(&[1; 32], b"short"), Err(BundleError::Locked));
    }

    #[test]
    fn locking_twice_gives_the_same_bytes_and_another_bundle_another_nonce() {
        let mut other = bundle();
        other.host_name = "pi-2".into();
        let (locked, other) = (bundle().lock(&[1; 32]), other.lock(&[1; 32]));
        assert_eq!(locked, bundle().lock(&[1; 32]));
        assert_ne!(locked[..NONCE_BYTES], other[..NONCE_BYTES]);
    }
}

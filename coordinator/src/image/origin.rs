//! Where an image comes from, as the operator names it: a file on the head node or an http address; and the
//! checksum that its publisher gives for it. Knows nothing of what is in it; next: `source.rs`, `fetch.rs`.

use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file or block device.
    File(PathBuf),
    /// What is served at an address. Only plain HTTP can be fetched.
    Address(String),
}

impl FromStr for Origin {
    type Err = Infallible;

    /// An address begins with a scheme and `://`; everything else is a path.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let is_scheme =
            |scheme: &str| !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
        Ok(match scheme.is_some_and(is_scheme) {
            true => Origin::Address(text.to_owned()),
            false => Origin::File(text.into()),
        })
    }
}

impl From<&Path> for Origin {
    fn from(path: &Path) -> Self {
        Origin::File(path.to_owned())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => path.display().fmt(f),
            Origin::Address(address) => address.fmt(f),
        }
    }
}

/// The SHA-256 of a file as it is given, before anything is unpacked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Checksum([u8; 32]);

/// Why a text is no [`Checksum`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no SHA-256 checksum: it must be 64 hex digits, as sha256sum prints them")]
pub struct ChecksumError(String);

impl FromStr for Checksum {
    type Err = ChecksumError;

    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        let wrong = || ChecksumError(text.to_owned());
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        if digits.len() != 64 || text.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Checksum(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Adds up a [`Checksum`].
#[derive(Clone, Debug, Default)]
pub(super) struct Summing(Sha256);

impl Summing {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Checksum {
        Checksum(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_everything_else_is_a_path() {
        let is_address = |text: &str| matches!(text.parse(), Ok(Origin::Address(_)));
        assert!(is_address("http://server/os.img.xz") && is_address("https://server/os.img.xz"));
        assert!(is_address("ftp://server/os.img"));
        assert!(!is_address("/srv/os.img") && !is_address("os.img") && !is_address("://os.img"));
        assert!(!is_address("./odd://os.img"));
    }

    #[test]
    fn a_checksum_is_what_sha256sum_prints() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let mut sum = Summing::default();
        sum.add(b"a");
        sum.add(b"bc");
        assert_eq!(sum.finish().to_string(), abc);
        assert_eq!(abc.to_uppercase().parse::<Checksum>().unwrap().to_string(), abc);
        for wrong in ["", "ba78", &abc[1..], &format!("{abc}0"), &abc.replace('b', "g"), &"é".repeat(32)] {
            assert!(wrong.parse::<Checksum>().is_err(), "{wrong}");
        }
    }
}

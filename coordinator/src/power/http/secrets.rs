//! The secrets of a switch: read from their file for each request, so that a changed password needs no restart, and
//! taken out of every text that leaves the driver. Nothing here can be printed.

use crate::power::PowerError;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What stands for a secret in texts for people.
const HIDDEN: &str = "***";

/// Secrets by name, and what else of a session nobody may see.
#[derive(Default)]
pub(super) struct Secrets {
    by_name: BTreeMap<String, String>,
}

impl Secrets {
    /// Reads the file.
    ///
    /// # Errors
    /// [`PowerError::Refused`] when it is missing, open to others, or no list of names and values.
    pub(super) fn read(file: &Path) -> Result<Self, PowerError> {
        let wrong = |why: String| PowerError::Refused(format!("secrets file {}: {why}", file.display()));
        let mode = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.mode();
        if mode & 0o077 != 0 {
            return Err(wrong(format!("others may read it (mode {:o}): chmod 600", mode & 0o777)));
        }
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        // What TOML says of an error quotes the line, and with it the secret.
        let by_name = toml::from_str(&text).map_err(|_| wrong("it is no list of NAME = \"value\"".into()))?;
        Ok(Secrets { by_name })
    }

    /// The secret of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }

    /// `text` without any secret, nor any of `more`, in the forms in which they are sent.
    pub(super) fn hide<'a>(&'a self, text: &str, more: impl Iterator<Item = &'a str>) -> String {
        let values = self.by_name.values().map(String::as_str).chain(more).filter(|value| !value.is_empty());
        let mut forms: Vec<String> =
            values.flat_map(|value| [value.to_owned(), in_url(value), in_json(value)]).collect();
        // The longest first: a secret within another one would leave the rest of it.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.iter().fold(text.to_owned(), |text, form| text.replace(form, HIDDEN))
    }
}

/// Percent-encoded for any part of a URL and for forms (RFC 3986, 2.3).
pub(super) fn in_url(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Escaped for the inside of a JSON string.
pub(super) fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

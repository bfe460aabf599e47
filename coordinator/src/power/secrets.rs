//! Files of secrets: what drivers prove themselves by. Nothing in a settings file, a store or an answer holds a
//! secret, only the path of such a file, which nobody but its owner may read.

use super::PowerError;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What stands for a secret in texts for people.
const HIDDEN: &str = "***";

/// Names and values; no Debug, so that no log shows them.
#[derive(Default)]
pub(super) struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// Reads `file`: TOML lines such as `community = "…"`.
    ///
    /// # Errors
    /// [`PowerError::Refused`] without any of its content.
    pub(super) fn read(file: &Path) -> Result<Self, PowerError> {
        let at = file.display();
        let refused = |why: String| PowerError::Refused(why);
        let metadata = fs::metadata(file)
            .map_err(|error| refused(format!("the secrets file {at} cannot be read: {error}")))?;
        // A pipe would be waited for, for ever.
        if !metadata.is_file() {
            return Err(refused(format!("the secrets file {at} is no file")));
        }
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(refused(format!(
                "the secrets file {at} has mode {mode:o}: `chmod 600 {at}` lets only its owner read it"
            )));
        }
        let text = fs::read_to_string(file)
            .map_err(|error| refused(format!("the secrets file {at} cannot be read: {error}")))?;
        let allowed = "lines such as `community = \"…\"`";
        // The parser's own words would show the line.
        toml::from_str(&text)
            .map(Secrets)
            .map_err(|_| refused(format!("the secrets file {at} is not what it should be: {allowed}")))
    }

    /// The secret of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The secret of this name, which `file` must have.
    ///
    /// # Errors
    /// [`PowerError::Refused`] naming file and secret.
    pub(super) fn need(&self, name: &str, file: &Path) -> Result<&str, PowerError> {
        let missing = || PowerError::Refused(format!("the secrets file {} has no `{name}`", file.display()));
        self.get(name).ok_or_else(missing)
    }

    /// `text` without any secret, nor any of `more`, in the forms in which they are sent.
    pub(super) fn hide<'a>(&'a self, text: &str, more: impl Iterator<Item = &'a str>) -> String {
        let values = self.0.values().map(String::as_str).chain(more).filter(|value| !value.is_empty());
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_of_secrets_is_read_only_when_nobody_else_can_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("poe-1.toml");
        let error = |text: &str, mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            Secrets::read(&file).err().map(|error| error.to_string())
        };
        assert_eq!(error("community = \"s3cret\"\n", 0o600), None);
        assert!(error("community = \"s3cret\"\n", 0o640).unwrap().contains("chmod 600"));
        let broken = error("community = s3cret\n", 0o600).unwrap();
        assert!(!broken.contains("s3cret") && broken.contains("poe-1.toml"), "{broken}");
        fs::remove_file(&file).unwrap();
        assert!(Secrets::read(&file).err().unwrap().to_string().contains("poe-1.toml"));
    }
}

//! SSH in an environment: names of host key files, and the text of `authorized_keys`.

/// Whether a file in `/etc/ssh` belongs to a host key.
pub fn is_host_key(name: &str) -> bool {
    name.starts_with("ssh_host_")
}

/// The name of a host key's private file in `/etc/ssh`; the public one ends with `.pub`. None for an
/// algorithm that is no part of a file name.
pub fn host_key_name(algorithm: &str) -> Option<String> {
    let fits = !algorithm.is_empty() && algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    fits.then(|| format!("ssh_host_{algorithm}_key"))
}

/// A text with exactly one newline at its end, as private key files must have.
pub fn with_newline(text: &str) -> String {
    format!("{}\n", text.trim_end_matches(['\r', '\n']))
}

/// The text of `authorized_keys`: one key a line.
pub fn authorized_keys(keys: &[String]) -> String {
    let lines = keys.iter().flat_map(|key| key.lines()).map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_keys_are_named_as_sshd_looks_for_them() {
        assert_eq!(host_key_name("ed25519").as_deref(), Some("ssh_host_ed25519_key"));
        assert!(host_key_name("../x").is_none() && host_key_name("").is_none());
        assert!(is_host_key("ssh_host_rsa_key.pub") && !is_host_key("sshd_config"));
    }

    #[test]
    fn keys_stand_one_a_line() {
        let keys = ["ssh-ed25519 A a\n".to_owned(), "ssh-rsa B b\r\nssh-rsa C c".to_owned(), String::new()];
        assert_eq!(authorized_keys(&keys), "ssh-ed25519 A a\nssh-rsa B b\nssh-rsa C c\n");
        assert_eq!(with_newline("key\n\n"), "key\n");
    }
}

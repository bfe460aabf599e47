//! A node's host name: `/etc/hostname` and the line of `/etc/hosts` that goes with it.

/// The address that Debian gives to the host's own name, see debian-reference, "The hostname resolution".
const OWN_ADDRESS: &str = "127.0.1.1";

/// Whether `name` can be a host name: 1 to 63 letters, digits and inner hyphens (RFC 1123).
pub fn is_valid(name: &str) -> bool {
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (1..=63).contains(&name.len()) && fits && !name.starts_with('-') && !name.ends_with('-')
}

/// `/etc/hosts` with the host's own name behind 127.0.1.1, in place of what stood there.
pub fn hosts(old: &str, name: &str) -> String {
    let own = format!("{OWN_ADDRESS}\t{name}\n");
    let is_own = |line: &str| line.split_whitespace().next() == Some(OWN_ADDRESS);
    let mut lines: Vec<String> = Vec::new();
    let mut place = None;
    for line in old.lines() {
        if is_own(line) {
            place.get_or_insert(lines.len());
        } else {
            lines.push(format!("{line}\n"));
            if place.is_none() && line.split_whitespace().next() == Some("127.0.0.1") {
                place = Some(lines.len());
            }
        }
    }
    lines.insert(place.unwrap_or(lines.len()), own);
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_line_replaces_the_old_one_or_follows_localhost_or_comes_last() {
        let check = |old: &str, new: &str| {
            assert_eq!(hosts(old, "pi-1"), new);
            assert_eq!(hosts(new, "pi-1"), new, "a second time changes nothing");
        };
        check(
            "127.0.0.1 localhost\n127.0.1.1\traspberrypi\n::1 localhost\n",
            "127.0.0.1 localhost\n127.0.1.1\tpi-1\n::1 localhost\n",
        );
        check(
            "127.0.0.1\tlocalhost\n::1 localhost",
            "127.0.0.1\tlocalhost\n127.0.1.1\tpi-1\n::1 localhost\n",
        );
        check("", "127.0.1.1\tpi-1\n");
        check("127.0.1.1 a\n127.0.1.1 b\n# 127.0.1.1 c\n", "127.0.1.1\tpi-1\n# 127.0.1.1 c\n");
    }

    #[test]
    fn a_host_name_has_letters_digits_and_inner_hyphens() {
        assert!(is_valid("pi-1") && is_valid("A"));
        for wrong in ["", "-a", "a-", "a b", "a\nb", "a.b", "ä", &"x".repeat(64)] {
            assert!(!is_valid(wrong), "{wrong:?}");
        }
    }
}

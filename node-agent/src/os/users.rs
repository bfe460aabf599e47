//! The user of an environment: who that is by `/etc/passwd`, and the password in `/etc/shadow`.

/// The image's own user has this id, whatever the name: `pi`, `ubuntu`, …
const USER_ID: u32 = 1000;

/// What a locked password looks like in `/etc/shadow`.
const LOCKED: &str = "!";

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The user's id.
    pub id: u32,
    /// The id of the user's own group.
    pub group: u32,
    /// The home directory.
    pub home: String,
}

/// The image's own user in `/etc/passwd`.
pub fn own_user(passwd: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
        let (group, _, home) = (fields.next()?.parse().ok()?, fields.next()?, fields.next()?);
        let usable = id == USER_ID && !name.is_empty() && home.starts_with('/') && home != "/";
        usable.then(|| User { name: name.into(), id, group, home: home.trim_end_matches('/').into() })
    })
}

/// `/etc/shadow` with the password of `user` set to `hash` (locked without one) as of `day`, counted from
/// 1970; a change of password that the image would force at the first login is forced no longer. None
/// when the user has no line.
pub fn set_password(shadow: &str, user: &str, hash: Option<&str>, day: u64) -> Option<String> {
    let mut found = false;
    let set = |line: &str| {
        let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        if fields[0] == user && fields.len() >= 3 {
            found = true;
            fields[1] = hash.unwrap_or(LOCKED).into();
            // Day 0 means "must be changed at the next login", see shadow(5).
            fields[2] = day.max(1).to_string();
        }
        fields.join(":") + "\n"
    };
    let new: String = shadow.lines().map(set).collect();
    found.then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_user_is_the_one_with_id_1000() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\nu:x:1000:1001:,,,:/home/u/:/bin/sh\n";
        let user = User { name: "u".into(), id: 1000, group: 1001, home: "/home/u".into() };
        assert_eq!(own_user(passwd), Some(user));
        for none in ["", "root:x:0:0::/root:", "u:x:1000:1000::/:/bin/sh", "u:x:1000:1000"] {
            assert_eq!(own_user(none), None, "{none}");
        }
    }

    #[test]
    fn only_the_users_password_and_day_change() {
        let shadow = "root:*:19000:0:99999:7:::\nubuntu:$6$old:0:0:99999:7:::\nubuntu2:x:1::::::\n";
        let expected = "root:*:19000:0:99999:7:::\nubuntu:$y$new:20780:0:99999:7:::\nubuntu2:x:1::::::\n";
        assert_eq!(set_password(shadow, "ubuntu", Some("$y$new"), 20_780).as_deref(), Some(expected));
        let locked = set_password(shadow, "ubuntu", None, 0).unwrap();
        assert!(locked.contains("\nubuntu:!:1:0:"), "{locked}");
        assert_eq!(set_password(shadow, "pi", None, 1), None);
    }
}

//! Which family a system belongs to, which decides how it is configured, and why.
//!
//! One table of families; what fits none is [`OPAQUE`]: written and booted, not configured. Sees a root file
//! system through [`Tree`] only. The rules ask for what configuration and first boot need, not for names of
//! distributions: a directory for units, a user to give keys to, a shell, a program that can report.

use super::volume::VolumeError;

/// The family of systems that are not configured.
pub(super) const OPAQUE: &str = "opaque";

/// The most that is read of a text file.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// The most that is shown of a word from the image.
const WORD_CHARS_MAX: usize = 40;
/// The user that configuration gives keys and a password to.
const USER_ID: u32 = 1000;

/// The files of a root file system.
pub(super) trait Tree {
    /// What `path` leads to, links followed within the tree; none when it leads nowhere.
    fn kind(&self, path: &str) -> Result<Option<Kind>, VolumeError>;

    /// The first `bytes_max` bytes of the file that `path` leads to, if it is one.
    fn read(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, VolumeError>;
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
}

/// What a system was recognised as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recognised {
    /// The family's name.
    pub(super) family: &'static str,
    /// Why, in one sentence for the user.
    pub(super) evidence: String,
}

impl Recognised {
    /// A system that is not configured, and why.
    pub(super) fn opaque(why: &str) -> Self {
        Recognised { family: OPAQUE, evidence: format!("{OPAQUE}: {why}") }
    }

    /// The same, with one more reason if there is one.
    pub(super) fn because(mut self, why: Option<&str>) -> Self {
        self.evidence.extend(why.iter().flat_map(|why| ["; ", why]));
        self
    }
}

/// A family: which distributions belong to it, and what else must be there.
struct Family {
    name: &'static str,
    /// Values of `ID` or `ID_LIKE` in os-release.
    ids: &'static [&'static str],
    /// Whether it can be configured.
    rule: fn(&dyn Tree) -> Result<Verdict, VolumeError>,
}

/// Whether a system has what its configuration needs.
enum Verdict {
    /// It has; what was found.
    Has(String),
    /// It has not; what is missing.
    Lacks(String),
}

const FAMILIES: &[Family] =
    &[Family { name: "debian", ids: &["debian", "raspbian", "ubuntu"], rule: configurable_by_systemd }];

/// The family of the system in `tree`; none when there is no system in it, because it has no os-release.
pub(super) fn recognise(tree: &dyn Tree) -> Result<Option<Recognised>, VolumeError> {
    let Some(release) = Release::read(tree)? else { return Ok(None) };
    let Some(family) = FAMILIES.iter().find(|family| release.is_one_of(family.ids)) else {
        let why = format!("os-release says {}, which is no family that can be configured", release.name());
        return Ok(Some(Recognised::opaque(&why)));
    };
    let recognised = match (family.rule)(tree)? {
        Verdict::Has(found) => {
            let evidence = format!("{}: os-release, {found}", release.name());
            Recognised { family: family.name, evidence }
        }
        Verdict::Lacks(missing) => Recognised::opaque(&missing),
    };
    Ok(Some(recognised))
}

/// Systems whose first boot is arranged by systemd units, a shell script and a user's home.
fn configurable_by_systemd(tree: &dyn Tree) -> Result<Verdict, VolumeError> {
    const SYSTEMD: [(&str, Kind); 3] = [
        ("/usr/lib/systemd/systemd", Kind::File),
        ("/lib/systemd/systemd", Kind::File),
        ("/etc/systemd/system", Kind::Directory),
    ];
    /// In the order in which first boot tries them.
    const REPORTERS: [&str; 6] = ["curl", "wget", "busybox", "python3", "perl", "bash"];

    if !any(tree, SYSTEMD)? {
        return Ok(Verdict::Lacks("there is no systemd".into()));
    }
    let Some(user) = user(tree)? else {
        return Ok(Verdict::Lacks(format!("/etc/passwd has no user with uid {USER_ID} and a home")));
    };
    if tree.kind("/bin/sh")? != Some(Kind::File) {
        return Ok(Verdict::Lacks("there is no shell at /bin/sh".into()));
    }
    for reporter in REPORTERS {
        let paths = [format!("/usr/bin/{reporter}"), format!("/bin/{reporter}")];
        if any(tree, paths.iter().map(|path| (path.as_str(), Kind::File)))? {
            let found = format!("systemd, user {user} (uid {USER_ID}), reports by {reporter}");
            return Ok(Verdict::Has(found));
        }
    }
    let programs = REPORTERS.join(", ");
    Ok(Verdict::Lacks(format!("none of {programs} is there to report the first boot with")))
}

fn any<'a>(tree: &dyn Tree, paths: impl IntoIterator<Item = (&'a str, Kind)>) -> Result<bool, VolumeError> {
    for (path, kind) in paths {
        if tree.kind(path)? == Some(kind) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The name of the user with [`USER_ID`], if it has a home.
fn user(tree: &dyn Tree) -> Result<Option<String>, VolumeError> {
    let Some(text) = text(tree, "/etc/passwd")? else { return Ok(None) };
    let user = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, id, _, _, home, ..] = fields[..] else { return None };
        (id.parse() == Ok(USER_ID) && home.starts_with('/') && home != "/").then(|| word(name))
    });
    Ok(user)
}

/// The lines of an os-release file that matter.
#[derive(Debug, Default)]
struct Release {
    id: String,
    id_like: String,
    version: String,
}

impl Release {
    fn read(tree: &dyn Tree) -> Result<Option<Self>, VolumeError> {
        // os-release(5): the second only when the first does not exist.
        for path in ["/etc/os-release", "/usr/lib/os-release"] {
            if let Some(text) = text(tree, path)? {
                return Ok(Some(Release::parse(&text)));
            }
        }
        Ok(None)
    }

    fn parse(text: &str) -> Self {
        let mut release = Release::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim().trim_matches(['"', '\'']).to_owned();
            match key.trim() {
                "ID" => release.id = value,
                "ID_LIKE" => release.id_like = value,
                "VERSION_ID" => release.version = value,
                _ => {}
            }
        }
        release
    }

    fn is_one_of(&self, ids: &[&str]) -> bool {
        ids.contains(&self.id.as_str()) || self.id_like.split_whitespace().any(|id| ids.contains(&id))
    }

    /// The distribution and its version, as in `debian 12`.
    fn name(&self) -> String {
        let id = if self.id.is_empty() { "nothing" } else { &self.id };
        format!("{} {}", word(id), word(&self.version)).trim_end().to_owned()
    }
}

/// The text file at `path`.
pub(super) fn text(tree: &dyn Tree, path: &str) -> Result<Option<String>, VolumeError> {
    let bytes = tree.read(path, TEXT_BYTES_MAX)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// A word from the image, fit to be shown.
fn word(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(WORD_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    struct Fake(HashMap<&'static str, &'static str>);

    impl Tree for Fake {
        fn kind(&self, path: &str) -> Result<Option<Kind>, VolumeError> {
            let directory = || self.0.keys().any(|file| file.starts_with(&format!("{path}/")));
            Ok(match self.0.contains_key(path) {
                true => Some(Kind::File),
                false => directory().then_some(Kind::Directory),
            })
        }

        fn read(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, VolumeError> {
            Ok(self.0.get(path).map(|text| text.as_bytes()[..text.len().min(bytes_max)].to_vec()))
        }
    }

    fn raspberry_pi_os() -> Fake {
        Fake(HashMap::from([
            ("/etc/os-release", "PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n"),
            ("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\npi:x:1000:1000:,,,:/home/pi:/bin/bash\n"),
            ("/usr/lib/systemd/systemd", ""),
            ("/bin/sh", ""),
            ("/usr/bin/curl", ""),
            ("/usr/bin/perl", ""),
        ]))
    }

    /// Checks what Raspberry Pi OS is recognised as after `changes`: files with new contents, or without any.
    #[track_caller]
    fn check(changes: &[(&'static str, Option<&'static str>)], family: &str, evidence: &str) {
        let mut tree = raspberry_pi_os();
        for (path, contents) in changes {
            match contents {
                Some(contents) => tree.0.insert(path, contents),
                None => tree.0.remove(path),
            };
        }
        let recognised = recognise(&tree).unwrap().unwrap();
        assert_eq!((recognised.family, recognised.evidence.as_str()), (family, evidence));
    }

    #[test]
    fn a_raspberry_pi_os_can_be_configured() {
        check(&[], "debian", "debian 12: os-release, systemd, user pi (uid 1000), reports by curl");
    }

    #[test]
    fn what_counts_is_what_configuration_needs() {
        let only_units = [
            ("/usr/lib/systemd/systemd", None),
            ("/etc/systemd/system/first.service", Some("")),
            ("/usr/bin/curl", None),
        ];
        check(&only_units, "debian", "debian 12: os-release, systemd, user pi (uid 1000), reports by perl");
        let derived = [("/etc/os-release", Some("ID=linuxmint\nID_LIKE='ubuntu debian'"))];
        check(&derived, "debian", "linuxmint: os-release, systemd, user pi (uid 1000), reports by curl");
    }

    #[test]
    fn what_is_missing_is_named() {
        let no_user = "opaque: /etc/passwd has no user with uid 1000 and a home";
        check(&[("/usr/lib/systemd/systemd", None)], OPAQUE, "opaque: there is no systemd");
        check(&[("/bin/sh", None)], OPAQUE, "opaque: there is no shell at /bin/sh");
        check(&[("/etc/passwd", None)], OPAQUE, no_user);
        check(&[("/etc/passwd", Some("a:x:1000:\nb:x:1000:1:::\n"))], OPAQUE, no_user);
        check(
            &[("/usr/bin/curl", None), ("/usr/bin/perl", None)],
            OPAQUE,
            "opaque: none of curl, wget, busybox, python3, perl, bash is there to report the first boot with",
        );
        check(
            &[("/etc/os-release", Some("ID=alp\x1bine\nVERSION_ID=3"))],
            OPAQUE,
            "opaque: os-release says alpine 3, which is no family that can be configured",
        );
    }

    #[test]
    fn a_tree_without_os_release_holds_no_system() {
        assert_eq!(recognise(&Fake(HashMap::new())).unwrap(), None);
    }
}

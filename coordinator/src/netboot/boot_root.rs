//! Boot roots: the kernel, the system in memory and the firmware's files that nodes fetch in order to be worked on. Each
//! version is a directory that is never changed once it is there; one of them is current. They are read here, and built
//! elsewhere.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What describes a version, in its directory.
const DESCRIPTION: &str = "boot-root.json";
/// What nodes fetch, in its directory.
const FILES: &str = "files";
/// The link that names the current version.
const CURRENT: &str = "current";

/// What a version is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The format of this description; 1.
    pub schema: u32,
    /// Its name, which is also the name of its directory.
    pub version: String,
    /// How it gets its root: `ram`.
    pub kind: String,
    /// The words of the kernel command line that all nodes have; the coordinator adds those of the node and its boot.
    pub command_line: String,
    /// The packages that it was made from, with their versions.
    pub packages: BTreeMap<String, String>,
    /// The BLAKE3 hash of the agent in it, 64 hex digits.
    pub agent: String,
    /// What a firmware may fetch, by its path below the node's prefix, such as `start4.elf` or `overlays/x.dtbo`.
    pub files: BTreeMap<String, Content>,
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its BLAKE3 hash, 64 hex digits.
    pub blake3: String,
}

/// A version that is there.
#[derive(Clone, Debug)]
pub struct BootRoot {
    /// What it is made of.
    pub description: Description,
    directory: PathBuf,
}

impl BootRoot {
    /// Where the file is that nodes know as `name`, if they may fetch it.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        self.description.files.contains_key(name).then(|| self.directory.join(FILES).join(name))
    }
}

/// All versions of a coordinator.
#[derive(Clone, Debug)]
pub struct BootRoots {
    directory: PathBuf,
}

/// What is wrong with boot roots.
#[derive(Debug, thiserror::Error)]
pub enum BootRootError {
    /// A file or directory cannot be used.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// At what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The description cannot be understood.
    #[error("{path} does not describe a boot root: {why}")]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is no such version.
    #[error("there is no boot root `{version}`; there are {}", list(known))]
    Unknown {
        /// What was asked for.
        version: String,
        /// What there is.
        known: Vec<String>,
    },
}

fn list(known: &[String]) -> String {
    match known {
        [] => "none: `piseduce boot-root build` makes one".into(),
        known => known.join(", "),
    }
}

impl BootRoots {
    /// The boot roots in `directory`, which need not exist yet.
    pub fn at(directory: PathBuf) -> Self {
        BootRoots { directory }
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The names of all versions, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn versions(&self) -> Result<Vec<String>, BootRootError> {
        let io = |source| BootRootError::Io { action: "read", path: self.directory.clone(), source };
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(error)),
        };
        let mut versions = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io)?;
            if entry.path().join(DESCRIPTION).is_file() && entry.file_name() != CURRENT {
                versions.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        versions.sort();
        Ok(versions)
    }

    /// The version of this name.
    ///
    /// # Errors
    /// When there is none, or its description cannot be read.
    pub fn read(&self, version: &str) -> Result<BootRoot, BootRootError> {
        let versions = self.versions()?;
        if !versions.iter().any(|known| known == version) {
            return Err(BootRootError::Unknown { version: version.into(), known: versions });
        }
        let directory = self.directory.join(version);
        let path = directory.join(DESCRIPTION);
        let text = fs::read_to_string(&path).map_err(|source| BootRootError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let description: Description = serde_json::from_str(&text)
            .map_err(|error| BootRootError::Description { path, why: error.to_string() })?;
        Ok(BootRoot { description, directory })
    }

    /// The name of the current version, if one was chosen.
    pub fn current(&self) -> Option<String> {
        let target = fs::read_link(self.directory.join(CURRENT)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Makes `version` the current one, in one step. Nodes that boot from now on get it.
    ///
    /// # Errors
    /// When there is no such version, or the link cannot be written.
    pub fn choose(&self, version: &str) -> Result<(), BootRootError> {
        self.read(version)?;
        let (link, new) = (self.directory.join(CURRENT), self.directory.join("current.new"));
        // What an interrupted choice left.
        let _ = fs::remove_file(&new);
        std::os::unix::fs::symlink(version, &new)
            .and_then(|()| fs::rename(&new, &link))
            .map_err(|source| BootRootError::Io { action: "write", path: link, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(roots: &BootRoots, version: &str) {
        let files = BTreeMap::from([("kernel8.img".to_owned(), Content { bytes: 3, blake3: "00".into() })]);
        let description = Description {
            schema: 1,
            version: version.into(),
            kind: "ram".into(),
            command_line: "panic=10".into(),
            packages: BTreeMap::new(),
            agent: "0.1.0".into(),
            files,
        };
        let directory = roots.directory().join(version);
        fs::create_dir_all(directory.join(FILES)).unwrap();
        fs::write(directory.join(DESCRIPTION), serde_json::to_vec(&description).unwrap()).unwrap();
    }

    #[test]
    fn versions_are_listed_chosen_and_read() {
        let scratch = tempfile::tempdir().unwrap();
        let roots = BootRoots::at(scratch.path().join("boot-roots"));
        assert_eq!((roots.versions().unwrap(), roots.current()), (vec![], None));
        add(&roots, "b");
        add(&roots, "a");
        fs::create_dir(roots.directory().join("unfinished")).unwrap();
        roots.choose("b").unwrap();
        roots.choose("a").unwrap();
        assert_eq!(roots.versions().unwrap(), ["a", "b"]);
        assert_eq!(roots.current().as_deref(), Some("a"));
        let root = roots.read("a").unwrap();
        assert!(root.file("kernel8.img").unwrap().ends_with("a/files/kernel8.img"));
        assert_eq!(root.file("../../site.key"), None);
        let error = roots.choose("c").unwrap_err().to_string();
        assert_eq!(error, "there is no boot root `c`; there are a, b");
    }

    #[test]
    fn a_description_that_is_none_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let roots = BootRoots::at(scratch.path().into());
        add(&roots, "a");
        fs::write(scratch.path().join("a").join(DESCRIPTION), "{").unwrap();
        assert!(roots.read("a").unwrap_err().to_string().contains("a/boot-root.json"));
    }
}

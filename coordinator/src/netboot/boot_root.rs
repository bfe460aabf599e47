//! Boot roots: the kernel, the system in memory and the firmware's files that nodes fetch in order to be worked on. Each
//! version is a directory that is never changed once it is there; one of them is current, and a node or a model may have
//! another. They are read here, and built elsewhere.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What describes a version, in its directory.
const DESCRIPTION: &str = "boot-root.json";
/// What nodes fetch, in its directory.
const FILES: &str = "files";
/// The link that names the current version.
const CURRENT: &str = "current";
/// The directories of links that name the versions of nodes and of models.
const NODES: &str = "nodes";
const MODELS: &str = "models";

/// Who gets a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Whoever has no other.
    All,
    /// The node of this name.
    Node(String),
    /// Nodes whose model begins so, such as `Raspberry Pi 5`; the longest beginning counts.
    Model(String),
}

impl Whom {
    /// A name that is one of a file, as which the choice is kept.
    fn link(&self) -> Option<PathBuf> {
        let (directory, name) = match self {
            Whom::All => return Some(CURRENT.into()),
            Whom::Node(name) => (NODES, name),
            Whom::Model(name) => (MODELS, name),
        };
        let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        is_name.then(|| Path::new(directory).join(name))
    }
}

/// What a version is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The format of this description; 1.
    pub schema: u32,
    /// Its name, which is also the name of its directory.
    pub version: String,
    /// How a node gets what it works with.
    pub kind: Kind,
    /// The words of the kernel command line that all nodes have; the coordinator adds those of the node and its boot.
    pub command_line: String,
    /// The packages that it was made from, with their versions.
    pub packages: BTreeMap<String, String>,
    /// The BLAKE3 hash of the agent in it, 64 hex digits.
    pub agent: String,
    /// What a firmware may fetch, by its path below the node's prefix, such as `start4.elf` or `overlays/x.dtbo`.
    pub files: BTreeMap<String, Content>,
    /// What nodes fetch over NFS, by its path in the exported directory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exported: BTreeMap<String, Content>,
}

/// How a node gets what it works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// In its initramfs.
    Ram,
    /// Over NFS.
    Nfs,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Ram => "ram",
            Kind::Nfs => "nfs",
        })
    }
}

/// How nodes mount: the protocol's version is said because kernels differ in what they try first (raspberrypi/linux issue
/// 2187), and a server that does not answer is asked again after 5 s.
const NFS_OPTIONS: &str = "vers=4.2,proto=tcp,timeo=50";

impl Description {
    /// All its files together.
    pub fn bytes(&self) -> u64 {
        self.files.values().chain(self.exported.values()).map(|content| content.bytes).sum()
    }
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its BLAKE3 hash, 64 hex digits.
    pub blake3: String,
}

impl Content {
    /// That of these bytes.
    pub fn of(bytes: &[u8]) -> Content {
        Content { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() }
    }
}

/// A version that is there.
#[derive(Clone, Debug)]
pub struct BootRoot {
    /// What it is made of.
    pub description: Description,
    directory: PathBuf,
    /// What nodes mount, if they do.
    export: Option<PathBuf>,
}

impl BootRoot {
    /// Where the file is that nodes know as `name`, if they may fetch it.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        self.description.files.contains_key(name).then(|| self.directory.join(FILES).join(name))
    }

    /// The words of the kernel command line that all nodes have who reach the head at `head`.
    pub fn words(&self, head: &str) -> String {
        let words = self.description.command_line.clone();
        match &self.export {
            None => words,
            Some(directory) => format!("{words} nfsroot={head}:{},{NFS_OPTIONS}", directory.display()),
        }
    }

    /// All files of it, those for NFS too, with what must be in them.
    pub fn all_files(&self) -> Vec<(PathBuf, &Content)> {
        let Description { files, exported, .. } = &self.description;
        let own = files.iter().map(|(name, content)| (self.directory.join(FILES).join(name), content));
        let exported = exported.iter().zip(self.export.iter().cycle());
        own.chain(exported.map(|((name, content), directory)| (directory.join(name), content))).collect()
    }

    /// Where it is: its own directory, and that which is exported.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.directory.as_path()).chain(self.export.as_deref())
    }
}

/// All versions of a coordinator.
#[derive(Clone, Debug)]
pub struct BootRoots {
    directory: PathBuf,
    /// Where the trees are that nodes fetch over NFS, each called as its version.
    exports: Option<PathBuf>,
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
    /// It is for NFS, and the settings do not say where trees for NFS are.
    #[error("the boot root `{0}` is for NFS: set netboot.nfs.directory to where its tree is")]
    NoExports(String),
    /// Neither a node nor a model is called so.
    #[error("no node and no model is called `{0}`")]
    Whom(String),
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
    /// The boot roots in `directory`, which need not exist yet; the trees that nodes fetch over NFS are in `exports`.
    pub fn at(directory: PathBuf, exports: Option<PathBuf>) -> Self {
        BootRoots { directory, exports }
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

    /// The file that describes a version of this name.
    pub(super) fn description(&self, version: &str) -> PathBuf {
        self.directory.join(version).join(DESCRIPTION)
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
        let export = match (description.kind, &self.exports) {
            (Kind::Ram, _) => None,
            (Kind::Nfs, Some(exports)) => Some(exports.join(version)),
            (Kind::Nfs, None) => return Err(BootRootError::NoExports(version.into())),
        };
        Ok(BootRoot { description, directory, export })
    }

    fn chosen(&self, link: &Path) -> Option<String> {
        let target = fs::read_link(self.directory.join(link)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// The name of the current version, if one was chosen.
    pub fn current(&self) -> Option<String> {
        self.chosen(CURRENT.as_ref())
    }

    /// The name of the version that a node of this name and model gets, if one was chosen.
    pub fn chosen_for(&self, node: &str, model: &str) -> Option<String> {
        let of_node = || self.chosen(&Whom::Node(node.into()).link()?);
        let of_model = || {
            let models = self.names(MODELS).into_iter().filter(|name| model.starts_with(name.as_str()));
            self.chosen(&Path::new(MODELS).join(models.max_by_key(String::len)?))
        };
        of_node().or_else(of_model).or_else(|| self.current())
    }

    /// Who gets which version beside those who get the current one: nodes, then models, each with its version.
    pub fn exceptions(&self) -> Vec<(Whom, String)> {
        let nodes = self.names(NODES).into_iter().map(Whom::Node);
        let all = nodes.chain(self.names(MODELS).into_iter().map(Whom::Model));
        all.filter_map(|whom| Some((whom.clone(), self.chosen(&whom.link()?)?))).collect()
    }

    /// The names in a directory of choices, sorted.
    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.directory.join(directory)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }

    /// Gives `whom` this version, in one step. Nodes that boot from now on get it.
    ///
    /// # Errors
    /// When there is no such version, `whom` cannot be called so, or the choice cannot be written.
    pub fn choose(&self, version: &str, whom: &Whom) -> Result<(), BootRootError> {
        self.read(version)?;
        let link = self.directory.join(self.link(whom)?);
        let new = self.directory.join(".chosen");
        // What an interrupted choice left.
        let _ = fs::remove_file(&new);
        let parent = link.parent().expect("a link is in a directory");
        // Only the name of the version is read of it.
        fs::create_dir_all(parent)
            .and_then(|()| std::os::unix::fs::symlink(version, &new))
            .and_then(|()| fs::rename(&new, &link))
            .map_err(|source| BootRootError::Io { action: "write", path: link, source })
    }

    /// Gives `whom` the current version again; whether it had another.
    ///
    /// # Errors
    /// When `whom` cannot be called so, or the choice cannot be removed.
    pub fn choose_no_other(&self, whom: &Whom) -> Result<bool, BootRootError> {
        let path = self.directory.join(self.link(whom)?);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(BootRootError::Io { action: "remove", path, source }),
        }
    }

    fn link(&self, whom: &Whom) -> Result<PathBuf, BootRootError> {
        whom.link().ok_or_else(|| match whom {
            Whom::Node(name) | Whom::Model(name) => BootRootError::Whom(name.clone()),
            Whom::All => unreachable!("everybody has a link"),
        })
    }
}

#[cfg(test)]
mod tests;

//! The boot files of environments for boards that boot their card over the network only (Pi 3): uploaded by the agent for one
//! run, renewed by whoever holds the node, and served as its card.
//!
//! A set is a directory that is complete once it has its name; what a set is being made of lies beside it.

use crate::clock::{self, UnixMs};
use piseduce_protocol::boot_files::{
    ALL_BYTES_MAX, BootFile, BootFileList, COMMAND_LINE, CONFIG, FILE_BYTES_MAX, FILES_MAX, START, disarmed,
    is_boot_file,
};
use piseduce_protocol::id::{DeploymentId, Hash, Run, Serial};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const DESCRIPTION: &str = "boot-files.json";
const FILES: &str = "files";

/// Whose card, and of which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The node.
    pub serial: Serial,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// The run that wrote the card.
    pub run: Run,
}

/// A complete set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// When it was made.
    pub since: u64,
    /// Who made it: `agent`, or a user's name.
    pub by: String,
    /// What is in it.
    pub files: BootFileList,
}

/// All sets of a coordinator.
#[derive(Clone, Debug)]
pub struct CardFiles {
    directory: PathBuf,
}

/// Why a set cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CardFilesError {
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
    /// The archive cannot be read.
    #[error("the archive cannot be read")]
    Archive(#[source] io::Error),
    /// No firmware gets such a file.
    #[error("`{0}` is no boot file")]
    Name(String),
    /// Larger than firmware or this directory can bear.
    #[error(
        "the boot files are more than {FILES_MAX} or have more than {ALL_BYTES_MAX} bytes, or one has more than {FILE_BYTES_MAX}"
    )]
    TooLarge,
    /// Something that every card has is not there, or not as it was sent.
    #[error("there is no whole `{0}`")]
    Missing(String),
}

impl CardFilesError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CardFilesError {
        let path = path.to_owned();
        move |source| CardFilesError::Io { action, path, source }
    }
}

impl CardFiles {
    /// The sets in `directory`, which need not exist yet.
    pub fn at(directory: PathBuf) -> Self {
        CardFiles { directory }
    }

    /// Where all of them are.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn directory(&self) -> Result<&Path, CardFilesError> {
        fs::create_dir_all(&self.directory).map_err(CardFilesError::io("create", &self.directory))?;
        Ok(&self.directory)
    }

    fn of_node(&self, serial: Serial) -> PathBuf {
        self.directory.join(serial.to_string())
    }

    fn set(&self, owner: Owner) -> PathBuf {
        self.of_node(owner.serial).join(format!("{}-{}", owner.deployment, owner.run))
    }

    /// The file that describes the set of this run.
    pub(super) fn description_path(&self, owner: Owner) -> PathBuf {
        self.set(owner).join(DESCRIPTION)
    }

    /// What is in the set of this run, if it is complete.
    pub fn description(&self, owner: Owner) -> Option<Description> {
        serde_json::from_slice(&fs::read(self.description_path(owner)).ok()?).ok()
    }

    /// Where the file is that firmware knows as `name`. Names on a card know no case.
    pub fn file(&self, owner: Owner, name: &str) -> Option<PathBuf> {
        self.file_in(&self.description(owner)?, owner, name)
    }

    /// The same where the description of the set is known.
    pub(super) fn file_in(&self, description: &Description, owner: Owner, name: &str) -> Option<PathBuf> {
        let file = description.files.iter().find(|file| file.name.eq_ignore_ascii_case(name))?;
        Some(self.set(owner).join(FILES).join(&file.name))
    }

    /// Begins to receive a file of a run, of so many bytes: where its content may be put until [`CardFiles::received`].
    ///
    /// # Errors
    /// When it is no boot file, cannot be put anywhere, or is one too many.
    pub fn receive(&self, owner: Owner, name: &str, bytes: u64) -> Result<NamedTempFile, CardFilesError> {
        if !is_boot_file(name) {
            return Err(CardFilesError::Name(name.into()));
        }
        let directory = self.set(owner).with_extension("new");
        fs::create_dir_all(&directory).map_err(CardFilesError::io("create", &directory))?;
        let files = directory.join(FILES);
        let (others, held) = others(&files, &files.join(name));
        if others >= FILES_MAX || held.saturating_add(bytes) > ALL_BYTES_MAX {
            return Err(CardFilesError::TooLarge);
        }
        tempfile::Builder::new().tempfile_in(&directory).map_err(CardFilesError::io("write in", &directory))
    }

    /// What was received is the file `name`.
    ///
    /// # Errors
    /// When it cannot be put at its place.
    pub fn received(&self, owner: Owner, name: &str, part: NamedTempFile) -> Result<(), CardFilesError> {
        let place = self.set(owner).with_extension("new").join(FILES).join(name);
        let parent = place.parent().unwrap_or(&place);
        fs::create_dir_all(parent).map_err(CardFilesError::io("create", parent))?;
        part.persist(&place).map_err(|error| CardFilesError::io("write", &place)(error.error))?;
        Ok(())
    }

    /// Everything in `list` was received: it is the set of this run from now on, and the node's other sets are forgotten.
    ///
    /// # Errors
    /// When a file is missing or another than was said.
    pub fn complete(
        &self,
        owner: Owner,
        by: &str,
        list: &BootFileList,
    ) -> Result<Description, CardFilesError> {
        let new = self.set(owner).with_extension("new");
        if let Some(known) = self.description(owner).filter(|known| !new.exists() && is_of(known, list)) {
            // Whoever did not hear the answer asks again.
            return Ok(known);
        }
        let all: u64 = list.iter().map(|file| file.bytes).sum();
        if list.len() > FILES_MAX
            || all > ALL_BYTES_MAX
            || list.iter().any(|file| file.bytes > FILE_BYTES_MAX)
        {
            return Err(CardFilesError::TooLarge);
        }
        for needed in [START, CONFIG, COMMAND_LINE] {
            if !list.iter().any(|file| file.name.eq_ignore_ascii_case(needed)) {
                return Err(CardFilesError::Missing(needed.into()));
            }
        }
        let mut files = BootFileList::new();
        for file in list {
            if !is_boot_file(&file.name) {
                return Err(CardFilesError::Name(file.name.clone()));
            }
            let path = new.join(FILES).join(&file.name);
            let missing = || CardFilesError::Missing(file.name.clone());
            let content = fs::read(&path).map_err(|_| missing())?;
            if Hash::of(&content) != file.hash {
                return Err(missing());
            }
            files.push(match file.name.eq_ignore_ascii_case(COMMAND_LINE) {
                true => disarm(&path, &content, file)?,
                false => file.clone(),
            });
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let UnixMs(since) = clock::unix_ms();
        let description = Description { since, by: by.into(), files };
        let path = new.join(DESCRIPTION);
        let text = serde_json::to_vec_pretty(&description).expect("texts and numbers can be written");
        File::create(&path)
            .and_then(|mut file| file.write_all(&text).and_then(|()| Ok(rustix::fs::syncfs(&file)?)))
            .map_err(CardFilesError::io("write", &path))?;
        self.replace(owner, &new)?;
        Ok(description)
    }

    /// Exchanges the sets of a node for `new`. Between the two a firmware finds nothing and asks again.
    fn replace(&self, owner: Owner, new: &Path) -> Result<(), CardFilesError> {
        let node = self.of_node(owner.serial);
        let entries = fs::read_dir(&node).map_err(CardFilesError::io("read", &node))?;
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path != new) {
            fs::remove_dir_all(&path).map_err(CardFilesError::io("remove", &path))?;
        }
        let set = self.set(owner);
        fs::rename(new, &set).map_err(CardFilesError::io("write", &set))
    }

    /// Makes the boot files in a tar archive the set of this run; everything else in it is left out.
    ///
    /// # Errors
    /// When it is no archive, or has not what a firmware needs. The set stays as it was then.
    pub fn unpack(&self, owner: Owner, by: &str, archive: impl Read) -> Result<Description, CardFilesError> {
        let new = self.set(owner).with_extension("new");
        let _ = fs::remove_dir_all(&new);
        let mut list = BootFileList::new();
        let mut left = ALL_BYTES_MAX;
        for entry in tar::Archive::new(archive).entries().map_err(CardFilesError::Archive)? {
            let mut entry = entry.map_err(CardFilesError::Archive)?;
            let name = entry.path().map_err(CardFilesError::Archive)?.to_string_lossy().into_owned();
            let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
            if !entry.header().entry_type().is_file() || !is_boot_file(&name) {
                continue;
            }
            let mut content = Vec::new();
            let limit = left.min(FILE_BYTES_MAX);
            entry.by_ref().take(limit + 1).read_to_end(&mut content).map_err(CardFilesError::Archive)?;
            let bytes = content.len() as u64;
            if bytes > limit || list.len() == FILES_MAX {
                return Err(CardFilesError::TooLarge);
            }
            left -= bytes;
            let mut part = self.receive(owner, &name, bytes)?;
            part.write_all(&content).map_err(CardFilesError::io("write", part.path()))?;
            self.received(owner, &name, part)?;
            list.retain(|file: &BootFile| file.name != name);
            list.push(BootFile { hash: Hash::of(&content), name, bytes });
        }
        let made = self.complete(owner, by, &list);
        if made.is_err() {
            let _ = fs::remove_dir_all(&new);
        }
        made
    }

    /// Forgets what no run is left for.
    pub fn keep_only(&self, is_live: impl Fn(Serial, &str) -> bool) {
        for node in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let Ok(serial) = node.file_name().to_string_lossy().parse::<Serial>() else { continue };
            for set in fs::read_dir(node.path()).into_iter().flatten().flatten() {
                let name = set.file_name().to_string_lossy().into_owned();
                let deployment = name.split('-').next().unwrap_or_default();
                // What cannot be removed now is tried again.
                if !is_live(serial, deployment) {
                    let _ = fs::remove_dir_all(set.path());
                }
            }
        }
    }
}

/// How many files there are besides `but`, and their bytes.
fn others(directory: &Path, but: &Path) -> (usize, u64) {
    let (mut count, mut bytes) = (0, 0);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path == but {
            continue;
        }
        let (more, of) = match entry.metadata() {
            Ok(found) if found.is_dir() => others(&path, but),
            Ok(found) => (1, found.len()),
            Err(_) => (0, 0),
        };
        (count, bytes) = (count + more, bytes + of);
    }
    (count, bytes)
}

/// Whether a set was made from this list. Its command line may have changed since.
fn is_of(known: &Description, list: &BootFileList) -> bool {
    let is_in = |file: &BootFile| {
        known.files.iter().any(|other| {
            other.name == file.name
                && (other.hash == file.hash || file.name.eq_ignore_ascii_case(COMMAND_LINE))
        })
    };
    known.files.len() == list.len() && list.iter().all(is_in)
}

/// The command line as it was, without what would undo the deployment.
fn disarm(path: &Path, content: &[u8], file: &BootFile) -> Result<BootFile, CardFilesError> {
    let line = disarmed(&String::from_utf8_lossy(content));
    fs::write(path, &line).map_err(CardFilesError::io("write", path))?;
    Ok(BootFile { name: file.name.clone(), bytes: line.len() as u64, hash: Hash::of(line.as_bytes()) })
}

#[cfg(test)]
mod tests;

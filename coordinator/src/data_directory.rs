//! The one directory that a coordinator owns: store, images, site key. Readable by its owner only. Whether key and
//! store belong together is in `site_key.rs`.

mod site_key;

pub use site_key::{Mismatch, SITE_MARK, Served};

use crate::image::{Library, LibraryError, Limits};
use crate::netboot::{BootRoots, CardFiles};
use crate::store::{Store, StoreError};
use piseduce_protocol::seal::SiteKey;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The file of the store in a coordinator's directory.
pub const STORE: &str = "store.sqlite";
/// The directory of the images in it.
pub const IMAGES: &str = "images";
/// The directory of the boot roots in it.
pub const BOOT_ROOTS: &str = "boot-roots";
/// The directory in it of the boot files of cards that are booted over the network.
pub const CARD_FILES: &str = "card-files";
/// The file of the site key in it.
pub const SITE_KEY: &str = "site.key";
/// The file that a running coordinator holds locked in it.
pub const LOCK: &str = "coordinator.lock";
/// The file in it that says where the running coordinator is reached.
pub const ADDRESSES: &str = "addresses.json";

/// Where a running coordinator is reached, in [`ADDRESSES`]; what the last one left when none runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Addresses {
    /// The people's listener.
    pub people: SocketAddr,
    /// The nodes' listener.
    pub nodes: SocketAddr,
    /// The broker.
    pub broker: SocketAddr,
    /// What tells the coordinator that wrote this from every other.
    pub instance: String,
}

/// A coordinator's directory.
#[derive(Clone, Debug)]
pub struct DataDirectory {
    root: PathBuf,
}

/// What is wrong with a coordinator's directory.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It, or a file in it, cannot be used.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// At what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A coordinator has it.
    #[error("another coordinator uses {0}")]
    InUse(PathBuf),
    /// The site key is not 32 bytes that only its owner may read.
    #[error("{path} is no site key: it must be a file of 32 bytes that only its owner may read (mode 0600)")]
    SiteKey {
        /// The file.
        path: PathBuf,
    },
    /// The site key and the store do not belong together.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// No random bytes.
    #[error("the kernel gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The images cannot be opened.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

impl DataDirectory {
    /// Creates the directory if it is missing.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn open(root: &Path) -> Result<Self, DataError> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(root);
        created.map_err(|source| DataError::Io { action: "create", path: root.into(), source })?;
        Ok(DataDirectory { root: root.into() })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Keeps other coordinators out for as long as the returned file is open.
    ///
    /// # Errors
    /// [`DataError::InUse`] when there is one already.
    pub fn lock(&self) -> Result<File, DataError> {
        let path = self.file(LOCK);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = file.map_err(|source| DataError::Io { action: "open", path, source })?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(_) => Err(DataError::InUse(self.root.clone())),
        }
    }

    /// The store, for programs beside the coordinator.
    ///
    /// # Errors
    /// When it cannot be opened, or was lost.
    pub fn store(&self) -> Result<Store, DataError> {
        self.check_store_is_there()?;
        Ok(Store::open(&self.file(STORE))?)
    }

    /// The images; `free_bytes` are left free on their file system.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub fn library(&self, free_bytes: u64) -> Result<Library, DataError> {
        Ok(Library::open(&self.file(IMAGES), Limits { free_bytes, ..Limits::default() })?)
    }

    /// The boot roots.
    pub fn boot_roots(&self, exports: Option<PathBuf>) -> BootRoots {
        BootRoots::at(self.file(BOOT_ROOTS), exports)
    }

    /// The boot files of cards that are booted over the network.
    pub fn card_files(&self) -> CardFiles {
        CardFiles::at(self.file(CARD_FILES))
    }

    /// The site key; none before the first start.
    ///
    /// # Errors
    /// [`DataError::SiteKey`] when the file is something else, or others may read it.
    fn read_site_key(&self) -> Result<Option<SiteKey>, DataError> {
        let path = self.file(SITE_KEY);
        let io = |action| {
            let path = path.clone();
            move |source| DataError::Io { action, path, source }
        };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("open")(error)),
        };
        let mut bytes = Vec::new();
        (&mut file).take(33).read_to_end(&mut bytes).map_err(io("read"))?;
        let private = file.metadata().map_err(io("read"))?.mode() & 0o077 == 0;
        let key = <[u8; 32]>::try_from(bytes).ok().filter(|_| private);
        key.map(|key| Some(SiteKey(key))).ok_or(DataError::SiteKey { path: path.clone() })
    }

    /// A site key of random bits.
    fn new_site_key() -> Result<SiteKey, DataError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(DataError::Random)?;
        Ok(SiteKey(key))
    }

    /// Writes a file that only its owner may read, whole or not at all.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn write_private(&self, name: &str, bytes: &[u8]) -> Result<(), DataError> {
        let (path, temporary) = (self.file(name), self.file(&format!("{name}.new")));
        let write = || {
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            File::open(&self.root)?.sync_all()
        };
        write().map_err(|source| DataError::Io { action: "write", path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn the_site_key_is_made_once_and_must_stay_private() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(&directory.path().join("data")).unwrap();
        let key = data.open_for_serving().await.unwrap().key;
        assert!(data.open_for_serving().await.unwrap().key == key);
        let path = directory.path().join("data/site.key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(data.open_for_serving().await, Err(DataError::SiteKey { .. })));
    }

    #[test]
    fn a_second_coordinator_is_kept_out() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(directory.path()).unwrap();
        let first = data.lock().unwrap();
        assert!(matches!(data.lock(), Err(DataError::InUse(_))));
        drop(first);
        data.lock().unwrap();
    }
}

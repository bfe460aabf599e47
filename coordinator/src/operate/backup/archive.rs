//! The format of a backup: a tar archive in one zstd frame, whose first file, `backup.json`, lists all others
//! with lengths and BLAKE3. What is read from one is believed only when it is what that list says.
//!
//! Knows nothing of stores and images. The format is a promise: fields are only added, and a change that an
//! older program would get wrong raises [`FORMAT`].

use indicatif::ProgressBar;
use piseduce_protocol::id::Hash;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tar::{Archive, Builder, Entry, EntryType, Header};
use tempfile::TempDir;

/// The newest format that this program reads, and the one that it writes.
pub(super) const FORMAT: u32 = 1;

/// The name of the list.
const LIST: &str = "backup.json";
/// The longest list, in bytes: a file of an image takes 200.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// Packs are compressed already; the store shrinks to a fifth at the lowest level.
const ZSTD_LEVEL: i32 = 1;

/// What a backup says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct List {
    /// The version of the format.
    pub(super) format: u32,
    /// The version of the program that wrote it.
    pub(super) program: String,
    /// The version of the store's schema.
    pub(super) store: usize,
    /// The site.
    pub(super) site: String,
    /// When it was taken.
    pub(super) unix_ms: u64,
    /// The settings file.
    pub(super) settings: String,
    /// The environments by name, each with its image.
    pub(super) environments: BTreeMap<String, Hash>,
    /// Whether the images are in it.
    pub(super) images: bool,
    /// Its other files.
    pub(super) files: Vec<Listed>,
}

impl List {
    /// How long all files are together.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// A file in a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Its path below the coordinator's directory.
    pub(super) path: String,
    /// Its length.
    pub(super) bytes: u64,
    /// The BLAKE3 of its content.
    pub(super) hash: Hash,
}

/// What goes wrong with a backup.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// A file could not be read or written.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// At what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something else.
    #[error("{path} is not a backup of PiSeduce")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error(
        "{path} was written by version {program} of piseduce, which this one cannot read: use that version or a later one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version that wrote it.
        program: String,
    },
    /// It ends too early, or bytes in it were changed.
    #[error("{path} is cut off or damaged inside {file}: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was being read from it.
        file: String,
        /// What does not fit.
        source: io::Error,
    },
    /// A file has other bytes than the list says.
    #[error("{file} does not have the bytes that {by} says: it was changed or the disk is failing")]
    Changed {
        /// The file.
        file: String,
        /// Who says what it should be.
        by: String,
    },
    /// A file of the list is not in the archive.
    #[error("{path} is cut off: {file} is missing from it")]
    Missing {
        /// The archive.
        path: PathBuf,
        /// The file.
        file: String,
    },
    /// Ctrl-C or SIGTERM.
    #[error("stopped; nothing was changed")]
    Stopped,
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    move |source| ArchiveError::Io { action, path: path.into(), source }
}

/// Hashes what is read through it, and ends early when it should stop.
struct Hashed<'a, R> {
    inner: R,
    hasher: blake3::Hasher,
    stop: &'a AtomicBool,
}

impl<'a, R: Read> Hashed<'a, R> {
    fn new(inner: R, stop: &'a AtomicBool) -> Self {
        Hashed { inner, hasher: blake3::Hasher::new(), stop }
    }

    fn hash(&self) -> Hash {
        Hash(*self.hasher.finalize().as_bytes())
    }
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// A file with the length and hash that it has now.
pub(super) fn listed(path: String, file: &Path, stop: &AtomicBool) -> Result<Listed, ArchiveError> {
    let open = File::open(file).map_err(io_error("read", file))?;
    let mut hashed = Hashed::new(open, stop);
    match io::copy(&mut hashed, &mut io::sink()) {
        Ok(bytes) => Ok(Listed { path, bytes, hash: hashed.hash() }),
        Err(_) if stop.load(Ordering::Relaxed) => Err(ArchiveError::Stopped),
        Err(error) => Err(io_error("read", file)(error)),
    }
}

/// Writes `list` and its files, which lie at `sources` in the same order, into the new file `output`, durably.
pub(super) fn write(
    list: &List,
    sources: &[PathBuf],
    output: &Path,
    stop: &AtomicBool,
    bar: &ProgressBar,
) -> Result<(), ArchiveError> {
    bar.set_length(list.bytes());
    let written = |error| io_error("write", output)(error);
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(output).map_err(written)?;
    let mut frame = zstd::Encoder::new(file, ZSTD_LEVEL).map_err(written)?;
    frame.include_checksum(true).map_err(written)?;
    let mut archive = Builder::new(frame);
    let json = serde_json::to_vec_pretty(list).expect("text keys only");
    let header = header(json.len() as u64, list.unix_ms);
    append(&mut archive, header, LIST, &*json).map_err(written)?;
    for (listed, source) in list.files.iter().zip(sources) {
        let file = File::open(source).map_err(io_error("read", source))?;
        // A file that grew is not longer in the archive than in the list; its hash is wrong then.
        let mut hashed = Hashed::new(file.take(listed.bytes), stop);
        let appended =
            append(&mut archive, self::header(listed.bytes, list.unix_ms), &listed.path, &mut hashed);
        match appended {
            Err(_) if stop.load(Ordering::Relaxed) => return Err(ArchiveError::Stopped),
            appended => appended.map_err(written)?,
        }
        if hashed.hash() != listed.hash {
            let (file, by) = (source.display().to_string(), "its hash".into());
            return Err(ArchiveError::Changed { file, by });
        }
        bar.inc(listed.bytes);
    }
    let frame = archive.into_inner().map_err(written)?;
    frame.finish().and_then(|file| file.sync_all()).map_err(written)
}

fn header(bytes: u64, unix_ms: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(unix_ms / 1000);
    header
}

fn append(
    archive: &mut Builder<zstd::Encoder<'_, File>>,
    mut header: Header,
    path: &str,
    content: impl Read,
) -> io::Result<()> {
    archive.append_data(&mut header, path, content)
}

type Frame = zstd::Decoder<'static, BufReader<File>>;

/// A backup that is being read.
pub(super) struct Backup {
    path: PathBuf,
    archive: Archive<Frame>,
}

impl Backup {
    /// Opens the backup in `path`.
    pub(super) fn open(path: &Path) -> Result<Self, ArchiveError> {
        let file = File::open(path).map_err(io_error("read", path))?;
        let frame = zstd::Decoder::new(file).map_err(io_error("read", path))?;
        Ok(Backup { path: path.into(), archive: Archive::new(frame) })
    }

    /// Reads the list, then hands it to `prepare`, which says into which directory the files go, and puts them
    /// there. When this returns `Ok`, every file of the list is there, durable, and has the listed bytes.
    pub(super) fn unpack<T, E: From<ArchiveError>>(
        mut self,
        stop: &AtomicBool,
        bar: &ProgressBar,
        prepare: impl FnOnce(&List) -> Result<T, E>,
    ) -> Result<(List, T), E>
    where
        T: AsRef<Path>,
    {
        let path = self.path.clone();
        let foreign = || ArchiveError::Foreign { path: path.clone() };
        let mut entries = self.archive.entries().map_err(|_| foreign())?;
        let first = entries.next().and_then(Result::ok).ok_or_else(foreign)?;
        let list = read_list(first, &path)?;
        let directory = prepare(&list)?;
        bar.set_length(list.bytes());
        let mut missing: BTreeMap<&str, &Listed> =
            list.files.iter().map(|listed| (listed.path.as_str(), listed)).collect();
        for entry in entries {
            let damaged =
                |source| ArchiveError::Damaged { path: path.clone(), file: "its table".into(), source };
            let entry = entry.map_err(damaged)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let listed = missing.remove(name.as_str()).filter(|listed| is_inside(&listed.path));
            let listed = listed.ok_or_else(|| {
                let (file, by) = (name.clone(), format!("the list in {}", path.display()));
                ArchiveError::Changed { file, by }
            })?;
            unpack_one(entry, listed, &path, directory.as_ref(), stop)?;
            bar.inc(listed.bytes);
        }
        if let Some(file) = missing.keys().next() {
            return Err(ArchiveError::Missing { path, file: (*file).into() }.into());
        }
        check_end(self.archive, &path)?;
        Ok((list, directory))
    }
}

/// The frame's checksum stands at its end, behind everything that the archive is asked for.
fn check_end(archive: Archive<Frame>, path: &Path) -> Result<(), ArchiveError> {
    let ended = io::copy(&mut archive.into_inner(), &mut io::sink());
    ended.map(drop).map_err(|source| ArchiveError::Damaged {
        path: path.into(),
        file: "its end".into(),
        source,
    })
}

fn read_list(entry: Entry<'_, Frame>, path: &Path) -> Result<List, ArchiveError> {
    let foreign = || ArchiveError::Foreign { path: path.into() };
    if entry.path_bytes() != LIST.as_bytes() || entry.size() > LIST_BYTES_MAX {
        return Err(foreign());
    }
    let mut json = Vec::new();
    entry.take(LIST_BYTES_MAX).read_to_end(&mut json).map_err(|source| ArchiveError::Damaged {
        path: path.into(),
        file: LIST.into(),
        source,
    })?;
    /// What can be read of every format, older or newer.
    #[derive(Deserialize)]
    struct Versions {
        format: u32,
        program: String,
    }
    let versions: Versions = serde_json::from_slice(&json).map_err(|_| foreign())?;
    if versions.format > FORMAT {
        return Err(ArchiveError::Newer { path: path.into(), program: versions.program });
    }
    serde_json::from_slice(&json).map_err(|_| foreign())
}

/// Whether a path stays below the directory that it is joined to.
fn is_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

fn unpack_one(
    entry: Entry<'_, Frame>,
    listed: &Listed,
    path: &Path,
    directory: &Path,
    stop: &AtomicBool,
) -> Result<(), ArchiveError> {
    let target = directory.join(&listed.path);
    let parent = target.parent().expect("a path below a directory has a parent");
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(io_error("create", parent))?;
    let mut options = OpenOptions::new();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&target)
        .map_err(io_error("create", &target))?;
    let mut hashed = Hashed::new(entry.take(listed.bytes.saturating_add(1)), stop);
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = match hashed.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(_) if stop.load(Ordering::Relaxed) => return Err(ArchiveError::Stopped),
            Err(source) => {
                return Err(ArchiveError::Damaged { path: path.into(), file: listed.path.clone(), source });
            }
        };
        bytes += count as u64;
        file.write_all(&buffer[..count]).map_err(io_error("write", &target))?;
    }
    if bytes != listed.bytes || hashed.hash() != listed.hash {
        let by = format!("the list in {}", path.display());
        return Err(ArchiveError::Changed { file: listed.path.clone(), by });
    }
    file.sync_all().map_err(io_error("write", &target))?;
    sync_directory(parent)
}

/// A new directory in `parent` that only its owner may look into; removed with everything in it when dropped.
pub(super) fn scratch(parent: &Path, prefix: &str) -> Result<TempDir, ArchiveError> {
    let private = fs::Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(parent);
    made.map_err(io_error("write in", parent))
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), ArchiveError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(io_error("flush", path))
}

/// Renames `from` to `to`, durably.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    fs::rename(from, to).map_err(io_error("rename a finished file to", to))?;
    sync_directory(to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

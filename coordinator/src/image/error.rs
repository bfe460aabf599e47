//! What can go wrong with images, as facts: what a file is not, why an import ended, what the library
//! lacks. The texts say what to do; the chain of sources is printed by whoever shows the error.

use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::ManifestError;
use piseduce_protocol::table::TableError;
use std::io;
use std::path::{Path, PathBuf};

/// Why bytes are not the image of a disk from which a node could boot.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// There is nothing in it.
    #[error("it is empty; download it again")]
    Empty,
    /// It is something else that is known.
    #[error("it is {what}; {remedy}")]
    Foreign {
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Its partition table is missing or contradicts itself.
    #[error("it is not the image of a whole disk with partitions")]
    Table(#[source] TableError),
    /// Its partition table is empty.
    #[error("its partition table has no entries; import the image of a whole disk with partitions")]
    NoPartitions,
    /// A partition ends behind the end of the file.
    #[error(
        "partition {number} ends at byte {end} but the image has only {image_bytes}; it was cut off, download it again"
    )]
    CutOff {
        /// The partition.
        number: u8,
        /// The byte behind its last one.
        end: u64,
        /// The length of the image.
        image_bytes: u64,
    },
    /// It could not be read.
    #[error("byte {at} of it cannot be read")]
    Read {
        /// The first byte of the read.
        at: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why an import ended without an image. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The image file cannot be opened or read.
    #[error("image file {path} cannot be read")]
    Source {
        /// The image file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory, a pipe, a character device.
    #[error("{path} is neither a file nor a block device")]
    NotAFile {
        /// What was to be imported.
        path: PathBuf,
    },
    /// The file holds something else than an image.
    #[error("{path} cannot be deployed")]
    Content {
        /// The image file.
        path: PathBuf,
        /// What it is instead.
        #[source]
        source: ContentError,
    },
    /// A compressed file that ends before its end mark.
    #[error("{path} ends early, at byte {at} and in the middle of its compressed content; download it again")]
    EndsEarly {
        /// The image file.
        path: PathBuf,
        /// Its length in bytes.
        at: u64,
    },
    /// A compressed file whose checks fail.
    #[error("{path} is damaged near byte {at}; download it again and compare its checksum")]
    Damaged {
        /// The image file.
        path: PathBuf,
        /// How much of it was read, in bytes.
        at: u64,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// A compressed file that needs too much memory.
    #[error(
        "{path} needs more than {limit} bytes of memory to unpack; unpack it elsewhere and import the result"
    )]
    Memory {
        /// The image file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The image is longer than images may be.
    #[error("the image in {path} is longer than {limit} bytes, the longest that is accepted")]
    TooLong {
        /// The image file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The library's file system is too full.
    #[error(
        "{directory} has {free} bytes free and {floor} must stay free; remove environments that are not needed or free space elsewhere"
    )]
    Space {
        /// The library.
        directory: PathBuf,
        /// What is free, in bytes.
        free: u64,
        /// What must stay free, in bytes.
        floor: u64,
    },
    /// The caller asked for it.
    #[error("import of {path} was stopped")]
    Stopped {
        /// The image file.
        path: PathBuf,
    },
    /// The library itself has a problem.
    #[error("the image library failed")]
    Library(#[from] LibraryError),
}

/// Why the library cannot give or keep what it should.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A file or directory of the library could not be read, written, renamed or removed.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A manifest's bytes do not have the hash that is its name.
    #[error("manifest {path} was changed since it was written; import the image again")]
    ManifestChanged {
        /// The file.
        path: PathBuf,
    },
    /// A manifest cannot be understood.
    #[error("manifest {path} cannot be used; import the image again")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// A manifest names a pack that is not there.
    #[error("pack {pack} is missing from {directory}; import the image again")]
    PackMissing {
        /// The pack.
        pack: Hash,
        /// Where it should be.
        directory: PathBuf,
    },
    /// A pack lost its end.
    #[error("pack {path} has {found} bytes instead of {expected}; import the image again")]
    PackCutOff {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The length that its manifest implies, in bytes.
        expected: u64,
    },
}

impl LibraryError {
    /// For `map_err`: `action` was tried with `path`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LibraryError {
        move |source| LibraryError::Io { action, path: path.to_owned(), source }
    }
}

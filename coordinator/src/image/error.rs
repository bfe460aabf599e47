//! What can go wrong with images, as facts: what a file is not, why an import ended, what the library
//! lacks. The texts say what to do; the chain of sources is printed by whoever shows the error.

use super::architecture::RASPBERRY_PI;
use super::origin::{Checksum, Origin};
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
    /// Wrapped twice.
    #[error("it is {inner} inside {outer}; unpack the outer one first")]
    Nested {
        /// What is inside.
        inner: &'static str,
        /// What is outside.
        outer: &'static str,
    },
    /// An archive without any file.
    #[error("it is a {archive} archive without any file; download it again")]
    EmptyArchive {
        /// What kind of archive.
        archive: &'static str,
    },
    /// An archive in which nothing is the image of a disk.
    #[error("it is a {archive} archive without the image of a disk: {name} in it is {what}; {remedy}")]
    NoImageInside {
        /// What kind of archive.
        archive: &'static str,
        /// The first file in it.
        name: String,
        /// What that is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// An archive with more than one image.
    #[error(
        "it is a {archive} archive with several images, {first} and {second}; unpack it first and import one of them"
    )]
    SeveralInside {
        /// What kind of archive.
        archive: &'static str,
        /// The first image.
        first: String,
        /// The next one.
        second: String,
    },
    /// An archive that uses something that is not read here.
    #[error("it is a {archive} archive with {what}; unpack it first and import the image inside")]
    Archive {
        /// What kind of archive.
        archive: &'static str,
        /// What is not read.
        what: &'static str,
    },
    /// Its programs run on no Raspberry Pi.
    #[error(
        "its programs are for {found}, and Raspberry Pis run {}; choose another image, or say --any-architecture if the nodes are no Raspberry Pis",
        RASPBERRY_PI.join(" and ")
    )]
    Architecture {
        /// What they are for, as `uname -m` names it.
        found: String,
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
    #[error("image file {origin} cannot be read")]
    Source {
        /// The image file.
        origin: Origin,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory, a pipe, a character device.
    #[error("{origin} is neither a file nor a block device")]
    NotAFile {
        /// What was to be imported.
        origin: Origin,
    },
    /// It could not be fetched from its address.
    #[error("{address} cannot be fetched")]
    Fetch {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// It is another file than the one that the checksum is of.
    #[error(
        "{origin} has the SHA-256 {found}, but {expected} was expected; download it again, or compare the checksum with its publisher's"
    )]
    Checksum {
        /// The image file.
        origin: Origin,
        /// What was asked for.
        expected: Checksum,
        /// What it has.
        found: Checksum,
    },
    /// The file holds something else than an image.
    #[error("{origin} cannot be deployed")]
    Content {
        /// The image file.
        origin: Origin,
        /// What it is instead.
        #[source]
        source: ContentError,
    },
    /// A compressed file that ends before its end mark.
    #[error("{origin} ends early, at byte {at} and in the middle of its content; download it again")]
    EndsEarly {
        /// The image file.
        origin: Origin,
        /// Its length in bytes.
        at: u64,
    },
    /// A compressed file or archive whose checks fail.
    #[error("{origin} is damaged near byte {at}; download it again and compare its checksum")]
    Damaged {
        /// The image file.
        origin: Origin,
        /// How much of it was read, in bytes.
        at: u64,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// A compressed file that needs too much memory.
    #[error(
        "{origin} needs more than {limit} bytes of memory to unpack; unpack it elsewhere and import the result"
    )]
    Memory {
        /// The image file.
        origin: Origin,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The image, or all that an archive holds, is longer than images may be.
    #[error("the content of {origin} is longer than {limit} bytes, the longest image that is accepted")]
    TooLong {
        /// The image file.
        origin: Origin,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The library's file system is too full.
    #[error(
        "{directory} has {free} bytes free, {needed} are needed now and {floor} must stay free; remove environments that are not needed or free space elsewhere"
    )]
    Space {
        /// The library.
        directory: PathBuf,
        /// What is free, in bytes.
        free: u64,
        /// What is to be written next, in bytes.
        needed: u64,
        /// What must stay free, in bytes.
        floor: u64,
    },
    /// The caller asked for it.
    #[error("import of {origin} was stopped")]
    Stopped {
        /// The image file.
        origin: Origin,
    },
    /// The library itself has a problem.
    #[error("the image library failed")]
    Library(#[from] LibraryError),
}

/// Why nothing, or not all, came from an address.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// An address, or one that it leads to, of another kind than `http://`.
    #[error("only http:// addresses are fetched here; download it first, as by `curl -LO`, and add the file")]
    Scheme,
    /// The server has something else to say.
    #[error("the server answers with status {status}; check the address")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// No connection, or none that speaks HTTP.
    #[error("no answer can be had: {0}")]
    Failed(Box<ureq::Error>),
    /// The connection ended too early.
    #[error("the connection ended after {received} of {} bytes; try again", .expected.map_or("?".into(), |bytes| bytes.to_string()))]
    CutOff {
        /// What came, in bytes.
        received: u64,
        /// What was promised, in bytes, if anything was.
        expected: Option<u64>,
    },
    /// Nothing came for too long.
    #[error("nothing came for {seconds} s, after {received} bytes; try again")]
    Stalled {
        /// What came before, in bytes.
        received: u64,
        /// For how long nothing came.
        seconds: u64,
    },
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

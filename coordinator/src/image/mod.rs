//! Images: bytes of a file become chunks in a pack and a manifest, and are found again by name.
//!
//! One way in, [`Library::import`]: `fetch` brings the file if need be, `source` recognises it, `decode` (with
//! `streams`, `archive`) unpacks it, `inspect` (with `fat`, `ext4`, `family`, `architecture`, `root`) says what
//! is in it, `extents` what of it is not in use, `pack` cuts and compresses it, `incoming` makes it durable. Knows no
//! deployment and no environment.

mod architecture;
mod archive;
mod decode;
mod error;
mod examine;
mod ext4;
mod extents;
mod family;
mod fat;
mod fetch;
mod import;
mod incoming;
mod index;
mod inspect;
mod library;
mod lock;
mod origin;
mod pack;
mod raw;
mod root;
mod source;
mod streams;
mod sweep;
#[cfg(test)]
mod tools;
mod volume;
mod watch;

pub use error::{ContentError, FetchError, ImportError, LibraryError};
pub use examine::ImageFiles;
pub use import::{Imported, Terms};
pub use index::StoredChunk;
pub use inspect::{Layout, inspect};
pub use library::{Library, Limits};
pub use lock::FileLock;
pub use origin::{Checksum, ChecksumError, Origin};
pub use raw::Raw;
pub use sweep::{Sweep, Swept};
pub use watch::{FreeSpace, ImportProgress, Stage};

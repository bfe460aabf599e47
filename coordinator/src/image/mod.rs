//! Images: bytes of a file become chunks in a pack and a manifest, and are found again by name.
//!
//! One way in, [`Library::import`]: `source` recognises the file, `decode` unpacks it, `inspect` (with
//! `fat`, `ext4`, `family`, `architecture`) says what is in it, `pack` cuts and compresses it, `incoming`
//! makes it durable. Knows no deployment, no environment and no HTTP.

mod architecture;
mod decode;
mod error;
mod examine;
mod ext4;
mod family;
mod fat;
mod import;
mod incoming;
mod index;
mod inspect;
mod library;
mod pack;
mod raw;
mod source;
mod sweep;
#[cfg(test)]
mod tools;
mod volume;
mod watch;

pub use error::{ContentError, ImportError, LibraryError};
pub use examine::ImageFiles;
pub use import::Imported;
pub use index::StoredChunk;
pub use inspect::{Layout, inspect};
pub use library::{Library, Limits};
pub use raw::Raw;
pub use sweep::{Sweep, Swept};
pub use watch::{FreeSpace, ImportProgress, Stage};

//! The way into the library: a file becomes a pack and a manifest. Everything happens in the calling thread
//! and a few that end before the call does; nothing is remembered between calls.

use super::decode::unpack_xz;
use super::error::{ImportError, LibraryError};
use super::incoming::{Incoming, Published};
use super::inspect::{Layout, inspect};
use super::library::Library;
use super::pack::{Packed, pack};
use super::raw::Raw;
use super::source::{Source, Wrapping};
use super::watch::{ImportProgress, Watch};
use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::Manifest;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// An image that is in the library and safe from sweeps for as long as this lives.
///
/// Write down its name where the next sweep's caller looks for images to keep, then drop it.
#[derive(Debug)]
#[must_use = "a sweep removes the image unless its name is recorded before this is dropped"]
pub struct Imported {
    /// What the image consists of.
    pub manifest: Manifest,
    published: Published,
}

impl Imported {
    /// The manifest's name.
    pub fn name(&self) -> Hash {
        self.published.name
    }
}

impl Library {
    /// Imports the image in the file or block device `source`: a raw image of a disk, or one compressed by xz.
    ///
    /// Takes seconds to minutes; `progress` is called after about every megabyte, in this thread, and `stop`
    /// ends the import there. The same image has the same name every time. Of an import that fails nothing is
    /// left; of one that is killed, or whose last writes fail, only what a sweep removes.
    ///
    /// # Errors
    /// When the file is no image that can be deployed, there is no room for it, or `stop` was set.
    pub fn import(
        &self,
        source: &Path,
        progress: &mut dyn FnMut(ImportProgress),
        stop: &AtomicBool,
    ) -> Result<Imported, ImportError> {
        let mut watch = Watch::new(source, self.places.root(), self.limits.free_bytes, progress, stop);
        watch.room_for(0)?;
        let source = Source::open(source)?;
        let incoming = Incoming::create(&self.places)?;
        let raw = self.raw_image(&source, &incoming, &mut watch)?;
        let layout = inspect(&raw).map_err(|error| source.unfit(error))?;
        let pack_file = incoming.file("pack");
        let packed = pack(&source, &raw, &pack_file, &mut watch)?;
        let manifest = describe(raw.bytes(), layout, packed);
        // An unpacked image need not reach the disk, which flushing the pack would make it do on ext4.
        drop(raw);
        debug_assert_eq!(manifest.check(), Ok(()));
        let pack_name = manifest.packs[0];
        let published = incoming.publish(&pack_file, pack_name, &manifest.encode())?;
        Ok(Imported { manifest, published })
    }

    /// The image in `source`, without its wrapping.
    fn raw_image(
        &self,
        source: &Source,
        incoming: &Incoming,
        watch: &mut Watch<'_>,
    ) -> Result<Raw, ImportError> {
        let limit = self.limits.image_bytes;
        let file = match source.wrapping {
            Wrapping::None => source.file.try_clone().map_err(|error| source.unreadable(error))?,
            Wrapping::Xz => {
                let path = incoming.file("raw");
                let file = unpack_xz(source, &path, limit, watch)?;
                // Its space is free again as soon as the last handle is closed.
                fs::remove_file(&path).map_err(LibraryError::io("remove", &path))?;
                file
            }
        };
        let raw = Raw::new(file).map_err(|error| source.unreadable(error))?;
        match raw.bytes() {
            bytes if bytes > limit => Err(ImportError::TooLong { path: source.path.clone(), limit }),
            _ => Ok(raw),
        }
    }
}

fn describe(image_bytes: u64, layout: Layout, packed: Packed) -> Manifest {
    Manifest {
        image_bytes,
        whole: packed.whole,
        disk_id: layout.disk_id,
        partitions: layout.partitions,
        boot: layout.boot,
        root: layout.root,
        family: layout.family,
        family_evidence: layout.family_evidence,
        architecture: layout.architecture,
        packs: vec![packed.name],
        chunks: packed.chunks,
    }
}

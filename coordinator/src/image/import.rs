//! The way into the library: a file becomes a pack and a manifest. Everything happens in the calling thread
//! and a few that end before the call does; nothing is remembered between calls.

use super::architecture::RASPBERRY_PI;
use super::decode::unpack;
use super::error::{ContentError, ImportError, LibraryError};
use super::extents::Extents;
use super::fetch::fetch;
use super::incoming::{Incoming, Published};
use super::inspect::{Layout, inspect};
use super::library::Library;
use super::origin::{Checksum, Origin};
use super::pack::{Packed, pack};
use super::raw::Raw;
use super::source::{Source, compare_sums};
use super::watch::{ImportProgress, Watch};
use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::Manifest;
use std::fs::{self, File};
use std::sync::atomic::AtomicBool;

/// What an image must be to be imported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// The checksum of the file as it is given.
    pub checksum: Option<Checksum>,
    /// Whether its programs may be for machines that are no Raspberry Pis.
    pub any_architecture: bool,
}

impl Terms {
    fn check(&self, layout: &Layout) -> Result<(), ContentError> {
        match &layout.architecture {
            Some(found) if !self.any_architecture && !RASPBERRY_PI.contains(&found.as_str()) => {
                Err(ContentError::Architecture { found: found.clone() })
            }
            // What is not known may be a system for anything.
            _ => Ok(()),
        }
    }
}

/// An image that is in the library and safe from sweeps for as long as this lives.
///
/// Write down its name where the next sweep's caller looks for images to keep, then drop it.
#[derive(Debug)]
#[must_use = "a sweep removes the image unless its name is recorded before this is dropped"]
pub struct Imported {
    /// What the image consists of.
    pub manifest: Manifest,
    /// What the operator should know of it: partitions of which free space is stored, too, and why.
    pub remarks: Vec<String>,
    published: Published,
}

impl Imported {
    /// The manifest's name.
    pub fn name(&self) -> Hash {
        self.published.name
    }
}

impl Library {
    /// Imports the image at `origin`: a raw image of a disk, or one in a wrapping that is recognised by its
    /// content (compressed by xz, gzip or zstd, or beside other files in a zip or tar archive).
    ///
    /// Takes seconds to minutes; `progress` is called after about every megabyte, in this thread, and `stop`
    /// ends the import there. The same image has the same name every time. Of an import that fails nothing is
    /// left; of one that is killed, or whose last writes fail, only what a sweep removes.
    ///
    /// # Errors
    /// When the file cannot be had, is no image that can be deployed or not what `terms` ask for, there is no
    /// room for it, or `stop` was set.
    pub fn import(
        &self,
        origin: &Origin,
        terms: &Terms,
        progress: &mut dyn FnMut(ImportProgress),
        stop: &AtomicBool,
    ) -> Result<Imported, ImportError> {
        let mut watch = Watch::new(origin, self.places.root(), self.limits.free_bytes, progress, stop);
        let incoming = Incoming::create(&self.places)?;
        let (raw, layout) = self.unpacked(origin, terms, &incoming, &mut watch)?;
        let (extents, remarks) = Extents::of(&raw, &layout.partitions);
        let pack_file = incoming.file("pack");
        let packed = pack(origin, &raw, &extents, &pack_file, &mut watch)?;
        let manifest = describe(raw.bytes(), layout, packed);
        // An unpacked image need not reach the disk, which flushing the pack would make it do on ext4.
        drop(raw);
        debug_assert_eq!(manifest.check(), Ok(()));
        let pack_name = manifest.packs[0];
        let published = incoming.publish(&pack_file, pack_name, &manifest.encode())?;
        Ok(Imported { manifest, remarks, published })
    }

    /// Unpacks the image at `origin`, as [`Library::import`] does, and says what is in it. The library keeps nothing of it: its
    /// space is free again when the returned image is dropped.
    ///
    /// # Errors
    /// As [`Library::import`].
    pub fn open_image(
        &self,
        origin: &Origin,
        terms: &Terms,
        progress: &mut dyn FnMut(ImportProgress),
        stop: &AtomicBool,
    ) -> Result<(Raw, Layout), ImportError> {
        let mut watch = Watch::new(origin, self.places.root(), self.limits.free_bytes, progress, stop);
        self.unpacked(origin, terms, &Incoming::create(&self.places)?, &mut watch)
    }

    fn unpacked(
        &self,
        origin: &Origin,
        terms: &Terms,
        incoming: &Incoming,
        watch: &mut Watch<'_>,
    ) -> Result<(Raw, Layout), ImportError> {
        watch.room_for(0)?;
        let source = self.source(origin, terms.checksum, incoming, watch)?;
        let raw = self.raw_image(source, incoming, watch)?;
        let unfit = |source| ImportError::Content { origin: origin.clone(), source };
        let layout = inspect(&raw).map_err(unfit)?;
        terms.check(&layout).map_err(unfit)?;
        Ok((raw, layout))
    }

    /// The file at `origin`, which has `checksum` if there is one.
    fn source(
        &self,
        origin: &Origin,
        checksum: Option<Checksum>,
        incoming: &Incoming,
        watch: &mut Watch<'_>,
    ) -> Result<Source, ImportError> {
        match origin {
            Origin::File(path) => {
                let source = Source::open(path)?;
                checksum.map_or(Ok(()), |expected| source.check_sum(expected, watch))?;
                Ok(source)
            }
            Origin::Address(address) => {
                let path = incoming.file("fetched");
                let found = fetch(address, &path, self.limits.image_bytes, watch)?;
                checksum.map_or(Ok(()), |expected| compare_sums(origin, expected, found))?;
                let file = File::open(&path).map_err(LibraryError::io("open", &path))?;
                // Its space is free again as soon as the last handle is closed.
                fs::remove_file(&path).map_err(LibraryError::io("remove", &path))?;
                Source::new(origin.clone(), file)
            }
        }
    }

    /// The image in `source`, without its wrapping.
    fn raw_image(
        &self,
        source: Source,
        incoming: &Incoming,
        watch: &mut Watch<'_>,
    ) -> Result<Raw, ImportError> {
        let limit = self.limits.image_bytes;
        let origin = source.origin.clone();
        let file = match source.wrapping {
            None => source.file,
            Some(wrapping) => {
                let path = incoming.file("raw");
                let file = unpack(&source, wrapping, &path, limit, watch)?;
                fs::remove_file(&path).map_err(LibraryError::io("remove", &path))?;
                file
            }
        };
        let raw = Raw::new(file).map_err(|source| ImportError::Source { origin: origin.clone(), source })?;
        match raw.bytes() {
            bytes if bytes > limit => Err(ImportError::TooLong { origin, limit }),
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

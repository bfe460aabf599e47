//! Finds chunks by their hashes, from the manifests on disk, and judges whether their packs are whole.
//!
//! Manifests appear and disappear under the hands of other processes, so the index is refreshed whenever
//! something is not where it should be; nothing else tells it.

use super::error::LibraryError;
use super::library::Places;
use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::{ChunkKind, Manifest};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Where a chunk lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// The pack's file.
    pub pack: PathBuf,
    /// Where its zstd frame begins there, in bytes.
    pub offset: u64,
    /// How long the frame is, in bytes.
    pub stored: u32,
    /// How long the chunk is, unpacked, in bytes.
    pub bytes: u32,
}

impl StoredChunk {
    /// Reads the chunk's zstd frame.
    ///
    /// # Errors
    /// When the pack cannot be read. Whether the bytes are right only their hash can tell.
    pub fn frame(&self) -> Result<Vec<u8>, LibraryError> {
        let mut frame = vec![0; self.stored as usize];
        File::open(&self.pack)
            .and_then(|pack| pack.read_exact_at(&mut frame, self.offset))
            .map_err(LibraryError::io("read", &self.pack))?;
        Ok(frame)
    }
}

/// Every data chunk of every manifest.
#[derive(Debug, Default)]
pub(super) struct Index {
    manifests: HashSet<Hash>,
    /// Manifests that were found damaged, and of which that was said.
    damaged: HashSet<Hash>,
    packs: Vec<Pack>,
    chunks: HashMap<Hash, Location>,
}

#[derive(Debug)]
struct Pack {
    name: Hash,
    /// How long it is at least: to the end of the last chunk that a manifest places in it.
    bytes: u64,
}

impl Pack {
    /// Where it is, unless it is missing or lost its end.
    fn find(&self, places: &Places) -> Result<PathBuf, LibraryError> {
        let path = places.pack(self.name);
        match path.metadata() {
            Ok(file) if file.len() < self.bytes => {
                Err(LibraryError::PackCutOff { path, found: file.len(), expected: self.bytes })
            }
            Ok(_) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(LibraryError::PackMissing { pack: self.name, directory: places.packs() })
            }
            Err(error) => Err(LibraryError::io("examine", &path)(error)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Location {
    pack: usize,
    offset: u64,
    stored: u32,
    bytes: u32,
}

impl Index {
    /// Where chunk `hash` lies.
    pub(super) fn find(&mut self, places: &Places, hash: Hash) -> Result<Option<StoredChunk>, LibraryError> {
        if let Ok(Some(found)) = self.look_up(places, hash) {
            return Ok(Some(found));
        }
        self.refresh(places)?;
        self.look_up(places, hash)
    }

    fn look_up(&self, places: &Places, hash: Hash) -> Result<Option<StoredChunk>, LibraryError> {
        let Some(at) = self.chunks.get(&hash) else { return Ok(None) };
        let pack = self.packs[at.pack].find(places)?;
        let Location { offset, stored, bytes, .. } = *at;
        Ok(Some(StoredChunk { pack, offset, stored, bytes }))
    }

    /// The packs of `manifest`, each of which is there and has all that the manifest places in it.
    pub(super) fn packs_of(manifest: &Manifest, places: &Places) -> Result<Vec<PathBuf>, LibraryError> {
        let mut index = Index::default();
        index.add(manifest);
        index.packs.iter().map(|pack| pack.find(places)).collect()
    }

    /// Reads manifests that appeared; starts anew when one disappeared.
    pub(super) fn refresh(&mut self, places: &Places) -> Result<(), LibraryError> {
        let present: HashSet<Hash> = Places::names(&places.manifests())?.into_iter().collect();
        if !self.manifests.is_subset(&present) {
            *self = Index::default();
        }
        for name in present {
            if self.manifests.contains(&name) {
                continue;
            }
            match places.manifest(name) {
                Ok(Some(manifest)) => {
                    self.add(&manifest);
                    self.manifests.insert(name);
                }
                // Removed since it was listed.
                Ok(None) => {}
                // Whoever asks for this image gets the error; others are not to be affected.
                Err(error) if self.damaged.insert(name) => {
                    tracing::error!(manifest = %name, %error, "an image cannot be used");
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, manifest: &Manifest) {
        let packs: Vec<usize> = manifest.packs.iter().map(|name| self.pack(*name)).collect();
        for (index, chunk) in manifest.chunks.iter().enumerate() {
            if chunk.kind != ChunkKind::Data {
                continue;
            }
            let pack = packs[usize::from(chunk.pack)];
            let end = chunk.offset + u64::from(chunk.stored);
            self.packs[pack].bytes = self.packs[pack].bytes.max(end);
            self.chunks.entry(chunk.hash).or_insert(Location {
                pack,
                offset: chunk.offset,
                stored: chunk.stored,
                bytes: manifest.chunk_bytes(index),
            });
        }
    }

    /// The place of pack `name` in the list, where it is put if it is new.
    fn pack(&mut self, name: Hash) -> usize {
        let known = self.packs.iter().position(|pack| pack.name == name);
        known.unwrap_or_else(|| {
            self.packs.push(Pack { name, bytes: 0 });
            self.packs.len() - 1
        })
    }
}

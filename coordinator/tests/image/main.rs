//! The image library, end to end: images of small disks go in by `import` and come out chunk by chunk.
//!
//! `disk.rs` makes the images; `formats.rs` and `fetch.rs` have the ways in, `extents.rs` what is left out,
//! `system.rs` what is found inside; `hostile.rs` has what must be refused; `lifetime.rs` what dies in between.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

mod disk;
mod extents;
mod fetch;
mod formats;
mod hostile;
mod lifetime;
mod space;
mod system;

use disk::{debian_disk, xz};
use piseduce_coordinator::image::{
    ImportError, ImportProgress, Imported, Library, LibraryError, Limits, Origin, Stage, Terms,
};
use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::{CHUNK_BYTES, ChunkKind, FileSystem, Manifest};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A library in a new directory that does not mind how full the disk is.
struct Fixture {
    library: Library,
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = open(directory.path());
        Fixture { library, directory }
    }

    fn import(&self, source: &Path) -> Result<Imported, ImportError> {
        self.import_from(&source.into(), &Terms::default())
    }

    fn import_from(&self, origin: &Origin, terms: &Terms) -> Result<Imported, ImportError> {
        self.library.import(origin, terms, &mut |_| {}, &AtomicBool::new(false))
    }

    /// The number of files and directories in one of the library's directories.
    fn count(&self, directory: &str) -> usize {
        fs::read_dir(library_in(self.directory.path()).join(directory)).unwrap().count()
    }
}

fn library_in(directory: &Path) -> std::path::PathBuf {
    directory.join("library")
}

fn open(directory: &Path) -> Library {
    let limits = Limits { free_bytes: 0, ..Limits::default() };
    Library::open(&library_in(directory), limits).unwrap()
}

/// An error with its sources, as an operator sees it.
fn said(error: &dyn Error) -> String {
    let source = error.source().map(|source| format!(": {}", said(source)));
    format!("{error}{}", source.unwrap_or_default())
}

/// Imports `path`, which must be refused with these words and leave nothing.
#[track_caller]
fn refused(fixture: &Fixture, path: &Path, words: &str) -> ImportError {
    let error = fixture.import(path).expect_err(words);
    let said = said(&error);
    assert!(said.contains(words), "{said:?} does not contain {words:?}");
    let left = ["packs", "manifests", "incoming"].map(|directory| fixture.count(directory));
    assert_eq!(left, [0; 3], "{said}");
    error
}

/// The image that `manifest` describes, put together from the library's chunks, each checked against its hash;
/// what is unallocated is zero.
fn reassemble(library: &Library, manifest: &Manifest) -> Vec<u8> {
    let mut image = Vec::new();
    for (index, chunk) in manifest.chunks.iter().enumerate() {
        let bytes = manifest.chunk_bytes(index) as usize;
        let raw = match chunk.kind {
            ChunkKind::Data => {
                let stored = library.chunk(chunk.hash).unwrap().expect("the chunk is in the library");
                assert_eq!(stored.bytes as usize, bytes, "chunk {index}");
                zstd::bulk::decompress(&stored.frame().unwrap(), bytes).unwrap()
            }
            ChunkKind::Zero | ChunkKind::Unallocated => vec![0; bytes],
        };
        assert_eq!(Hash::of(&raw), chunk.hash, "chunk {index}");
        image.extend(raw);
    }
    image
}

#[test]
fn an_image_comes_out_as_it_went_in_whatever_its_wrapping() {
    let fixture = Fixture::new();
    let raw = debian_disk(fixture.directory.path());
    let bytes = fs::read(&raw).unwrap();
    let imported = fixture.import(&raw).unwrap();
    let manifest = &imported.manifest;
    assert!(reassemble(&fixture.library, manifest) == bytes, "the image differs");
    assert_eq!((manifest.whole, manifest.image_bytes), (Hash::of(&bytes), bytes.len() as u64));
    assert_eq!(fixture.library.manifest_bytes(imported.name()).unwrap().unwrap(), manifest.encode());
    assert_eq!(*fixture.library.manifest(imported.name()).unwrap().unwrap(), *manifest);
    assert_eq!(Hash::of(&manifest.encode()), imported.name());

    let again = fixture.import(&raw).unwrap();
    let unpacked = fixture.import(&xz(&raw)).unwrap();
    assert_eq!([again.name(), unpacked.name()], [imported.name(); 2]);
    assert_eq!((fixture.count("packs"), fixture.count("manifests"), fixture.count("incoming")), (1, 1, 0));
}

#[test]
fn a_manifest_says_what_is_in_the_image() {
    let fixture = Fixture::new();
    let manifest = fixture.import(&debian_disk(fixture.directory.path())).unwrap().manifest;
    let partitions: Vec<_> =
        manifest.partitions.iter().map(|p| (p.file_system, p.label.as_deref())).collect();
    assert_eq!(partitions, [(FileSystem::Fat, Some("BOOTFS")), (FileSystem::Ext4, Some("rootfs"))]);
    assert_eq!((manifest.disk_id, manifest.boot, manifest.root), (0x1234_abcd, Some(1), Some(2)));
    assert_eq!((manifest.family.as_str(), manifest.architecture.as_deref()), ("debian", Some("aarch64")));
    let evidence = "debian 12: os-release, systemd, user pi (uid 1000), reports by curl";
    assert_eq!(manifest.family_evidence, evidence);
}

#[test]
fn equal_chunks_are_stored_once_and_zeros_not_at_all() {
    let fixture = Fixture::new();
    let manifest = fixture.import(&debian_disk(fixture.directory.path())).unwrap().manifest;
    let [one, other] = [34, 36].map(|index: usize| &manifest.chunks[index]);
    assert_eq!((one.hash, one.offset, one.kind), (other.hash, other.offset, ChunkKind::Data));
    let zero = manifest.chunks.iter().find(|chunk| chunk.kind == ChunkKind::Zero).unwrap();
    assert_eq!(zero.hash, Hash::of(&[0; CHUNK_BYTES as usize]));
    assert_eq!(fixture.library.chunk(zero.hash).unwrap(), None);
    let ends = manifest.chunks.iter().map(|chunk| chunk.offset + u64::from(chunk.stored)).max();
    let pack = library_in(fixture.directory.path()).join("packs").join(manifest.packs[0].to_string());
    assert_eq!(ends, Some(pack.metadata().unwrap().len()));
    assert_eq!(Hash::of(&fs::read(pack).unwrap()), manifest.packs[0]);
}

#[test]
fn streams_of_xz_may_follow_each_other_with_padding_between() {
    let fixture = Fixture::new();
    let raw = debian_disk(fixture.directory.path());
    let bytes = fs::read(&raw).unwrap();
    let mut joined = Vec::new();
    for (index, part) in bytes.chunks(20 << 20).enumerate() {
        let path = fixture.directory.path().join(format!("part{index}.img"));
        fs::write(&path, part).unwrap();
        joined.extend(fs::read(xz(&path)).unwrap());
        joined.extend([0; 8]);
    }
    let path = fixture.directory.path().join("joined");
    fs::write(&path, joined).unwrap();
    assert_eq!(fixture.import(&path).unwrap().manifest.whole, Hash::of(&bytes));
}

#[test]
fn an_image_is_padded_to_whole_sectors() {
    let fixture = Fixture::new();
    let raw = debian_disk(fixture.directory.path());
    let mut bytes = fs::read(&raw).unwrap();
    bytes.extend(b"tail");
    fs::write(&raw, &bytes).unwrap();
    let manifest = fixture.import(&raw).unwrap().manifest;
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    assert_eq!((manifest.image_bytes, manifest.whole), (bytes.len() as u64, Hash::of(&bytes)));
}

#[test]
fn progress_goes_from_nothing_to_all_of_both_stages() {
    let fixture = Fixture::new();
    let packed = xz(&debian_disk(fixture.directory.path()));
    let mut seen: Vec<ImportProgress> = Vec::new();
    let mut see = |progress| seen.push(progress);
    let imported =
        fixture.library.import(&(&*packed).into(), &Terms::default(), &mut see, &AtomicBool::new(false));
    let image_bytes = imported.unwrap().manifest.image_bytes;
    let totals = [(Stage::Decoding, packed.metadata().unwrap().len()), (Stage::Packing, image_bytes)];
    for (stage, total) in totals {
        let stage: Vec<_> = seen.iter().filter(|progress| progress.stage == stage).collect();
        assert!(stage.len() as u64 >= image_bytes >> 20, "{stage:?}");
        assert!(stage.is_sorted_by_key(|progress| progress.done), "{stage:?}");
        assert!(stage.iter().all(|progress| progress.total == Some(total)), "{stage:?}");
        assert_eq!(stage.last().unwrap().done, total);
    }
    assert!(seen.is_sorted_by_key(|progress| progress.stage == Stage::Packing));
}

#[test]
fn chunks_that_another_process_imported_or_removed_are_noticed() {
    let fixture = Fixture::new();
    let serving = open(fixture.directory.path());
    let manifest = fixture.import(&debian_disk(fixture.directory.path())).unwrap().manifest;
    let hash = manifest.chunks[0].hash;
    assert!(serving.chunk(hash).unwrap().is_some());
    fixture.library.begin_sweep().unwrap().unwrap().finish(&[].into()).unwrap();
    assert_eq!(serving.chunk(hash).unwrap(), None);
}

#[test]
fn a_pack_that_lost_its_end_is_named_until_the_image_is_imported_again() {
    let fixture = Fixture::new();
    let raw = debian_disk(fixture.directory.path());
    let manifest = fixture.import(&raw).unwrap().manifest;
    let hash = manifest.chunks[0].hash;
    let stored = fixture.library.chunk(hash).unwrap().unwrap();
    let pack = fs::File::options().write(true).open(&stored.pack).unwrap();
    pack.set_len(1000).unwrap();
    for library in [&fixture.library, &open(fixture.directory.path())] {
        let error = library.chunk(hash).unwrap_err();
        assert!(matches!(error, LibraryError::PackCutOff { found: 1000, .. }), "{error}");
        assert!(error.to_string().ends_with("import the image again"), "{error}");
    }
    fs::remove_file(&stored.pack).unwrap();
    assert!(matches!(fixture.library.chunk(hash), Err(LibraryError::PackMissing { .. })));
    drop(fixture.import(&raw).unwrap());
    assert!(reassemble(&fixture.library, &manifest) == fs::read(&raw).unwrap());
}

#[test]
fn a_manifest_that_was_changed_is_an_error_and_no_image() {
    let fixture = Fixture::new();
    let raw = debian_disk(fixture.directory.path());
    let imported = fixture.import(&raw).unwrap();
    let (name, hash) = (imported.name(), imported.manifest.chunks[0].hash);
    let path = library_in(fixture.directory.path()).join("manifests").join(name.to_string());
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let library = open(fixture.directory.path());
    assert!(matches!(library.manifest(name), Err(LibraryError::ManifestChanged { .. })));
    assert_eq!(library.chunk(hash).unwrap(), None);
    drop(imported);
    drop(fixture.import(&raw).unwrap());
    assert!(library.chunk(hash).unwrap().is_some());
}

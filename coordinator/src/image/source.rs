//! The file that is imported: opened, and recognised by its content, never by its name.
//!
//! What is not an image and not a known wrapping of one is named here, when it has a mark of its own;
//! `inspect.rs` judges what seems to be a disk. Next: `decode.rs` for the wrappings.

use super::error::{ContentError, ImportError};
use super::origin::{Checksum, Origin, Summing};
use super::watch::{ImportProgress, Stage, Watch};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

/// How the image lies in a file that is not the image itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    Compressed(Compression),
    /// In an archive, beside other files.
    Archived(Archive),
}

/// The compressions that are unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Xz,
    Gzip,
    Zstd,
}

/// The archives that are looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Archive {
    Zip,
    /// Compressed or not.
    Tar,
}

impl Archive {
    pub(super) fn name(self) -> &'static str {
        match self {
            Archive::Zip => "zip",
            Archive::Tar => "tar",
        }
    }
}

impl Wrapping {
    /// What such a file is called where it must not be.
    pub(super) fn what(self) -> &'static str {
        match self {
            Wrapping::Compressed(Compression::Xz) => "an xz file",
            Wrapping::Compressed(Compression::Gzip) => "a gzip file",
            Wrapping::Compressed(Compression::Zstd) => "a zstd file",
            Wrapping::Archived(Archive::Zip) => "a zip archive",
            Wrapping::Archived(Archive::Tar) => "a tar archive",
        }
    }
}

/// A wrapping's mark, and where it is.
const WRAPPINGS: [(usize, &[u8], Wrapping); 6] = [
    (0, b"\xfd7zXZ\0", Wrapping::Compressed(Compression::Xz)),
    (0, b"\x1f\x8b\x08", Wrapping::Compressed(Compression::Gzip)),
    (0, b"\x28\xb5\x2f\xfd", Wrapping::Compressed(Compression::Zstd)),
    (0, b"PK\x03\x04", Wrapping::Archived(Archive::Zip)),
    // Without any file.
    (0, b"PK\x05\x06", Wrapping::Archived(Archive::Zip)),
    (257, b"ustar", Wrapping::Archived(Archive::Tar)),
];
/// A zstd file may begin with a frame that is to be skipped: pzstd writes some. The lowest four bits are free.
const ZSTD_SKIPPED: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// Something that is recognised only to be refused.
struct Foreign {
    /// Where its mark is.
    at: usize,
    mark: &'static [u8],
    what: &'static str,
    remedy: &'static str,
}

const fn foreign(at: usize, mark: &'static [u8], what: &'static str, remedy: &'static str) -> Foreign {
    Foreign { at, mark, what, remedy }
}

/// Marks as in the `file` program's magic, the strong ones only: four bytes or more, or at the beginning.
const FOREIGN: [Foreign; 12] = [
    foreign(0, b"BZh", "a bzip2 file", "unpack it first, with bunzip2"),
    foreign(0, b"\x04\x22\x4d\x18", "an lz4 file", "unpack it first, with unlz4"),
    foreign(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first and import the image inside"),
    foreign(32_769, b"CD001", "an ISO 9660 image, which installs a system", "import the image of a disk"),
    foreign(0, b"QFI\xfb", "a qcow2 image", "convert it first, with qemu-img convert -O raw"),
    foreign(0, b"KDMV", "a VMDK image", "convert it first, with qemu-img convert -O raw"),
    foreign(0, b"hsqs", "a squashfs file system", "import the image of a whole disk with partitions"),
    foreign(0, b"XFSB", "an XFS file system", "import the image of a whole disk with partitions"),
    foreign(65_600, b"_BHRfS_M", "a btrfs file system", "import the image of a whole disk with partitions"),
    foreign(0, b"<!DOCTYPE", "a web page", "check the address from which it was downloaded"),
    foreign(0, b"<!doctype", "a web page", "check the address from which it was downloaded"),
    foreign(0, b"<html", "a web page", "check the address from which it was downloaded"),
];

/// How much is looked at: to the end of the mark that lies farthest behind.
pub(super) const HEAD_BYTES: usize = 65_608;
/// The file is read in pieces of this length to add up its checksum.
const PIECE_BYTES: usize = 1 << 20;

/// An image file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) origin: Origin,
    pub(super) file: File,
    pub(super) bytes: u64,
    /// None when it may be the image itself.
    pub(super) wrapping: Option<Wrapping>,
}

impl Source {
    /// Opens and recognises the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let origin = Origin::from(path);
        let unreadable = |source| ImportError::Source { origin: origin.clone(), source };
        // Before it is opened: opening a pipe would wait for its writer.
        let kind = path.metadata().map_err(unreadable)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(ImportError::NotAFile { origin });
        }
        let file = File::open(path).map_err(unreadable)?;
        Source::new(origin, file)
    }

    /// Recognises `file`, which came from `origin`.
    pub(super) fn new(origin: Origin, mut file: File) -> Result<Self, ImportError> {
        let read = head(&mut file);
        let (bytes, head) = read.map_err(|source| ImportError::Source { origin: origin.clone(), source })?;
        match recognise(&head) {
            Ok(wrapping) => Ok(Source { origin, file, bytes, wrapping }),
            Err(source) => Err(ImportError::Content { origin, source }),
        }
    }

    /// Compares the file's checksum with the one that is expected.
    pub(super) fn check_sum(&self, expected: Checksum, watch: &mut Watch<'_>) -> Result<(), ImportError> {
        let mut sum = Summing::default();
        let mut piece = vec![0; PIECE_BYTES];
        let mut done = 0;
        while done < self.bytes {
            let length = usize::try_from(self.bytes - done).unwrap_or(usize::MAX).min(PIECE_BYTES);
            self.file.read_exact_at(&mut piece[..length], done).map_err(|error| self.unreadable(error))?;
            sum.add(&piece[..length]);
            done += length as u64;
            watch.report(ImportProgress { stage: Stage::Checking, done, total: Some(self.bytes) })?;
        }
        compare_sums(&self.origin, expected, sum.finish())
    }

    /// For `map_err`: the file cannot be read.
    pub(super) fn unreadable(&self, source: io::Error) -> ImportError {
        ImportError::Source { origin: self.origin.clone(), source }
    }

    /// For `map_err`: the file cannot be deployed.
    pub(super) fn unfit(&self, source: ContentError) -> ImportError {
        ImportError::Content { origin: self.origin.clone(), source }
    }
}

/// Whether what came from `origin` is what was expected.
pub(super) fn compare_sums(origin: &Origin, expected: Checksum, found: Checksum) -> Result<(), ImportError> {
    match found == expected {
        true => Ok(()),
        false => Err(ImportError::Checksum { origin: origin.clone(), expected, found }),
    }
}

/// The file's length and first bytes; it is left at its beginning.
fn head(file: &mut File) -> io::Result<(u64, Vec<u8>)> {
    let bytes = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut head = Vec::new();
    Read::by_ref(file).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    file.rewind()?;
    Ok((bytes, head))
}

/// How the image lies in a file that begins with `head`; none when it may be the image itself.
pub(super) fn recognise(head: &[u8]) -> Result<Option<Wrapping>, ContentError> {
    if head.is_empty() {
        return Err(ContentError::Empty);
    }
    let has = |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
    if let Some((_, _, wrapping)) = WRAPPINGS.iter().find(|(at, mark, _)| has(*at, mark)) {
        return Ok(Some(*wrapping));
    }
    if head.len() >= 4 && [head[0] & 0xf0, head[1], head[2], head[3]] == ZSTD_SKIPPED {
        return Ok(Some(Wrapping::Compressed(Compression::Zstd)));
    }
    match FOREIGN.iter().find(|foreign| has(foreign.at, foreign.mark)) {
        Some(Foreign { what, remedy, .. }) => Err(ContentError::Foreign { what, remedy }),
        None => Ok(None),
    }
}

//! The file that is imported: opened, and recognised by its content, never by its name.
//!
//! What is not an image and not a known wrapping of one is named here, when it has a mark of its own;
//! `inspect.rs` judges what seems to be a disk. Next: `decode.rs` for the wrappings.

use super::error::{ContentError, ImportError};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// How the image lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// As it is.
    None,
    /// Compressed by xz.
    Xz,
}

const XZ: &[u8] = b"\xfd7zXZ\0";

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
const FOREIGN: [Foreign; 16] = [
    foreign(0, b"\x1f\x8b", "a gzip file", "unpack it first, with gunzip"),
    foreign(0, b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it first, with unzstd"),
    foreign(0, b"PK\x03\x04", "a zip archive", "unpack it first, with unzip, and import the image inside"),
    foreign(0, b"BZh", "a bzip2 file", "unpack it first, with bunzip2"),
    foreign(0, b"\x04\x22\x4d\x18", "an lz4 file", "unpack it first, with unlz4"),
    foreign(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first and import the image inside"),
    foreign(257, b"ustar", "a tar archive", "unpack it first and import the image inside"),
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
const HEAD_BYTES: usize = 65_608;

/// An image file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) wrapping: Wrapping,
}

impl Source {
    /// Opens and recognises `path`.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let unreadable = |source| ImportError::Source { path: path.to_owned(), source };
        // Before it is opened: opening a pipe would wait for its writer.
        let kind = path.metadata().map_err(unreadable)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(ImportError::NotAFile { path: path.to_owned() });
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let (bytes, head) = head(&mut file).map_err(unreadable)?;
        let wrapping = recognise(&head);
        let wrapping = wrapping.map_err(|source| ImportError::Content { path: path.to_owned(), source })?;
        Ok(Source { path: path.to_owned(), file, bytes, wrapping })
    }

    /// For `map_err`: the file cannot be read.
    pub(super) fn unreadable(&self, source: io::Error) -> ImportError {
        ImportError::Source { path: self.path.clone(), source }
    }

    /// For `map_err`: the file cannot be deployed.
    pub(super) fn unfit(&self, source: ContentError) -> ImportError {
        ImportError::Content { path: self.path.clone(), source }
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

/// How the image lies in a file that begins with `head`.
pub(super) fn recognise(head: &[u8]) -> Result<Wrapping, ContentError> {
    if head.is_empty() {
        return Err(ContentError::Empty);
    }
    if head.starts_with(XZ) {
        return Ok(Wrapping::Xz);
    }
    let is = |foreign: &&Foreign| head.get(foreign.at..).is_some_and(|rest| rest.starts_with(foreign.mark));
    match FOREIGN.iter().find(is) {
        Some(Foreign { what, remedy, .. }) => Err(ContentError::Foreign { what, remedy }),
        None => Ok(Wrapping::None),
    }
}

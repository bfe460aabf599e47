//! Finds the one image in a zip or tar archive.
//!
//! It is known by its content: a boot sector's signature. Names are for messages only, so no path in an archive
//! leads anywhere, and what else lies beside the image is left out. What an archive says of itself (names,
//! attributes, its list of files) is read within a limit. Knows nothing of how bytes are decompressed or
//! written down; see `decode.rs`.

use super::decode::{Unpacking, head};
use super::error::{ContentError, ImportError};
use super::source::{Archive, Source, recognise};
use super::streams::explain;
use ::zip::CompressionMethod;
use ::zip::read::{ArchiveOffset, Config};
use ::zip::result::ZipError;
use std::cell::Cell;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// How much of a tar archive is read between two files.
const TAR_HEADERS_BYTES_MAX: u64 = 1 << 20;
/// How much of a zip archive is read to find its files: some 50,000 of them.
const ZIP_LIST_BYTES_MAX: u64 = 4 << 20;
/// The most that is shown of a file's name.
const NAME_CHARS_MAX: usize = 100;
/// Attributes of files whose holes are left out, in archives of the POSIX format.
const SPARSE_KEY: &str = "GNU.sparse.";
const ELSEWHERE: &str = "unpack the archive and import that file";

/// Unpacks the image in the tar archive that `reader` reads.
pub(super) fn tar(unpacking: &mut Unpacking<'_, '_>, reader: &mut dyn Read) -> Result<(), ImportError> {
    let source = unpacking.source;
    let failed = |error| explain(source, error);
    let left = Cell::new(TAR_HEADERS_BYTES_MAX);
    let mut archive = ::tar::Archive::new(Guarded { reader, left: &left });
    let mut search = Search::new(Archive::Tar);
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        // A file's own content is bounded by what is unpacked of it.
        left.set(u64::MAX);
        let kind = entry.header().entry_type();
        if kind.is_file() || kind.is_gnu_sparse() {
            let mut keys = entry.pax_extensions().map_err(failed)?.into_iter().flatten().flatten();
            if keys.any(|pair| pair.key().is_ok_and(|key| key.starts_with(SPARSE_KEY))) {
                let (archive, what) = (Archive::Tar.name(), "a file that is stored without its holes");
                return Err(source.unfit(ContentError::Archive { archive, what }));
            }
            let (name, bytes) = (shown(&entry.path_bytes()), entry.size());
            search.look(unpacking, name, bytes, &mut entry)?;
        }
        unpacking.leave_out(&mut entry)?;
        left.set(TAR_HEADERS_BYTES_MAX);
    }
    // What wraps the archive is checked at its end.
    left.set(u64::MAX);
    unpacking.leave_out(&mut archive.into_inner())?;
    search.finish(source)
}

/// Unpacks the image in the zip archive that is to be unpacked.
pub(super) fn zip(unpacking: &mut Unpacking<'_, '_>) -> Result<(), ImportError> {
    let source = unpacking.source;
    let failed = |error| explain_zip(source, error);
    let left = Cell::new(ZIP_LIST_BYTES_MAX);
    let reader = Guarded { reader: BufReader::new(&source.file), left: &left };
    // It begins with the file: that is how it was recognised.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ::zip::ZipArchive::with_config(config, reader).map_err(failed)?;
    left.set(u64::MAX);
    let mut search = Search::new(Archive::Zip);
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(failed)?;
        if entry.is_file() {
            if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
                return Err(unsupported(source, "a compression that is not supported"));
            }
            let (name, bytes) = (shown(entry.name_raw()), entry.size());
            search.look(unpacking, name, bytes, &mut entry)?;
        }
    }
    search.finish(source)
}

/// What a failure of the zip archive `source` means.
fn explain_zip(source: &Source, error: ZipError) -> ImportError {
    match error {
        ZipError::Io(error) => explain(source, error),
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => unsupported(source, "an encrypted file"),
        ZipError::UnsupportedArchive(_) => unsupported(source, "a part that is not supported"),
        // The list of files lies at the end, where it is missing when the file was cut off.
        other => {
            ImportError::Damaged { origin: source.origin.clone(), at: source.bytes, source: other.into() }
        }
    }
}

/// The zip archive `source` has something that is not read here.
fn unsupported(source: &Source, what: &'static str) -> ImportError {
    source.unfit(ContentError::Archive { archive: Archive::Zip.name(), what })
}

/// The search for the image in an archive.
struct Search {
    archive: Archive,
    image: Option<String>,
    /// The first file that is no image, and what it is.
    other: Option<ContentError>,
}

impl Search {
    fn new(archive: Archive) -> Self {
        Search { archive, image: None, other: None }
    }

    /// Looks at the file `name` of so many bytes; unpacks it if it is the image.
    fn look(
        &mut self,
        unpacking: &mut Unpacking<'_, '_>,
        name: String,
        bytes: u64,
        reader: &mut dyn Read,
    ) -> Result<(), ImportError> {
        let source = unpacking.source;
        let head = head(source, reader)?;
        if let Some((what, remedy)) = no_disk(head.get_ref()) {
            let archive = self.archive.name();
            self.other.get_or_insert(ContentError::NoImageInside { archive, name, what, remedy });
            return Ok(());
        }
        if let Some(first) = self.image.take() {
            let archive = self.archive.name();
            return Err(source.unfit(ContentError::SeveralInside { archive, first, second: name }));
        }
        if unpacking.write(&mut head.chain(reader))? < bytes {
            return Err(ImportError::EndsEarly { origin: source.origin.clone(), at: source.bytes });
        }
        self.image = Some(name);
        Ok(())
    }

    /// When the whole archive was looked at.
    fn finish(self, source: &Source) -> Result<(), ImportError> {
        let archive = self.archive.name();
        match (self.image, self.other) {
            (Some(_), _) => Ok(()),
            (None, Some(other)) => Err(source.unfit(other)),
            (None, None) => Err(source.unfit(ContentError::EmptyArchive { archive })),
        }
    }
}

/// What a file that begins with `head` is and what to do with it; none when it may be the image of a disk.
fn no_disk(head: &[u8]) -> Option<(&'static str, &'static str)> {
    match recognise(head) {
        Ok(Some(wrapping)) => Some((wrapping.what(), ELSEWHERE)),
        Ok(None) if head.get(510..512) == Some(&[0x55, 0xaa]) => None,
        Ok(None) => Some(("something else", "import the image of a whole disk with partitions")),
        Err(ContentError::Foreign { what, remedy }) => Some((what, remedy)),
        Err(_) => Some(("empty", "download it again")),
    }
}

/// A name from an archive, fit to be shown.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
}

/// A reader that reads no more than what is left of a limit.
struct Guarded<'a, R> {
    reader: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Guarded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !into.is_empty() {
            let text = "what it says of its files is too long";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let length = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.reader.read(&mut into[..length])?;
        self.left.set(left - read as u64);
        Ok(read)
    }
}

impl<R: Seek> Seek for Guarded<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.reader.seek(to)
    }
}

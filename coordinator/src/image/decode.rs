//! Unpacks a wrapped image into a sparse file, because file systems are read at random places.
//!
//! Every wrapping is a reader of decoded bytes (`streams.rs`), perhaps of an archive with the image in it
//! (`archive.rs`); one loop writes them down, within the limits. Next: `inspect.rs`.

use super::archive;
use super::error::{ContentError, ImportError, LibraryError};
use super::source::{Archive, Compression, HEAD_BYTES, Source, Wrapping, recognise};
use super::streams::{decoder, explain};
use super::watch::{ImportProgress, Stage, Watch};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Decoded bytes are taken up, checked and written in pieces of this length.
const PIECE_BYTES: usize = 1 << 20;
/// Zeros of this length and alignment are left out of the file.
const HOLE_BYTES: usize = 64 << 10;

/// Unpacks the image from its `wrapping` in `source` into the new file `into`; content of more than `bytes_max` is
/// refused.
pub(super) fn unpack(
    source: &Source,
    wrapping: Wrapping,
    into: &Path,
    bytes_max: u64,
    watch: &mut Watch<'_>,
) -> Result<File, ImportError> {
    let file = File::create_new(into).map_err(LibraryError::io("create", into))?;
    let mut unpacking = Unpacking { source, into, file, bytes_max, watch, written: 0, decoded: 0 };
    match wrapping {
        Wrapping::Compressed(compression) => decompress(&mut unpacking, compression)?,
        Wrapping::Archived(Archive::Tar) => archive::tar(&mut unpacking, &mut &source.file)?,
        Wrapping::Archived(Archive::Zip) => archive::zip(&mut unpacking)?,
    }
    let Unpacking { file, written, .. } = unpacking;
    file.set_len(written).map_err(LibraryError::io("extend", into))?;
    Ok(file)
}

/// Fails early when what is inside is no image: gigabytes of something else need not be unpacked to the end.
fn decompress(unpacking: &mut Unpacking<'_, '_>, compression: Compression) -> Result<(), ImportError> {
    let source = unpacking.source;
    let mut reader = decoder(source, compression)?;
    let head = head(source, &mut reader)?;
    let inside = recognise(head.get_ref()).map_err(|content| source.unfit(content))?;
    let mut reader = head.chain(reader);
    match inside {
        None => unpacking.write(&mut reader).map(drop),
        Some(Wrapping::Archived(Archive::Tar)) => archive::tar(unpacking, &mut reader),
        Some(wrapping) => {
            let (inner, outer) = (wrapping.what(), Wrapping::Compressed(compression).what());
            Err(source.unfit(ContentError::Nested { inner, outer }))
        }
    }
}

/// The first bytes of what is in `source`.
pub(super) fn head(source: &Source, reader: &mut dyn Read) -> Result<io::Cursor<Vec<u8>>, ImportError> {
    let mut head = Vec::new();
    let read = reader.take(HEAD_BYTES as u64).read_to_end(&mut head);
    read.map_err(|error| explain(source, error)).map(|_| io::Cursor::new(head))
}

/// The file that an image is unpacked to, and what bounds it.
pub(super) struct Unpacking<'a, 'w> {
    pub(super) source: &'a Source,
    into: &'a Path,
    file: File,
    bytes_max: u64,
    watch: &'a mut Watch<'w>,
    written: u64,
    /// With what was left out.
    decoded: u64,
}

impl Unpacking<'_, '_> {
    /// Appends what `reader` decodes; how much that was, in bytes.
    pub(super) fn write(&mut self, reader: &mut dyn Read) -> Result<u64, ImportError> {
        let before = self.written;
        self.drain(reader, |this, piece| {
            this.watch.room_for(piece.len() as u64)?;
            write_sparse(&this.file, this.written, piece).map_err(LibraryError::io("write", this.into))?;
            this.written += piece.len() as u64;
            Ok(())
        })?;
        Ok(self.written - before)
    }

    /// Reads `reader` to its end, so that its checks are made, and forgets the bytes.
    pub(super) fn leave_out(&mut self, reader: &mut dyn Read) -> Result<(), ImportError> {
        self.drain(reader, |_, _| Ok(()))
    }

    fn drain(
        &mut self,
        reader: &mut dyn Read,
        mut take: impl FnMut(&mut Self, &[u8]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let source = self.source;
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            piece.clear();
            let taken = (&mut *reader).take(PIECE_BYTES as u64).read_to_end(&mut piece);
            if taken.map_err(|error| explain(source, error))? == 0 {
                return Ok(());
            }
            self.decoded += piece.len() as u64;
            if self.decoded > self.bytes_max {
                return Err(ImportError::TooLong { origin: source.origin.clone(), limit: self.bytes_max });
            }
            take(self, &piece)?;
            let done = (&source.file).stream_position().map_err(|error| source.unreadable(error))?;
            self.watch.report(ImportProgress { stage: Stage::Decoding, done, total: Some(source.bytes) })?;
        }
    }
}

fn write_sparse(file: &File, at: u64, piece: &[u8]) -> io::Result<()> {
    static ZEROS: [u8; HOLE_BYTES] = [0; HOLE_BYTES];
    for (index, block) in piece.chunks(HOLE_BYTES).enumerate() {
        if *block != ZEROS[..block.len()] {
            file.write_all_at(block, at + (index * HOLE_BYTES) as u64)?;
        }
    }
    Ok(())
}

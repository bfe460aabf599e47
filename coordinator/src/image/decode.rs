//! Unpacks a compressed image into a sparse file, because file systems are read at random places.
//!
//! Every wrapping is a reader of decoded bytes; one loop writes them down, within the limits. Next:
//! `inspect.rs`.

use super::error::{ContentError, ImportError, LibraryError};
use super::source::{Source, Wrapping, recognise};
use super::watch::{ImportProgress, Stage, Watch};
use liblzma::bufread::XzDecoder;
use liblzma::stream::MtStreamBuilder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

/// Decoded bytes are taken up, checked and written in pieces of this length.
const PIECE_BYTES: usize = 1 << 20;
/// Zeros of this length and alignment are left out of the file.
const HOLE_BYTES: usize = 64 << 10;
/// xz uses as many threads as fit into this much memory. Two of them were seen to need 143 MiB on blocks of
/// 24 MiB, as `xz -6 -T0` makes them.
const XZ_THREADS_BYTES: u64 = 256 << 20;
/// An xz file that needs more memory than this in one thread is refused: `xz -9` needs 65 MiB.
const XZ_BYTES_MAX: u64 = 512 << 20;

/// Unpacks the xz file `source` into the new file `into`; an image of more than `bytes_max` is refused.
pub(super) fn unpack_xz(
    source: &Source,
    into: &Path,
    bytes_max: u64,
    watch: &mut Watch<'_>,
) -> Result<File, ImportError> {
    let mut reader = XzStreams::new(BufReader::with_capacity(PIECE_BYTES, &source.file))
        .map_err(|error| explain(source, error))?;
    let file = File::create_new(into).map_err(LibraryError::io("create", into))?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let mut written = 0;
    loop {
        piece.clear();
        let taken = (&mut reader).take(PIECE_BYTES as u64).read_to_end(&mut piece);
        let bytes = taken.map_err(|error| explain(source, error))? as u64;
        if written == 0 {
            refuse_foreign(source, &piece)?;
        }
        if bytes == 0 {
            break;
        }
        if written + bytes > bytes_max {
            return Err(ImportError::TooLong { path: source.path.clone(), limit: bytes_max });
        }
        watch.room_for(bytes)?;
        write_sparse(&file, written, &piece).map_err(LibraryError::io("write", into))?;
        written += bytes;
        let done = (&source.file).stream_position().map_err(|error| source.unreadable(error))?;
        watch.report(ImportProgress { stage: Stage::Decoding, done, total: Some(source.bytes) })?;
    }
    file.set_len(written).map_err(LibraryError::io("extend", into))?;
    Ok(file)
}

/// Fails early when what is inside is no image: an archive of gigabytes need not be unpacked to the end.
fn refuse_foreign(source: &Source, head: &[u8]) -> Result<(), ImportError> {
    let content = match recognise(head) {
        Ok(Wrapping::None) => return Ok(()),
        Ok(Wrapping::Xz) => {
            let (what, remedy) = ("an xz file inside an xz file", "unpack it first, with unxz");
            ContentError::Foreign { what, remedy }
        }
        Err(content) => content,
    };
    Err(source.unfit(content))
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

/// What a failure of the decoder means.
fn explain(source: &Source, error: io::Error) -> ImportError {
    use liblzma::stream::Error;
    let path = source.path.clone();
    let of_decoder = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (of_decoder, error.kind()) {
        (Some(Error::MemLimit | Error::Mem), _) => ImportError::Memory { path, limit: XZ_BYTES_MAX },
        (None, io::ErrorKind::UnexpectedEof) => ImportError::EndsEarly { path, at: source.bytes },
        (None, _) if error.raw_os_error().is_some() => ImportError::Source { path, source: error },
        _ => {
            let at = (&source.file).stream_position().unwrap_or(0);
            ImportError::Damaged { path, at, source: error }
        }
    }
}

/// Decodes an xz file: one stream or several, as parallel compressors concatenate them, with padding between.
struct XzStreams<R> {
    /// None only when the next stream's decoder could not be made.
    decoder: Option<XzDecoder<R>>,
}

impl<R: BufRead> XzStreams<R> {
    fn new(reader: R) -> io::Result<Self> {
        Ok(XzStreams { decoder: Some(decoder(reader)?) })
    }

    /// Goes on to the next stream, if there is one.
    fn next_stream(&mut self) -> io::Result<bool> {
        let Some(ended) = &mut self.decoder else { return Ok(false) };
        let reader = ended.get_mut();
        loop {
            let ahead = reader.fill_buf()?;
            if ahead.is_empty() {
                return Ok(false);
            }
            let padding = ahead.iter().take_while(|byte| **byte == 0).count();
            let more = padding < ahead.len();
            reader.consume(padding);
            if more {
                break;
            }
        }
        self.decoder = self.decoder.take().map(|ended| decoder(ended.into_inner())).transpose()?;
        Ok(true)
    }
}

impl<R: BufRead> Read for XzStreams<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            match decoder.read(into)? {
                0 if self.next_stream()? => {}
                got => return Ok(got),
            }
        }
        Ok(0)
    }
}

/// A decoder of one stream that uses all processors when the stream consists of several blocks.
fn decoder<R: BufRead>(reader: R) -> io::Result<XzDecoder<R>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let stream = MtStreamBuilder::new()
        .threads(u32::try_from(threads).unwrap_or(1))
        .memlimit_threading(XZ_THREADS_BYTES)
        .memlimit_stop(XZ_BYTES_MAX)
        .decoder()?;
    Ok(XzDecoder::new_stream(reader, stream))
}

//! Decoders of compressed files as readers of decoded bytes. Each needs a bounded amount of memory, checks what
//! its format can check, and fails when the file ends early or something else follows. Next: `decode.rs`, which
//! writes the bytes down.

use super::error::ImportError;
use super::source::{Compression, Source};
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::MtStreamBuilder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::num::NonZero;
use std::thread;

/// Compressed bytes are read in pieces of this length.
const PIECE_BYTES: usize = 1 << 20;
/// xz uses as many threads as fit into this much memory. Two of them were seen to need 143 MiB on blocks of
/// 24 MiB, as `xz -6 -T0` makes them.
const XZ_THREADS_BYTES: u64 = 256 << 20;
/// An xz file that needs more memory than this in one thread is refused: `xz -9` needs 65 MiB.
const XZ_BYTES_MAX: u64 = 512 << 20;
/// A zstd file that needs a longer window is refused: `zstd --long` needs this much, `zstd -19` 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// What zstd says of a window that is too long. Its wrapper does not pass the number of the error on.
const ZSTD_MEMORY: &str = "too much memory";

/// What `source`, compressed by `compression`, decodes to.
pub(super) fn decoder(source: &Source, compression: Compression) -> Result<Box<dyn Read + '_>, ImportError> {
    let reader = BufReader::with_capacity(PIECE_BYTES, &source.file);
    let decoder = match compression {
        Compression::Xz => Streams::<XzDecoder<_>>::new(reader).map(boxed),
        Compression::Gzip => Streams::<GzDecoder<_>>::new(reader).map(boxed),
        Compression::Zstd => zstd(reader).map(boxed),
    };
    decoder.map_err(|error| explain(source, error))
}

fn boxed<'a>(reader: impl Read + 'a) -> Box<dyn Read + 'a> {
    Box::new(reader)
}

/// Takes frame after frame by itself, also those that are to be skipped.
fn zstd(reader: BufReader<&File>) -> io::Result<zstd::stream::read::Decoder<'static, BufReader<&File>>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// What a failure to decode `source` means.
pub(super) fn explain(source: &Source, error: io::Error) -> ImportError {
    use liblzma::stream::Error;
    let origin = source.origin.clone();
    let of_xz = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (of_xz, error.kind()) {
        (Some(Error::MemLimit | Error::Mem), _) => ImportError::Memory { origin, limit: XZ_BYTES_MAX },
        (None, io::ErrorKind::UnexpectedEof) => ImportError::EndsEarly { origin, at: source.bytes },
        (None, _) if error.raw_os_error().is_some() => ImportError::Source { origin, source: error },
        (None, _) if error.to_string().contains(ZSTD_MEMORY) => {
            ImportError::Memory { origin, limit: 1 << ZSTD_WINDOW_LOG_MAX }
        }
        _ => {
            let at = (&source.file).stream_position().unwrap_or(0);
            ImportError::Damaged { origin, at, source: error }
        }
    }
}

/// A decoder that ends with the stream that it was made for.
trait OneStream: Read + Sized {
    type Reader: BufRead;
    fn begin(reader: Self::Reader) -> io::Result<Self>;
    fn reader(&mut self) -> &mut Self::Reader;
    fn end(self) -> Self::Reader;
}

impl<R: BufRead> OneStream for XzDecoder<R> {
    type Reader = R;

    /// Uses all processors when the stream consists of several blocks.
    fn begin(reader: R) -> io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let stream = MtStreamBuilder::new()
            .threads(u32::try_from(threads).unwrap_or(1))
            .memlimit_threading(XZ_THREADS_BYTES)
            .memlimit_stop(XZ_BYTES_MAX)
            .decoder()?;
        Ok(XzDecoder::new_stream(reader, stream))
    }

    fn reader(&mut self) -> &mut R {
        self.get_mut()
    }

    fn end(self) -> R {
        self.into_inner()
    }
}

impl<R: BufRead> OneStream for GzDecoder<R> {
    type Reader = R;

    fn begin(reader: R) -> io::Result<Self> {
        Ok(GzDecoder::new(reader))
    }

    fn reader(&mut self) -> &mut R {
        self.get_mut()
    }

    fn end(self) -> R {
        self.into_inner()
    }
}

/// Decodes one stream or several, as parallel compressors concatenate them, with zeros between and behind them.
struct Streams<D> {
    /// None only when the next stream's decoder could not be made.
    decoder: Option<D>,
}

impl<D: OneStream> Streams<D> {
    fn new(reader: D::Reader) -> io::Result<Self> {
        Ok(Streams { decoder: Some(D::begin(reader)?) })
    }

    /// Goes on to the next stream, if there is one.
    fn next_stream(&mut self) -> io::Result<bool> {
        let Some(ended) = &mut self.decoder else { return Ok(false) };
        let reader = ended.reader();
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
        self.decoder = self.decoder.take().map(|ended| D::begin(ended.end())).transpose()?;
        Ok(true)
    }
}

impl<D: OneStream> Read for Streams<D> {
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

//! The bytes of an image as its vendor made it, read by offset like a disk's.

use super::Source;
use super::chunk;
use super::fetch::FetchError;
use crate::card::Buffer;
use piseduce_protocol::manifest::{CHUNK_BYTES, ChunkKind, Manifest};

/// Puts the right bytes of chunk `index` into `raw`, which has its length.
pub(super) fn load(
    manifest: &Manifest,
    index: usize,
    source: &dyn Source,
    raw: &mut [u8],
) -> Result<(), FetchError> {
    let chunk = &manifest.chunks[index];
    match chunk.kind {
        ChunkKind::Data => source.chunk(chunk.hash, raw),
        ChunkKind::Zero | ChunkKind::Unallocated => {
            raw.fill(0);
            Ok(())
        }
    }
}

/// An image of which one chunk is held at a time.
pub struct Original<'a> {
    manifest: &'a Manifest,
    source: &'a dyn Source,
    buffer: Buffer,
    /// Which chunk is held.
    held: Option<usize>,
}

impl<'a> Original<'a> {
    /// The image of this manifest.
    pub fn new(manifest: &'a Manifest, source: &'a dyn Source) -> Self {
        Original { manifest, source, buffer: chunk::buffer(), held: None }
    }

    /// Fills `into` with the bytes from `at` on, which all lie in the image.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), FetchError> {
        let mut done = 0;
        while done < into.len() {
            let at = at + done as u64;
            let index = (at / u64::from(CHUNK_BYTES)) as usize;
            let length = self.manifest.chunk_bytes(index) as usize;
            if self.held != Some(index) {
                self.held = None;
                load(self.manifest, index, self.source, &mut self.buffer[..length])?;
                self.held = Some(index);
            }
            let from = (at - chunk::start(index)) as usize;
            let count = (length - from).min(into.len() - done);
            into[done..done + count].copy_from_slice(&self.buffer[from..from + count]);
            done += count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sample::{CHUNK, Sample};

    #[test]
    fn bytes_across_chunks_are_the_images_and_each_chunk_is_fetched_once_in_a_row() {
        let sample = Sample::mixed();
        let mut original = Original::new(&sample.manifest, &sample);
        let mut bytes = vec![0xee; 3 * CHUNK];
        original.read((CHUNK / 2) as u64, &mut bytes).unwrap();
        let chunk = |index: usize| sample.chunks[&sample.manifest.chunks[index].hash].clone();
        let expected = [&chunk(0)[CHUNK / 2..], &vec![0; 2 * CHUNK], &chunk(3)[..CHUNK / 2]].concat();
        assert!(bytes == expected);
        let mut more = vec![0; 100];
        original.read((3 * CHUNK + 100) as u64, &mut more).unwrap();
        assert!(more == chunk(3)[100..200]);
        assert_eq!(sample.fetched.lock().unwrap().len(), 2);
    }
}

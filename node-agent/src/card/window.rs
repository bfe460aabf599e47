//! A range of a card as a stream that can be read, written and sought byte by byte.
//!
//! One aligned block is held at a time, read before it is changed and written back when another is needed or on `flush`. The
//! last few that were held are remembered as they are on the card: whoever reads a file of a FAT goes to and fro between it
//! and its table. Nothing outside the range is ever touched.

use super::{Buffer, Card, SECTOR_BYTES};
use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// How much is held at a time: small edits of a FAT stay in one or two blocks.
const BLOCK_BYTES: u64 = 64 * 1024;

/// So many blocks are remembered, 1 MiB together.
const BLOCKS_REMEMBERED: usize = 16;

/// A byte range of a card.
pub struct Window<'a> {
    card: &'a dyn Card,
    start: u64,
    bytes: u64,
    position: u64,
    block: Buffer,
    /// Which block is held, from 0.
    held: Option<u64>,
    dirty: bool,
    /// Blocks that were held, equal to the card's; the last one first.
    remembered: VecDeque<(u64, Buffer)>,
}

impl<'a> Window<'a> {
    /// The `bytes` bytes from `start` of `card`; both are multiples of 512 within the card.
    pub fn new(card: &'a dyn Card, start: u64, bytes: u64) -> Self {
        debug_assert!((start | bytes).is_multiple_of(SECTOR_BYTES as u64), "{bytes} bytes at {start}");
        let block = Buffer::new(BLOCK_BYTES as usize);
        Window {
            card,
            start,
            bytes,
            position: 0,
            block,
            held: None,
            dirty: false,
            remembered: VecDeque::new(),
        }
    }

    /// Where block `number` begins on the card, and its length, which is shorter at the window's end.
    fn place(&self, number: u64) -> (u64, usize) {
        let offset = number * BLOCK_BYTES;
        (self.start + offset, (self.bytes - offset).min(BLOCK_BYTES) as usize)
    }

    fn write_back(&mut self) -> io::Result<()> {
        if let Some(number) = self.held.filter(|_| self.dirty) {
            let (offset, length) = self.place(number);
            self.card.write_at(&self.block[..length], offset).map_err(io::Error::other)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Holds block `number` in the place of the one that is held, which is not dirty.
    fn fetch(&mut self, number: u64, offset: u64, length: usize) -> io::Result<()> {
        let before = self.held.take();
        let known = self.remembered.iter().position(|(known, _)| *known == number);
        let mut block = match known.and_then(|at| self.remembered.remove(at)) {
            Some((_, block)) => block,
            None => {
                let oldest = (self.remembered.len() >= BLOCKS_REMEMBERED).then(|| self.remembered.pop_back());
                let mut block =
                    oldest.flatten().map_or_else(|| Buffer::new(BLOCK_BYTES as usize), |(_, block)| block);
                self.card.read_at(&mut block[..length], offset).map_err(io::Error::other)?;
                block
            }
        };
        std::mem::swap(&mut self.block, &mut block);
        if let Some(before) = before {
            self.remembered.push_front((before, block));
        }
        self.held = Some(number);
        Ok(())
    }

    /// The bytes from the position to the end of its block or window, with that block held; empty at the end.
    fn hold(&mut self) -> io::Result<&mut [u8]> {
        if self.position >= self.bytes {
            return Ok(&mut []);
        }
        let number = self.position / BLOCK_BYTES;
        let (offset, length) = self.place(number);
        if self.held != Some(number) {
            self.write_back()?;
            self.fetch(number, offset, length)?;
        }
        let within = (self.position % BLOCK_BYTES) as usize;
        Ok(&mut self.block[within..length])
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let held = self.hold()?;
        let count = buffer.len().min(held.len());
        buffer[..count].copy_from_slice(&held[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let held = self.hold()?;
        let count = bytes.len().min(held.len());
        let changes = held[..count] != bytes[..count];
        held[..count].copy_from_slice(&bytes[..count]);
        self.dirty |= changes;
        self.position += count as u64;
        Ok(count)
    }

    /// Writes the held block to the card; the card itself is not flushed.
    fn flush(&mut self) -> io::Result<()> {
        self.write_back()
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::memory::MemoryCard;

    const START: usize = 1536;
    const LENGTH: usize = 3 * 64 * 1024 + 512;

    #[test]
    fn a_window_reads_and_writes_like_a_file_and_touches_nothing_outside() {
        let card = MemoryCard::new(512 * 1024);
        card.fill(0x77);
        let mut model = vec![0x77; LENGTH];
        let mut window = Window::new(&card, START as u64, LENGTH as u64);
        for (offset, length) in [(0, 3), (65_530, 12), (LENGTH - 5, 5), (100, 70_000), (65_536, 512), (7, 0)]
        {
            let bytes: Vec<u8> = (0..length).map(|i| (offset + i) as u8).collect();
            window.seek(SeekFrom::Start(offset as u64)).unwrap();
            window.write_all(&bytes).unwrap();
            model[offset..offset + length].copy_from_slice(&bytes);
        }
        window.rewind().unwrap();
        let mut read = Vec::new();
        window.read_to_end(&mut read).unwrap();
        assert!(read == model);
        window.flush().unwrap();
        let durable = card.durable();
        assert!(durable[START..START + LENGTH] == model);
        assert!(durable[..START].iter().chain(&durable[START + LENGTH..]).all(|byte| *byte == 0x77));
    }

    #[test]
    fn going_to_and_fro_reads_each_block_once_and_sees_what_was_written() {
        let card = MemoryCard::new(4 << 20);
        let mut window = Window::new(&card, 0, 4 << 20);
        let mut byte = [0];
        let mut look = |window: &mut Window<'_>, at: u64| {
            window.seek(SeekFrom::Start(at)).unwrap();
            window.read_exact(&mut byte).unwrap();
            byte[0]
        };
        window.write_all(b"x").unwrap();
        for step in 0..40 {
            assert_eq!(look(&mut window, 0), b'x');
            look(&mut window, BLOCK_BYTES * (1 + step % 10));
        }
        assert_eq!(card.requests() - card.writes(), 11, "one read for each block");
        // More blocks than are remembered: the first is read anew, as it was written.
        for block in 20..60 {
            look(&mut window, BLOCK_BYTES * block);
        }
        assert_eq!(look(&mut window, 0), b'x');
        assert_eq!(card.writes(), 1);
    }

    #[test]
    fn writing_what_is_there_writes_nothing_and_the_end_is_the_end() {
        let card = MemoryCard::new(512 * 1024);
        let mut window = Window::new(&card, 512, 1024);
        window.write_all(&[0; 1024]).unwrap();
        assert!(window.write_all(b"x").is_err());
        window.flush().unwrap();
        assert_eq!(card.writes(), 0);
        assert!(window.seek(SeekFrom::Current(-5000)).is_err());
    }
}

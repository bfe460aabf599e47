//! The boot partition of a card as a firmware sees it: partition table, first FAT partition, files by name.

use anyhow::Context as _;
use piseduce_protocol::table::{Entry, SECTOR_BYTES, Table};
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The first FAT partition of a card.
pub struct BootPartition {
    /// The card's table.
    pub table: Table,
    files: fatfs::FileSystem<Slice>,
}

impl BootPartition {
    /// Opens the one on `card`, a device or a file.
    ///
    /// # Errors
    /// When there is no table or no FAT partition.
    pub fn open(card: &Path) -> anyhow::Result<BootPartition> {
        let mut file = File::open(card).with_context(|| format!("failed to open {}", card.display()))?;
        let sectors = file.seek(SeekFrom::End(0))? / SECTOR_BYTES;
        let table = Table::read(sectors, |at, into| file.read_exact_at(into, at))?;
        let fat = |entry: &Entry| {
            let (start, bytes) = (entry.start * SECTOR_BYTES, entry.sectors * SECTOR_BYTES);
            let slice = Slice { file: file.try_clone().ok()?, start, bytes, at: 0 };
            fatfs::FileSystem::new(slice, fatfs::FsOptions::new()).ok()
        };
        let files = table.entries().iter().find_map(fat).context("the card has no FAT partition")?;
        Ok(BootPartition { table, files })
    }

    /// The content of a file; none: there is no such file.
    ///
    /// # Errors
    /// When the card cannot be read.
    pub fn read(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        content(&self.files.root_dir(), name)
    }
}

/// The boot files of `boot.img`, a FAT file system without a table.
pub(super) struct RamDisk(fatfs::FileSystem<Cursor<Vec<u8>>>);

impl RamDisk {
    pub(super) fn open(image: Vec<u8>) -> anyhow::Result<RamDisk> {
        Ok(RamDisk(fatfs::FileSystem::new(Cursor::new(image), fatfs::FsOptions::new())?))
    }

    pub(super) fn read(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        content(&self.0.root_dir(), name)
    }
}

fn content<T: Read + Write + Seek>(root: &fatfs::Dir<'_, T>, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    match root.open_file(name) {
        Ok(mut file) => {
            file.read_to_end(&mut content)?;
            Ok(Some(content))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A range of a file; read-only.
struct Slice {
    file: File,
    start: u64,
    bytes: u64,
    at: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(usize::try_from(self.bytes - self.at).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..count], self.start + self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Slice {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Seek for Slice {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => i128::from(at),
            SeekFrom::Current(by) => i128::from(self.at) + i128::from(by),
            SeekFrom::End(by) => i128::from(self.bytes) + i128::from(by),
        };
        self.at = u64::try_from(at).ok().filter(|at| *at <= self.bytes).ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

//! What is sent: bytes in memory, or a file that is opened once for all who get it and read a piece at a time, beside the
//! runtime's own threads.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What is read at once, in bytes, if blocks are smaller.
const READ_BYTES: u64 = 32 << 10;

/// A file or text.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// These bytes.
    Text(Arc<[u8]>),
    /// This file.
    File(Arc<OpenFile>),
}

/// A file that is open.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    device: u64,
    inode: u64,
    bytes: u64,
}

impl Content {
    /// Its size in bytes, as it was when it was opened.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Content::Text(text) => text.len() as u64,
            Content::File(file) => file.bytes,
        }
    }
}

/// The files that are open, so that many clients of one file need one descriptor.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    open: Mutex<HashMap<PathBuf, Weak<OpenFile>>>,
}

impl OpenFiles {
    /// Opens the file at `path`; waits for the disk, and for nobody else.
    ///
    /// # Errors
    /// When it is no file or cannot be read.
    pub(super) fn open(&self, path: &Path) -> io::Result<Content> {
        let about = fs::metadata(path)?;
        if !about.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(path).and_then(Weak::upgrade);
        // Another file may have taken the name.
        let is_same = |file: &Arc<OpenFile>| {
            (file.device, file.inode, file.bytes) == (about.dev(), about.ino(), about.len())
        };
        if let Some(file) = known.filter(is_same) {
            return Ok(Content::File(file));
        }
        let file = File::open(path)?;
        let about = file.metadata()?;
        let open = Arc::new(OpenFile { file, device: about.dev(), inode: about.ino(), bytes: about.len() });
        let mut all = lock();
        all.retain(|_, file| file.strong_count() > 0);
        all.insert(path.to_owned(), Arc::downgrade(&open));
        Ok(Content::File(open))
    }
}

/// Reads a content from its beginning to its end, and a little back now and then.
#[derive(Debug)]
pub(super) struct Reader {
    content: Content,
    /// What was read last, and where it begins.
    piece: Vec<u8>,
    at: u64,
}

impl Reader {
    /// Nothing is read yet.
    pub(super) fn new(content: Content) -> Reader {
        Reader { content, piece: Vec::new(), at: 0 }
    }

    /// The bytes from `start` on, `bytes` of them or what is left.
    ///
    /// # Errors
    /// When they cannot be read, or the file has become shorter.
    pub(super) async fn read(&mut self, start: u64, bytes: u64) -> io::Result<&[u8]> {
        let end = (start + bytes).min(self.content.bytes());
        let start = start.min(end);
        let file = match &self.content {
            Content::Text(text) => return Ok(&text[index(start)..index(end)]),
            Content::File(file) => file.clone(),
        };
        let is_there = start >= self.at && end <= self.at + self.piece.len() as u64;
        if !is_there {
            let length = READ_BYTES.max(bytes).min(file.bytes - start);
            let mut piece = std::mem::take(&mut self.piece);
            piece.resize(index(length), 0);
            let read = move || file.file.read_exact_at(&mut piece, start).map(|()| piece);
            self.piece = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
            self.at = start;
        }
        Ok(&self.piece[index(start - self.at)..index(end - self.at)])
    }
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a piece of a file fits into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_opened_once_and_read_at_any_place() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("kernel");
        let content: Vec<u8> = (0..200_000u32).map(|number| (number % 251) as u8).collect();
        fs::write(&path, &content).unwrap();
        let files = OpenFiles::default();
        let (one, other) = (files.open(&path).unwrap(), files.open(&path).unwrap());
        let (Content::File(first), Content::File(second)) = (&one, &other) else { panic!("no files") };
        assert!(Arc::ptr_eq(first, second));
        let mut reader = Reader::new(one.clone());
        for (start, bytes) in
            [(0, 512), (512, 512), (100_000, 65_464), (50, 8), (199_990, 512), (200_000, 512)]
        {
            let end = content.len().min(start + bytes);
            assert_eq!(reader.read(start as u64, bytes as u64).await.unwrap(), &content[start..end]);
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        assert_eq!(files.open(&path).unwrap().bytes(), 7, "another file has the name now");
        assert_eq!(one.bytes(), 200_000);
        File::options().write(true).open(&path).unwrap().set_len(2).unwrap();
        assert!(files.open(scratch.path()).is_err());
    }

    #[tokio::test]
    async fn a_file_that_becomes_shorter_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("kernel");
        fs::write(&path, [0; 1000]).unwrap();
        let mut reader = Reader::new(OpenFiles::default().open(&path).unwrap());
        File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert!(reader.read(0, 512).await.is_err());
    }
}

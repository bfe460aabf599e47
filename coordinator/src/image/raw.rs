//! An image as bytes at offsets, padded to whole sectors. Knows nothing of what the bytes mean; next:
//! `inspect.rs` for what is in them, `pack.rs` for what becomes of them.

use piseduce_protocol::table::SECTOR_BYTES;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// An uncompressed image in a file or block device.
#[derive(Debug)]
pub struct Raw {
    file: File,
    file_bytes: u64,
}

impl Raw {
    /// The image that `file` holds from its beginning to its end.
    ///
    /// # Errors
    /// When the file's length cannot be found out.
    pub fn new(mut file: File) -> io::Result<Self> {
        // The end is sought because a block device has no length in its metadata.
        let file_bytes = file.seek(SeekFrom::End(0))?;
        Ok(Raw { file, file_bytes })
    }

    /// By which name other programs open it as long as this lives; it need not be in any directory.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Its length, padded to whole sectors.
    pub fn bytes(&self) -> u64 {
        self.file_bytes.next_multiple_of(SECTOR_BYTES)
    }

    /// Fills `into` with the bytes from `at` on; what lies behind the end is zero.
    ///
    /// # Errors
    /// When the file cannot be read, or became shorter.
    pub fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let held = usize::try_from(self.file_bytes.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        let (held, behind) = into.split_at_mut(held);
        behind.fill(0);
        self.file.read_exact_at(held, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_image_is_padded_with_zeros_to_whole_sectors() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 700]).unwrap();
        let raw = Raw::new(file).unwrap();
        assert_eq!(raw.bytes(), 1024);
        let mut read = [1; 600];
        raw.read(500, &mut read).unwrap();
        assert!(read[..200].iter().all(|byte| *byte == 7) && read[200..].iter().all(|byte| *byte == 0));
        raw.read(5000, &mut read).unwrap();
        assert_eq!(read, [0; 600]);
    }
}

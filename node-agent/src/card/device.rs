//! The real card: a block device, read and written past the page cache (O_DIRECT).
//!
//! A device that refuses O_DIRECT is used through the page cache instead, which is written back by each
//! flush and dropped before anything is read back.

use super::{Access, Buffer, Card, CardError, SECTOR_BYTES, activity, ioctl};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

/// Who else may use the card meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// The agent's own mounts and tools.
    Shared,
    /// Nobody: fails while it or a partition of it is mounted or in exclusive use, and keeps it so.
    Exclusive,
}

/// An open block device.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
    sysfs: PathBuf,
    name: String,
    bytes: u64,
    direct: bool,
}

impl Device {
    /// Opens the block device at `path` for reading and writing.
    ///
    /// # Errors
    /// [`CardError::Missing`], [`CardError::Busy`], [`CardError::ReadOnly`] and [`CardError::Open`].
    pub fn open(path: &Path, sharing: Sharing) -> Result<Self, CardError> {
        let missing = || CardError::Missing(path.into());
        let is_device = path.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device());
        let sysfs = activity::sysfs(path).filter(|_| is_device).ok_or_else(missing)?;
        let (mut file, direct) = match open(path, sharing, OFlags::DIRECT) {
            Ok(file) if takes_direct_reads(&file) => (file, true),
            // Open once more without O_DIRECT, but not while the first one still holds it exclusively.
            Ok(file) => (reopen(path, sharing, file)?, false),
            Err(Errno::INVAL) => (open(path, sharing, OFlags::empty()).map_err(|e| explain(path, e))?, false),
            Err(errno) => return Err(explain(path, errno)),
        };
        let failed = |source| CardError::Open { path: path.into(), source };
        let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if bytes == 0 {
            return Err(missing());
        }
        if ioctl::is_read_only(&file).map_err(failed)? {
            return Err(CardError::ReadOnly(path.into()));
        }
        let device =
            Device { file, path: path.into(), sysfs, name: path.display().to_string(), bytes, direct };
        device.drop_cache()?;
        Ok(device)
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the kernel shows it and its partitions.
    pub(super) fn sysfs(&self) -> &Path {
        &self.sysfs
    }

    fn error(&self, access: Access, offset: u64, source: io::Error) -> CardError {
        CardError::Io { access, card: self.name.clone(), offset, bytes: self.bytes, source }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Card for Device {
    fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), CardError> {
        debug_assert!(buffer.len().is_multiple_of(SECTOR_BYTES), "{} bytes at {offset}", buffer.len());
        self.file.read_exact_at(buffer, offset).map_err(|source| self.error(Access::Read, offset, source))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), CardError> {
        debug_assert!(bytes.len().is_multiple_of(SECTOR_BYTES), "{} bytes at {offset}", bytes.len());
        self.file.write_all_at(bytes, offset).map_err(|source| self.error(Access::Write, offset, source))
    }

    fn flush(&self) -> Result<(), CardError> {
        self.file.sync_all().map_err(|source| self.error(Access::Flush, 0, source))
    }

    fn drop_cache(&self) -> Result<(), CardError> {
        if self.direct {
            return Ok(());
        }
        self.flush()?;
        ioctl::forget_pages(&self.file).map_err(|source| self.error(Access::Flush, 0, source))
    }

    fn discard(&self, offset: u64, bytes: u64) -> Result<bool, CardError> {
        match ioctl::discard(&self.file, offset, bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => Ok(false),
            Err(source) => Err(self.error(Access::Discard, offset, source)),
        }
    }
}

fn open(path: &Path, sharing: Sharing, how: OFlags) -> Result<File, Errno> {
    let exclusive = match sharing {
        Sharing::Shared => OFlags::empty(),
        Sharing::Exclusive => OFlags::EXCL,
    };
    let flags = OFlags::RDWR | OFlags::CLOEXEC | how | exclusive;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from)
}

fn reopen(path: &Path, sharing: Sharing, direct: File) -> Result<File, CardError> {
    drop(direct);
    open(path, sharing, OFlags::empty()).map_err(|errno| explain(path, errno))
}

fn takes_direct_reads(file: &File) -> bool {
    let read = file.read_at(&mut Buffer::new(SECTOR_BYTES), 0);
    !read.is_err_and(|error| error.raw_os_error() == Some(Errno::INVAL.raw_os_error()))
}

fn explain(path: &Path, errno: Errno) -> CardError {
    match errno {
        Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM => CardError::Missing(path.into()),
        Errno::BUSY => CardError::Busy(path.into()),
        Errno::ROFS | Errno::ACCESS | Errno::PERM => CardError::ReadOnly(path.into()),
        other => CardError::Open { path: path.into(), source: other.into() },
    }
}

//! Writes an initramfs: an archive in the kernel's `newc` format, packed with zstd, the same bytes for the same
//! content. Everything in it belongs to root and is from 1970.

use anyhow::Context as _;
use cpio::newc::{Builder, trailer};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Component, Path};
use zstd::Encoder;

/// Small enough for slow boards, and not so large a window that the kernel cannot unpack it.
const ZSTD_LEVEL: i32 = 19;

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An initramfs that is being written.
pub(super) struct Initramfs {
    encoder: Encoder<'static, Vec<u8>>,
    directories: BTreeSet<String>,
    entries: u32,
}

impl Initramfs {
    /// One with the console in it that the first process speaks to before there are devices.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn new() -> anyhow::Result<Self> {
        let encoder = Encoder::new(Vec::new(), ZSTD_LEVEL)?;
        let mut made = Initramfs { encoder, directories: BTreeSet::new(), entries: 0 };
        made.parents(Path::new("dev/console"))?;
        // Its numbers: Documentation/admin-guide/devices.txt of the kernel.
        let console = made.builder("dev/console", CHARACTER_DEVICE).rdev_major(5).rdev_minor(1);
        made.add(console, &[])?;
        Ok(made)
    }

    /// Adds a directory and those that it is in.
    ///
    /// # Errors
    /// When its path is none.
    pub(super) fn directory(&mut self, path: &str) -> anyhow::Result<()> {
        self.parents(&Path::new(path).join("x"))
    }

    /// Adds a file with these permissions.
    ///
    /// # Errors
    /// When its path is none or it is too large.
    pub(super) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> anyhow::Result<()> {
        self.parents(Path::new(path))?;
        let file = self.builder(path, FILE | permissions);
        self.add(file, content)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When its path is none.
    pub(super) fn link(&mut self, path: &str, target: &str) -> anyhow::Result<()> {
        self.parents(Path::new(path))?;
        let link = self.builder(path, LINK);
        self.add(link, target.as_bytes())
    }

    /// The packed archive.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn finish(self) -> anyhow::Result<Vec<u8>> {
        Ok(trailer(self.encoder)?.finish()?)
    }

    fn builder(&mut self, path: &str, mode: u32) -> Builder {
        self.entries += 1;
        Builder::new(path).mode(mode).ino(self.entries).nlink(1)
    }

    fn add(&mut self, entry: Builder, content: &[u8]) -> anyhow::Result<()> {
        let bytes = u32::try_from(content.len()).context("a file of an initramfs is smaller than 4 GiB")?;
        let mut writer = entry.write(&mut self.encoder, bytes);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    fn parents(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut so_far = String::new();
        for part in path.parent().into_iter().flat_map(Path::components) {
            let Component::Normal(part) = part else {
                anyhow::bail!("{} is no path in an initramfs", path.display());
            };
            if !so_far.is_empty() {
                so_far.push('/');
            }
            so_far += part.to_str().context("paths in an initramfs are UTF-8")?;
            if self.directories.insert(so_far.clone()) {
                let directory = self.builder(&so_far.clone(), DIRECTORY);
                self.add(directory, &[])?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::newc::Reader;

    fn made() -> Vec<u8> {
        let mut initramfs = Initramfs::new().unwrap();
        initramfs.file("bin/tool", 0o755, b"abc").unwrap();
        initramfs.link("sbin", "bin").unwrap();
        initramfs.directory("dev/pts").unwrap();
        initramfs.finish().unwrap()
    }

    #[test]
    fn directories_come_before_what_is_in_them_and_once() {
        let archive = zstd::decode_all(made().as_slice()).unwrap();
        let (mut rest, mut seen) = (archive.as_slice(), Vec::new());
        loop {
            let reader = Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            seen.push((reader.entry().name().to_owned(), reader.entry().mode()));
            rest = reader.finish().unwrap();
        }
        let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["dev", "dev/console", "bin", "bin/tool", "sbin", "dev/pts"]);
        assert_eq!((seen[1].1, seen[3].1), (CHARACTER_DEVICE, 0o100_755));
        assert_eq!(made(), made());
    }
}

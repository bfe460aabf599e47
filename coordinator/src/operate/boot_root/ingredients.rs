//! What a boot root is made of, wherever it comes from: kernels with their modules, what firmware fetches beside them, and the
//! packages with the tools.

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The packages of which every boot root has programs.
pub(super) const TOOL_PACKAGES: [&str; 2] = ["busybox-static", "e2fsprogs"];
/// What the firmware of Pi 3 and Pi 4 needs; that of Pi 5 is in its EEPROM. See the package raspi-firmware.
pub(super) const FIRMWARE: [&str; 5] = ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"];

/// What a boot root is made of.
#[derive(Debug)]
pub(super) struct Ingredients {
    /// Where it comes from, short: the beginning of the version's name.
    pub(super) source: String,
    /// One, or one for each kind of board.
    pub(super) kernels: Vec<Kernel>,
    /// What firmware fetches beside kernels, by its path below the node's prefix.
    pub(super) firmware: BTreeMap<String, PathBuf>,
    /// `config.txt`.
    pub(super) config: &'static str,
    /// The tree of the packages with the tools.
    pub(super) tools: PathBuf,
    /// All packages, with their versions.
    pub(super) packages: BTreeMap<String, String>,
}

/// A kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// What firmware knows it by: `kernel8.img` has the initramfs `initramfs8`.
    pub(super) suffix: &'static str,
    /// Its image, packed with gzip.
    pub(super) image: Vec<u8>,
    /// What it calls itself, such as `6.1.0-56-arm64`.
    pub(super) release: String,
    /// The tree in which `lib/modules/<release>` is.
    pub(super) modules: PathBuf,
}

/// 64-bit kernels may be gzip archives. Source: config.txt of the Raspberry Pi documentation, `kernel`.
///
/// # Errors
/// When there is no memory.
pub(super) fn gzip(image: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(image)?;
    Ok(encoder.finish()?)
}

/// The content of a file.
///
/// # Errors
/// When it cannot be read; its path is named.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

/// All files below `directory` by their paths there.
///
/// # Errors
/// When it cannot be read.
pub(super) fn files_below(directory: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        let entries = fs::read_dir(&next).with_context(|| format!("failed to read {}", next.display()))?;
        for entry in entries {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => {
                    let path = entry.path();
                    let name = path.strip_prefix(directory).expect("it is below");
                    found.insert(name.to_str().context("a path is UTF-8")?.to_owned(), path);
                }
                // Links and devices are nobody's boot files.
                _ => {}
            }
        }
    }
    Ok(found)
}

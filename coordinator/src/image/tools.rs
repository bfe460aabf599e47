//! Makes file systems for the tests of this room, with the tools that make real ones. `tests/image` of the
//! crate has its own, for whole disks.

use super::extents::{Allocated, Extents};
use super::raw::Raw;
use piseduce_protocol::manifest::{FileSystem, Partition};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program of the Debian package `package`, which must succeed, and gives what it wrote.
#[expect(clippy::disallowed_methods, reason = "tests start the tools that make file systems here only")]
pub(super) fn run(package: &str, program: &str, arguments: &[&str]) -> String {
    let result = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("{program} cannot be started ({error}): install the package {package}")
        });
    let said = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success(), "{program} {arguments:?}: {}: {said}", result.status);
    String::from_utf8_lossy(&result.stdout).into_owned()
}

/// Which whole blocks of 4 KiB of the file system that is all of `raw` are free, and what is remarked on it.
pub(super) fn free_blocks(raw: &Raw, file_system: FileSystem) -> (Vec<bool>, Vec<String>) {
    let partition = Partition { number: 1, start: 0, bytes: raw.bytes(), file_system, label: None };
    let (extents, remarks) = Extents::of(raw, &[partition]);
    let is_free = |block: u64| match extents.within(block / 8 * 8 * 4096, 8 * 4096) {
        Allocated::Everything => false,
        Allocated::Nothing => true,
        Allocated::Blocks(mask) => mask[0] & 1 << (block % 8) == 0,
    };
    ((0..raw.bytes() / 4096).map(is_free).collect(), remarks)
}

/// An ext2, ext3 or ext4 file system of `size` that holds the files of `tree`.
pub(super) fn ext(directory: &Path, options: &[&str], tree: &Path, size: &str) -> Raw {
    let path = directory.join("ext");
    let paths = ["-d", tree.to_str().unwrap(), path.to_str().unwrap(), size];
    run("e2fsprogs", "mke2fs", &[&["-q", "-F"], options, &paths].concat());
    Raw::new(File::open(path).unwrap()).unwrap()
}

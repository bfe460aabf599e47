//! Makes file systems for the tests of this room, with the tools that make real ones. `tests/image` of the
//! crate has its own, for whole disks.

use super::raw::Raw;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program of the Debian package `package`, which must succeed.
#[expect(clippy::disallowed_methods, reason = "tests start the tools that make file systems here only")]
pub(super) fn run(package: &str, program: &str, arguments: &[&str]) {
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
}

/// An ext2, ext3 or ext4 file system of `size` that holds the files of `tree`.
pub(super) fn ext(directory: &Path, options: &[&str], tree: &Path, size: &str) -> Raw {
    let path = directory.join("ext");
    let paths = ["-d", tree.to_str().unwrap(), path.to_str().unwrap(), size];
    run("e2fsprogs", "mke2fs", &[&["-q", "-F"], options, &paths].concat());
    Raw::new(File::open(path).unwrap()).unwrap()
}

//! Programs that the tests need, and what to install when one is missing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Programs and the Debian package of each.
const PACKAGES: [(&str, &str); 15] = [
    ("sfdisk", "fdisk"),
    ("sgdisk", "gdisk"),
    ("mkfs.fat", "dosfstools"),
    ("fsck.fat", "dosfstools"),
    ("mcopy", "mtools"),
    ("mtype", "mtools"),
    ("mke2fs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("dumpe2fs", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("losetup", "mount"),
    ("blockdev", "util-linux"),
    ("partx", "util-linux"),
    ("unshare", "util-linux"),
    ("mosquitto", "mosquitto"),
];

/// Where `program` is, if this machine has it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let directories = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    directories.into_iter().map(|directory| Path::new(directory).join(program)).find(|path| path.exists())
}

/// A command for `program`.
pub(crate) fn command(program: &str) -> Command {
    let package = PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package);
    let path = find(program)
        .unwrap_or_else(|| panic!("this test needs the program {program}: install the package {package}"));
    #[expect(clippy::disallowed_methods, reason = "the agent starts programs in tool.rs, its tests here")]
    Command::new(path)
}

/// Runs `program` to its end, which must be a good one, and returns what it printed.
pub(crate) fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> String {
    let output = outcome(program, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} ended with {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Runs `program` to its end, whatever that is.
pub(crate) fn outcome<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Output {
    let mut command = command(program);
    command.args(arguments).stdin(Stdio::null()).env("MTOOLS_SKIP_CHECK", "1").env("LC_ALL", "C");
    command.output().unwrap_or_else(|error| panic!("failed to run {program}: {error}"))
}

/// Runs `program` with `input` to a good end.
pub(crate) fn feed(program: &str, arguments: &[&OsStr], input: &str) {
    use std::io::Write as _;
    let mut command = command(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("failed to run {program}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program}");
}

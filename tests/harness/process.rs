//! The only place of the harness that starts programs.

use anyhow::{Context as _, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A program to be started, with the message for who lacks it.
#[expect(clippy::disallowed_methods, reason = "this is the harness's one place that starts programs")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// A program that is killed when the thread that starts it ends, however that ends.
pub fn mortal_command(program: impl AsRef<OsStr>) -> Command {
    let mut mortal = command("setpriv");
    mortal.args(["--pdeathsig", "KILL", "--"]).arg(program);
    mortal
}

/// The Debian packages of the programs that are used here.
const PACKAGES: [(&str, &str); 30] = [
    ("blkdiscard", "util-linux"),
    ("blockdev", "util-linux"),
    ("busybox", "busybox-static"),
    ("chroot", "coreutils"),
    ("cp", "coreutils"),
    ("dnsmasq", "dnsmasq-base"),
    ("e2fsck", "e2fsprogs"),
    ("ip", "iproute2"),
    ("fdtput", "device-tree-compiler"),
    ("losetup", "mount"),
    ("mcopy", "mtools"),
    ("mke2fs", "e2fsprogs"),
    ("mkfs.fat", "dosfstools"),
    ("mmdebstrap", "mmdebstrap"),
    ("mosquitto", "mosquitto"),
    ("mosquitto_passwd", "mosquitto"),
    ("mosquitto_pub", "mosquitto-clients"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("partx", "util-linux"),
    ("qemu-system-aarch64", "qemu-system-arm"),
    ("setpriv", "util-linux"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("sfdisk", "fdisk"),
    ("sqlite3", "sqlite3"),
    ("strace", "strace"),
    ("systemd-analyze", "systemd"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// The package that has `program`.
pub fn package_of(program: &str) -> &str {
    PACKAGES.iter().find_map(|(known, package)| (*known == program).then_some(*package)).unwrap_or(program)
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started (the package that has it is named), or ends badly (with what it said).
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = command(program).args(arguments).stdin(Stdio::null()).output().with_context(|| {
        format!("{program} cannot be started; Debian's package {} has it", package_of(program))
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} failed: {}", arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where the workspace is.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is in a workspace").into()
}

/// The directory with the built programs: where this one runs from.
///
/// # Panics
/// When this program's own path is unknown.
pub fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let own = std::env::current_exe().expect("a program knows its own path");
        let directory = own.parent().expect("a program is in a directory");
        let directory =
            if directory.ends_with("deps") { directory.parent().expect("deps is in one") } else { directory };
        directory.to_owned()
    })
}

/// The path of one of the workspace's programs, brought up to date first.
///
/// # Panics
/// When the workspace does not build.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        if programs().join("deps").is_dir() {
            build(programs().ends_with("release"));
        }
    });
    programs().join(name)
}

fn build(release: bool) {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(workspace()).args(["build", "--quiet", "--workspace", "--bins"]);
    if release {
        cargo.arg("--release");
    }
    if let Some(target) = programs().parent() {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    let status = cargo.status().expect("cargo starts");
    assert!(status.success(), "the workspace's programs do not build");
}

/// Stops what cannot work: loop devices, mounts and namespaces need root.
///
/// # Errors
/// When this is not root.
pub fn need_root() -> anyhow::Result<()> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => bail!("this needs root for loop devices, mounts and namespaces: run it with sudo"),
    }
}

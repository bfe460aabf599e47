//! The image of the virtual rack: a real Debian for arm64 with systemd and an SSH server, and a boot partition that a
//! firmware boots. Its packages are set up under an emulator, once; kernel and drivers are those of the boot root.

use super::{Label, Recipe, cache, made_once};
use crate::process::run;
use anyhow::Context as _;
use cpio::newc::{Builder, trailer};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Finds the root by the disk's identifier and starts the system in it.
const CARD_INIT: &str = include_str!("card-init.sh");
/// Says that it is there, and does nothing more.
const IDLE_INIT: &str = include_str!("idle-init.sh");
/// What the idle system says.
pub const IDLE: &str = "idle: the first process runs";

const CONFIG: &str = "arm_64bit=1\nkernel=kernel8.img\ninitramfs initramfs8 followkernel\n";
const EXECUTABLE: u32 = 0o100_755;

/// The tree of the image's root, as an archive; `tell` gets a line for what takes long.
///
/// # Errors
/// When a program is missing, which is named with its package, or packages cannot be fetched.
pub fn tree(tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<PathBuf> {
    let tree = cache().join("debian-arm64-1.tar");
    made_once(&tree, |tree| {
        tell("image: Debian for arm64, set up by mmdebstrap under an emulator: once, some minutes");
        let path = tree.to_string_lossy();
        emulator()?;
        run(
            "mmdebstrap",
            &[
                "--quiet",
                "--arch=arm64",
                "--variant=minbase",
                "--include=systemd-sysv,openssh-server,ifupdown,udhcpc,iproute2",
                "--aptopt=APT::Install-Recommends \"false\"",
                "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--dpkgopt=path-exclude=/usr/share/man/*",
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                "--customize-hook=chroot \"$1\" useradd --create-home --uid 1000 --shell /bin/bash pi",
                "--format=tar",
                "bookworm",
                &path,
            ],
        )
        .map(drop)
    })?;
    Ok(tree)
}

/// The image with this tree, for the kernel of the boot root whose files are in `boot_files`.
///
/// # Errors
/// When a program is missing, which is named with its package.
pub fn debian(tree: &Path, boot_files: &Path, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<PathBuf> {
    let kernel = fs::read(boot_files.join("kernel8.img"))?;
    let initramfs = with_init(&fs::read(boot_files.join("initramfs8"))?, CARD_INIT)?;
    let firmware = |name: &str| fs::read(boot_files.join(name)).with_context(|| format!("no {name}"));
    let mut files = vec![("config.txt", CONFIG.as_bytes().to_vec())];
    for name in ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat", "bcm2711-rpi-4-b.dtb"]
    {
        files.push((name, firmware(name)?));
    }
    files.extend([("kernel8.img", kernel), ("initramfs8", initramfs)]);
    let mut key = blake3::Hasher::new();
    for (name, content) in &files {
        key.update(name.as_bytes()).update(content);
    }
    let image = cache().join(format!("debian-arm64-1-{}.img", &key.finalize().to_hex()[..8]));
    made_once(&image, |image| {
        tell("image: putting the card's partitions together");
        remove_older()?;
        let scratch = tempfile::tempdir()?;
        let root = scratch.path();
        let at = root.to_string_lossy();
        run("tar", &["-xpf", &tree.to_string_lossy(), "--numeric-owner", "-C", &at])?;
        fs::write(
            root.join("etc/network/interfaces"),
            "auto lo eth0\niface lo inet loopback\niface eth0 inet dhcp\n",
        )?;
        fs::write(root.join("etc/hostname"), "raspberrypi\n")?;
        fs::write(root.join("etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n")?;
        // Without udev nothing says that the serial line is there.
        let masked = root.join("etc/systemd/system/serial-getty@ttyAMA0.service");
        std::os::unix::fs::symlink("/dev/null", masked)?;
        Recipe { label: Label::Mbr, root, boot_mib: 64, root_mib: 360, boot_files: files }.write(image)
    })?;
    Ok(image)
}

/// An initramfs that starts and does nothing, for the same kernel: what a boot root is measured against.
///
/// # Errors
/// When there is no memory.
pub fn idle(initramfs: &[u8]) -> anyhow::Result<Vec<u8>> {
    with_init(initramfs, IDLE_INIT)
}

/// The same first file system with another first process: the kernel unpacks archives that follow each other over each other.
fn with_init(initramfs: &[u8], init: &str) -> anyhow::Result<Vec<u8>> {
    let mut joined = initramfs.to_vec();
    // An archive begins at a multiple of four.
    joined.resize(joined.len().next_multiple_of(4), 0);
    let entry = Builder::new("init").mode(EXECUTABLE).ino(1).nlink(1);
    let mut writer = entry.write(&mut joined, u32::try_from(init.len())?);
    writer.write_all(init.as_bytes())?;
    writer.finish()?;
    Ok(trailer(joined)?)
}

/// Lets this machine's kernel run programs for arm64, as Debian's packages have it.
fn emulator() -> anyhow::Result<()> {
    let register = Path::new("/proc/sys/fs/binfmt_misc/register");
    if !register.exists() {
        run("mount", &["-t", "binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc"])?;
    }
    if !register.with_file_name("qemu-aarch64").exists() {
        run("update-binfmts", &["--enable", "qemu-aarch64"])?;
    }
    Ok(())
}

/// An image of this kind is half a gigabyte; only the newest can be used.
fn remove_older() -> anyhow::Result<()> {
    for entry in fs::read_dir(cache())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("debian-arm64-1-") && name.ends_with(".img") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

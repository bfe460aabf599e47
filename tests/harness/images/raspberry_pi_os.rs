//! An image that is laid out as those of Raspberry Pi OS for 64 bits are, with a kernel that virtual boards can run in the place of
//! its two: what `piseduce boot-root build --from-image` is tried with. Source of the layout: pi-gen, and config.txt of the
//! Raspberry Pi documentation.

use super::{Label, Recipe};
use crate::process::run;
use anyhow::Context as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// What stands for the boards' own files: their names matter here, not what is in them.
const BOOT_FILES: [&str; 8] = [
    "bootcode.bin",
    "start.elf",
    "fixup.dat",
    "start4.elf",
    "fixup4.dat",
    "bcm2710-rpi-3-b-plus.dtb",
    "bcm2711-rpi-4-b.dtb",
    "bcm2712-rpi-5-b.dtb",
];

/// Writes such an image to `image`, with the packed kernel in `kernel` and the tree of its `modules`.
///
/// # Errors
/// When a program is missing, which is named with its package.
pub fn write(image: &Path, kernel: &Path, modules: &Path) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let root = scratch.path();
    for directory in ["etc", "usr/lib/modules"] {
        fs::create_dir_all(root.join(directory))?;
    }
    symlink("usr/lib", root.join("lib"))?;
    fs::write(root.join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\n")?;
    run("cp", &["-r", &modules.to_string_lossy(), &root.join("usr/lib").to_string_lossy()])?;
    for entry in fs::read_dir(root.join("usr/lib/modules"))? {
        let release = entry?.path();
        // A list of them is in the package of every kernel; these modules were chosen from one.
        for list in ["modules.order", "modules.builtin.modinfo"] {
            fs::write(release.join(list), "")?;
        }
        let pack = ["-name", "*.ko", "-exec", "xz", "--check=crc32", "{}", "+"];
        run("find", &[&[&*release.to_string_lossy()], &pack[..]].concat())?;
    }
    let kernel = fs::read(kernel).with_context(|| format!("no {}", kernel.display()))?;
    let mut boot_files: Vec<(&'static str, Vec<u8>)> =
        BOOT_FILES.iter().map(|name| (*name, name.as_bytes().to_vec())).collect();
    boot_files.push(("config.txt", b"arm_64bit=1\nauto_initramfs=1\n".to_vec()));
    boot_files.push(("overlays/bcm2712d0.dtbo", b"laid over".to_vec()));
    for name in ["kernel8.img", "kernel_2712.img"] {
        boot_files.push((name, kernel.clone()));
    }
    for name in ["initramfs8", "initramfs_2712"] {
        boot_files.push((name, b"another first process".to_vec()));
    }
    Recipe { label: Label::Mbr, root, boot_mib: 96, root_mib: 64, boot_files }.write(image)
}

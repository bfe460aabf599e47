//! Boot roots from Debian's packages: its kernel knows Pi 3 and Pi 4, and not the network of a Pi 5.

use super::ingredients::{FIRMWARE, Ingredients, Kernel, TOOL_PACKAGES, gzip, read};
use super::modules;
use super::packages::{self, Origin};
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const KERNEL_PACKAGES: [&str; 2] = ["linux-image-arm64", "raspi-firmware"];
/// The boards that Debian's kernel knows, as its device trees begin.
const BOARDS: [&str; 2] = ["bcm2711-rpi-", "bcm2837-rpi-"];
/// Settings that the firmware of Pi 3 and Pi 4 reads; `upstream_kernel` because Debian's kernel names boards as the
/// kernel's own source does. Source: config.txt of the Raspberry Pi documentation.
const CONFIG: &str = "# The boot root of PiSeduce. Do not change it: build another version.
arm_64bit=1
upstream_kernel=1
enable_uart=1
kernel=kernel8.img
initramfs initramfs8 followkernel
";

/// Fetches and unpacks all packages below `scratch`.
///
/// # Errors
/// When a program is missing, which is named, or packages cannot be fetched.
pub(super) async fn ingredients(origin: &Origin, scratch: &Path) -> anyhow::Result<Ingredients> {
    let tree = scratch.join("packages");
    let wanted = [&KERNEL_PACKAGES[..], &TOOL_PACKAGES].concat();
    let packages = packages::unpack(origin, &wanted, &tree).await?;
    let modules = modules::root(&tree);
    let release = kernel(&modules)?;
    let image = gzip(&read(&tree.join("boot").join(format!("vmlinuz-{release}")))?)?;
    Ok(Ingredients {
        source: format!("debian-{}", origin.suite),
        firmware: firmware(&tree, &release)?,
        kernels: vec![Kernel { suffix: "8", image, release, modules }],
        config: CONFIG,
        tools: tree,
        packages,
    })
}

/// The name of the one kernel whose modules are in `tree`, such as `6.1.0-56-arm64`.
fn kernel(tree: &Path) -> anyhow::Result<String> {
    let names = modules::releases(tree)?;
    match names.as_slice() {
        [name] => Ok(name.clone()),
        _ => bail!("the packages have {} kernels, and one is wanted", names.len()),
    }
}

/// The boards' firmware and the device trees of the kernel.
fn firmware(tree: &Path, release: &str) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let directory = tree.join("usr/lib/raspi-firmware");
    let mut found: BTreeMap<String, PathBuf> =
        FIRMWARE.iter().map(|name| ((*name).to_owned(), directory.join(name))).collect();
    let device_trees = tree.join(format!("usr/lib/linux-image-{release}/broadcom"));
    for entry in fs::read_dir(&device_trees).with_context(|| format!("no {}", device_trees.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if BOARDS.iter().any(|board| name.starts_with(board)) {
            found.insert(name, entry.path());
        }
    }
    Ok(found)
}

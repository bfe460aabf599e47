//! The kernel modules that a boot root takes along: what boards need to reach the network and their card.

use super::program::{DEPMOD, Run};
use anyhow::{Context as _, bail};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// By name; what they depend on comes by itself, and what a kernel has built in is left out.
const WANTED: [&str; 29] = [
    // Ethernet of Pi 4, 400 and CM4
    "bcmgenet",
    "mdio-bcm-unimac",
    "broadcom",
    // Ethernet of Pi 3B+ and 3B, behind USB
    "dwc2",
    "lan78xx",
    "microchip",
    "smsc95xx",
    "smsc",
    // cards
    "sdhci-iproc",
    "bcm2835",
    "mmc_block",
    "fixed",
    "gpio-regulator",
    // the board itself: clock speed, temperature, fan, watchdog, random numbers
    "raspberrypi-cpufreq",
    "bcm2835_thermal",
    "bcm2835_wdt",
    "pwm-raspberrypi-poe",
    "pwm-fan",
    "reset-raspberrypi",
    "bcm2835-rng",
    "iproc-rng200",
    // a virtual rack
    "virtio_pci",
    "virtio_net",
    "virtio_rng",
    "sdhci-pci",
    // DHCP, and the file systems that the agent mounts
    "af_packet",
    "ext4",
    "crc32c_generic",
    "libcrc32c",
];

/// What the init needs beside the modules in order to load them.
const INDEXES: [&str; 4] = ["modules.alias", "modules.builtin", "modules.dep", "modules.symbols"];

/// Where modules are in a tree of packages.
const MODULES: &str = "lib/modules";

/// Where they are since Debian's merge of `/usr`.
const MODULES_MERGED: &str = "usr/lib/modules";

/// The tree in which `lib/modules` is.
fn root(packages: &Path) -> PathBuf {
    let is_merged = packages.join(MODULES_MERGED).is_dir();
    if is_merged { packages.join("usr") } else { packages.into() }
}

/// The name of the one kernel in `packages`, such as `6.1.0-56-arm64`.
///
/// # Errors
/// When there is none, or more than one.
pub(super) fn kernel(packages: &Path) -> anyhow::Result<String> {
    let directory = root(packages).join(MODULES);
    let entries =
        fs::read_dir(&directory).with_context(|| format!("no modules in {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    match names.as_slice() {
        [name] => Ok(name.clone()),
        _ => bail!("the packages have {} kernels, and one is wanted", names.len()),
    }
}

/// The modules of `kernel` that are wanted and their indexes, copied from `packages` into a tree in `scratch`;
/// returns their paths in that tree, sorted.
///
/// # Errors
/// When `depmod` is missing or fails, or a file cannot be copied.
pub(super) async fn select(packages: &Path, kernel: &str, scratch: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let root = root(packages);
    index(&root, kernel).await?;
    let inside = Path::new(MODULES).join(kernel);
    let all = root.join(&inside);
    let list = fs::read_to_string(all.join("modules.dep")).context("failed to read what depmod wrote")?;
    let dependencies = dependencies(&list);
    let selected = scratch.join(&inside);
    let mut paths = Vec::new();
    for module in closure(&dependencies, &WANTED) {
        let to = selected.join(&module);
        fs::create_dir_all(to.parent().context("a module is in a directory")?)?;
        fs::copy(all.join(&module), &to).with_context(|| format!("failed to copy {module}"))?;
        paths.push(inside.join(module));
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(all.join(list), selected.join(list)).with_context(|| format!("failed to copy {list}"))?;
    }
    index(scratch, kernel).await?;
    paths.extend(INDEXES.iter().map(|index| inside.join(index)));
    paths.sort();
    Ok(paths)
}

async fn index(tree: &Path, kernel: &str) -> anyhow::Result<()> {
    Run::new(DEPMOD.locate()?).args(["-b".as_ref(), tree.as_os_str(), kernel.as_ref()]).output().await?;
    Ok(())
}

/// Modules by name: their own path and the paths of what they depend on, all of it.
fn dependencies(list: &str) -> HashMap<String, Vec<&str>> {
    let parsed = list.lines().filter_map(|line| {
        let (path, needed) = line.split_once(':')?;
        let paths = std::iter::once(path).chain(needed.split_ascii_whitespace());
        Some((name(path)?, paths.collect()))
    });
    parsed.collect()
}

/// The kernel takes `-` and `_` in names for the same.
fn name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    Some(file.split('.').next()?.replace('-', "_"))
}

fn closure(dependencies: &HashMap<String, Vec<&str>>, wanted: &[&str]) -> BTreeSet<String> {
    let found = wanted.iter().filter_map(|wanted| dependencies.get(&wanted.replace('-', "_")));
    found.flatten().map(|path| (*path).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_with_what_they_depend_on_and_built_in_ones_are_left_out() {
        let list = "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2/jbd2.ko\n\
                    kernel/drivers/mmc/host/sdhci-iproc.ko:\nkernel/fs/nfs/nfs.ko:\n";
        let found = closure(&dependencies(list), &["ext4", "sdhci_iproc", "virtio_net"]);
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(
            found,
            [
                "kernel/drivers/mmc/host/sdhci-iproc.ko",
                "kernel/fs/ext4/ext4.ko",
                "kernel/fs/jbd2/jbd2.ko",
                "kernel/lib/crc16.ko"
            ]
        );
    }
}

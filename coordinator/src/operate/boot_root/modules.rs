//! The kernel modules that a boot root takes along: what boards need to reach the network and their card.

use super::ingredients::{Kernel, read};
use super::program::{DEPMOD, Run};
use anyhow::Context as _;
use liblzma::read::XzDecoder;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// To reach the network. By name; what they depend on comes by itself, and what a kernel has built in is left out.
pub(super) const NETWORK: [&str; 22] = [
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
    // Ethernet of Pi 5, in a chip behind PCIe, for kernels that do not have it built in
    "pcie-brcmstb",
    "irq-bcm2712-mip",
    "rp1",
    "clk-rp1",
    "pinctrl-rp1",
    "macb",
    // the board itself: what the above hang on, random numbers
    "fixed",
    "reset-raspberrypi",
    "reset-brcmstb-rescal",
    "bcm2835-rng",
    // a virtual rack
    "virtio_pci",
    "virtio_net",
    "virtio_rng",
    // DHCP
    "af_packet",
];

/// To fetch the rest from there.
pub(super) const NFS: [&str; 2] = ["nfs", "nfsv4"];

/// For everything else.
pub(super) const WORK: [&str; 18] = [
    // cards
    "sdhci-iproc",
    "sdhci-brcmstb",
    "bcm2835",
    "mmc_block",
    "gpio-regulator",
    // the board itself: clock speed, temperature, fan, watchdog, random numbers
    "raspberrypi-cpufreq",
    "bcm2835_thermal",
    "bcm2835_wdt",
    "pwm-raspberrypi-poe",
    "pwm-rp1",
    "pwm-fan",
    "nvmem-rmem",
    "iproc-rng200",
    // USB ports of Pi 4, so that a disk there is seen; on Pi 5 they are behind its network's chip
    "xhci-pci",
    // a virtual rack
    "sdhci-pci",
    // the file systems that the agent mounts
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

/// The tree in which `lib/modules` is, of packages that were unpacked to `packages`.
pub(super) fn root(packages: &Path) -> PathBuf {
    let is_merged = packages.join(MODULES_MERGED).is_dir();
    if is_merged { packages.join("usr") } else { packages.into() }
}

/// The kernels whose modules are in `tree`.
///
/// # Errors
/// When there is no such directory.
pub(super) fn releases(tree: &Path) -> anyhow::Result<Vec<String>> {
    let directory = tree.join(MODULES);
    let entries =
        fs::read_dir(&directory).with_context(|| format!("no modules in {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The `wanted` modules of `kernel`, unpacked, and their indexes, by their paths in an initramfs; works in the empty
/// directory `scratch`.
///
/// # Errors
/// When `depmod` is missing or fails, or a module cannot be read.
pub(super) async fn select(
    kernel: &Kernel,
    wanted: &[&str],
    scratch: &Path,
) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let Kernel { modules: tree, release, .. } = kernel;
    index(tree, release).await?;
    let inside = Path::new(MODULES).join(release);
    let all = tree.join(&inside);
    let list = fs::read_to_string(all.join("modules.dep")).context("failed to read what depmod wrote")?;
    let dependencies = dependencies(&list);
    let selected = scratch.join(&inside);
    let mut names = Vec::new();
    for module in closure(&dependencies, wanted) {
        let (name, content) = unpacked(&module, read(&all.join(&module))?)?;
        let to = selected.join(&name);
        fs::create_dir_all(to.parent().context("a module is in a directory")?)?;
        fs::write(&to, content).with_context(|| format!("failed to write {}", to.display()))?;
        names.push(name);
    }
    fs::create_dir_all(&selected)?;
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(all.join(list), selected.join(list)).with_context(|| format!("failed to copy {list}"))?;
    }
    index(scratch, release).await?;
    names.extend(INDEXES.map(str::to_owned));
    let file = |name: String| {
        let path = inside.join(&name).to_str().context("a module's path is UTF-8")?.to_owned();
        Ok((path, read(&selected.join(name))?))
    };
    names.into_iter().map(file).collect()
}

/// A module as every `modprobe` loads it: Raspberry Pi OS packs its modules with xz, newer Debians too.
fn unpacked(name: &str, content: Vec<u8>) -> anyhow::Result<(String, Vec<u8>)> {
    let mut plain = Vec::new();
    let damaged = || format!("{name} is damaged");
    if let Some(name) = name.strip_suffix(".xz") {
        XzDecoder::new(content.as_slice()).read_to_end(&mut plain).with_context(damaged)?;
        return Ok((name.into(), plain));
    }
    if let Some(name) = name.strip_suffix(".zst") {
        return Ok((name.into(), zstd::decode_all(content.as_slice()).with_context(damaged)?));
    }
    Ok((name.into(), content))
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

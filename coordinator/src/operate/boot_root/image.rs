//! Boot roots from an image of Raspberry Pi OS: its kernels know every board, a Pi 5 as well, and its boot partition has what
//! firmware fetches. The tools are Debian's all the same. Nothing of the image is run.

use super::ingredients::{FIRMWARE, Ingredients, Kernel, TOOL_PACKAGES, files_below, gzip, read};
use super::modules;
use super::packages::{self, Origin as Packages};
use super::program::{DEBUGFS, MCOPY, Run};
use crate::image::{Layout, Raw};
use anyhow::{Context as _, bail, ensure};
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The 64-bit kernels of Raspberry Pi OS: that of Pi 3 and Pi 4, and that of Pi 5 with pages of 16 KiB.
/// Source: config.txt of the Raspberry Pi documentation, `kernel`.
const KERNELS: [&str; 2] = ["8", "_2712"];
/// Boards with 64 bits, as their device trees begin, and the directory of what is laid over those.
const BOARDS: [&str; 3] = ["bcm2710-rpi-", "bcm2711-rpi-", "bcm2712"];
const OVERLAYS: &str = "overlays/";
/// Firmware chooses kernel and initramfs that belong together, as in Raspberry Pi OS.
/// Source: config.txt of the Raspberry Pi documentation, `auto_initramfs`.
const CONFIG: &str = "# The boot root of PiSeduce. Do not change it: build another version.
arm_64bit=1
enable_uart=1
auto_initramfs=1
";
/// What a kernel says of itself at the beginning of each boot.
const BANNER: &[u8] = b"Linux version ";
/// An unpacked kernel is shorter.
const KERNEL_BYTES_MAX: u64 = 256 << 20;

/// Copies what is needed out of the unpacked image `raw` to `scratch`, and fetches the packages with the tools.
///
/// # Errors
/// When a program is missing, which is named, the image has no kernel for 64 bits, or packages cannot be fetched.
pub(super) async fn ingredients(
    raw: &Raw,
    layout: &Layout,
    packages: &Packages,
    scratch: &Path,
) -> anyhow::Result<Ingredients> {
    let (boot, root) = (scratch.join("boot"), scratch.join("root"));
    std::fs::create_dir_all(&boot)?;
    std::fs::create_dir_all(root.join("lib"))?;
    copy_boot(raw, start(layout, layout.boot, "boot partition")?, &boot).await?;
    copy_modules(raw, start(layout, layout.root, "root partition")?, &root.join("lib")).await?;
    let releases = modules::releases(&root)?;
    let mut kernels = Vec::new();
    for suffix in KERNELS {
        let path = boot.join(format!("kernel{suffix}.img"));
        if !path.is_file() {
            continue;
        }
        let image = unpacked(read(&path)?)?;
        let release =
            release(&image).with_context(|| format!("kernel{suffix}.img does not say which Linux it is"))?;
        ensure!(releases.contains(&release), "the image has no modules for its kernel {release}");
        kernels.push(Kernel { suffix, image: gzip(&image)?, release, modules: root.clone() });
    }
    let Some(first) = kernels.first() else {
        bail!(
            "the image's boot partition has neither kernel8.img nor kernel_2712.img: take Raspberry Pi OS for 64 bits"
        );
    };
    let version = first.release.split(['+', '-']).next().unwrap_or_default().to_owned();
    let tools = scratch.join("packages");
    let mut versions = packages::unpack(packages, &TOOL_PACKAGES, &tools).await?;
    versions.extend(
        kernels.iter().map(|kernel| (format!("kernel{}.img", kernel.suffix), kernel.release.clone())),
    );
    Ok(Ingredients {
        source: format!("image-{version}"),
        kernels,
        firmware: firmware(&boot)?,
        config: CONFIG,
        tools,
        packages: versions,
    })
}

/// Where a partition begins, in bytes.
fn start(layout: &Layout, number: Option<u8>, what: &str) -> anyhow::Result<u64> {
    let partition = layout.partitions.iter().find(|partition| Some(partition.number) == number);
    let partition = partition.with_context(|| {
        format!("the image has no {what} ({}): take Raspberry Pi OS", layout.family_evidence)
    })?;
    Ok(partition.start)
}

async fn copy_boot(raw: &Raw, start: u64, into: &Path) -> anyhow::Result<()> {
    let from = format!("{}@@{start}", raw.path().display());
    // The check compares with the size of a medium, and this is one of several partitions. Old short names are shown in capitals.
    let copy = Run::new(MCOPY.locate()?)
        .variable("MTOOLS_SKIP_CHECK", "1")
        .variable("MTOOLS_LOWER_CASE", "1")
        .args(["-n", "-s", "-i", &from, "::"]);
    copy.args([into]).output().await?;
    Ok(())
}

async fn copy_modules(raw: &Raw, start: u64, into: &Path) -> anyhow::Result<()> {
    let from = format!("{}?offset={start}", raw.path().display());
    // `/lib` is a link to `usr/lib` or the directory itself; both ways lead there.
    let request = format!("rdump /lib/modules {}", into.display());
    Run::new(DEBUGFS.locate()?).args(["-R", &request, &from]).output().await?;
    // It reports success whatever happens.
    ensure!(into.join("modules").is_dir(), "the image has no /lib/modules in the partition of its system");
    Ok(())
}

/// A kernel without its packing.
fn unpacked(image: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    if !image.starts_with(b"\x1f\x8b") {
        return Ok(image);
    }
    let mut unpacked = Vec::new();
    GzDecoder::new(image.as_slice())
        .take(KERNEL_BYTES_MAX)
        .read_to_end(&mut unpacked)
        .context("a kernel of the image is damaged")?;
    Ok(unpacked)
}

/// Which Linux a kernel is, such as `6.6.51+rpt-rpi-v8`.
fn release(image: &[u8]) -> Option<String> {
    let places = image.windows(BANNER.len()).enumerate().filter(|(_, window)| *window == BANNER);
    let words = places.filter_map(|(at, _)| {
        let rest = &image[at + BANNER.len()..];
        let end = rest.iter().take(64).position(|byte| !byte.is_ascii_graphic())?;
        std::str::from_utf8(&rest[..end]).ok()
    });
    // Beside the banner there is its format, `%s`.
    words.filter(|word| word.starts_with(|first: char| first.is_ascii_digit())).map(str::to_owned).next()
}

/// What firmware fetches beside kernels.
fn firmware(boot: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let is_device_tree =
        |name: &str| name.ends_with(".dtb") && BOARDS.iter().any(|board| name.starts_with(board));
    let is_wanted =
        |name: &str| FIRMWARE.contains(&name) || is_device_tree(name) || name.starts_with(OVERLAYS);
    let mut found = files_below(boot)?;
    found.retain(|name, _| is_wanted(name));
    if !found.keys().any(|name| is_device_tree(name)) {
        bail!("the image's boot partition has no device tree of a Raspberry Pi with 64 bits");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_says_which_linux_it_is() {
        let image = b"\0\0Linux version %s\0code Linux version 6.6.51+rpt-rpi-2712 (serge@host) (gcc)\0";
        assert_eq!(release(image).as_deref(), Some("6.6.51+rpt-rpi-2712"));
        assert_eq!(release(b"Linux version"), None);
        assert_eq!(unpacked(gzip(image).unwrap()).unwrap(), image);
    }
}

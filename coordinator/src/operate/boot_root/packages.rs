//! Debian's packages for arm64, unpacked side by side without being installed: nothing of them is run, so no
//! emulator is needed and no right but to write.

use super::program::{MMDEBSTRAP, Run};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Where packages come from.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Origin {
    /// The release of Debian
    #[arg(long, default_value = "bookworm")]
    pub(super) suite: String,
    /// The mirror to fetch packages from, such as http://mirror.example/debian; without it mmdebstrap's choice
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

/// Unpacks `packages` and what they depend on below `into`; returns all of them with their versions.
///
/// # Errors
/// When mmdebstrap is missing or fails, such as without a network.
pub(super) async fn unpack(
    origin: &Origin,
    packages: &[&str],
    into: &Path,
) -> anyhow::Result<BTreeMap<String, String>> {
    let include = format!("--include={}", packages.join(","));
    Run::new(MMDEBSTRAP.locate()?)
        .args([
            "--quiet",
            "--mode=chrootless",
            "--variant=extract",
            "--arch=arm64",
            // The firmware of the boards is not free software.
            "--components=main,non-free-firmware",
            "--aptopt=APT::Install-Recommends \"false\"",
            // The names of the files there are those of the packages.
            "--skip=cleanup/apt/cache",
            &include,
            &origin.suite,
        ])
        .args([into])
        .args(origin.mirror.iter())
        .output()
        .await?;
    let mut versions = BTreeMap::new();
    for entry in fs::read_dir(into.join("var/cache/apt/archives"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        versions.extend(name_and_version(&name));
    }
    Ok(versions)
}

/// `libc6_2.36-9_arm64.deb`; a colon in a version stands there as `%3a`.
fn name_and_version(file: &str) -> Option<(String, String)> {
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version) = (parts.next()?, parts.next()?);
    Some((name.into(), version.replace("%3a", ":")))
}

#[cfg(test)]
mod tests {
    use super::name_and_version;

    #[test]
    fn files_of_packages_tell_their_versions() {
        let found = name_and_version("busybox-static_1%3a1.35.0-4+b1_arm64.deb");
        assert_eq!(found, Some(("busybox-static".into(), "1:1.35.0-4+b1".into())));
        assert_eq!(name_and_version("lock"), None);
    }
}

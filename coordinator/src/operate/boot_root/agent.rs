//! Builds the agent for arm64, statically linked: with the target of rustup where it is installed, else with
//! Debian's compiler and the standard library of its package, which is unpacked beside it.

use super::packages::{self, Origin};
use super::program::{CROSS_LINKER, Program, Run, located};
use anyhow::{Context as _, bail};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const CARGO: Program = Program { name: "cargo", package: "cargo" };
/// Debian's own compiler, of the package that has a standard library for arm64 beside it.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_STD: &str = "libstd-rust-web-dev";
/// Which machine an ELF file is for, at bytes 18 and 19: AArch64. Source: elf(5).
const MACHINE: [u8; 2] = [183, 0];

/// What compiles for arm64.
enum Toolchain {
    /// The one that `cargo` uses anyway.
    Own,
    /// Debian's, with a system root that has the standard library for arm64.
    Debian { system_root: PathBuf },
}

/// Builds the agent from the source tree `source` and returns its bytes.
///
/// # Errors
/// When something is missing, which is named, or the source does not compile.
pub(super) async fn build(source: &Path, origin: &Origin) -> anyhow::Result<Vec<u8>> {
    if !source.join("node-agent/Cargo.toml").is_file() {
        bail!(
            "{} is not the source of PiSeduce: name its directory with --source, or a built agent with --agent",
            source.display()
        );
    }
    let source = fs::canonicalize(source)?;
    let Ok(cargo) = CARGO.locate() else {
        bail!(
            "there is no cargo: run `piseduce boot-root agent` as a user who has a Rust toolchain, then give \
             its result with --agent"
        );
    };
    let linker = CROSS_LINKER.locate()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(source.join("target"), PathBuf::from);
    let target = target.join("boot-root");
    fs::create_dir_all(&target).with_context(|| format!("failed to create {}", target.display()))?;
    let target = fs::canonicalize(target)?;
    let toolchain = toolchain(&source, origin, &target).await?;
    let mut flags = "-C target-feature=+crt-static".to_owned();
    let mut cargo = Run::new(cargo).within(&source);
    if let Toolchain::Debian { system_root } = &toolchain {
        flags = format!("{flags} --sysroot {}", system_root.display());
        cargo = cargo.variable("RUSTC", DEBIAN_RUSTC);
    }
    cargo
        .variable("CARGO_TARGET_DIR", &target)
        .variable("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", &linker)
        .variable("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags)
        .variable("CC_aarch64_unknown_linux_gnu", &linker)
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--package",
            "piseduce-agent",
            "--target",
            TARGET,
        ])
        .output()
        .await?;
    read(&target.join(TARGET).join("release/piseduce-agent"))
}

/// Reads a built agent and makes sure that it is one for arm64.
///
/// # Errors
/// When it cannot be read or is for another machine.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let agent = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    if !agent.starts_with(b"\x7fELF") || agent.get(18..20) != Some(&MACHINE) {
        bail!("{} is no program for arm64; `piseduce boot-root agent` makes one", path.display());
    }
    Ok(agent)
}

async fn toolchain(source: &Path, origin: &Origin, target: &Path) -> anyhow::Result<Toolchain> {
    if let Some(rustc) = located("rustc") {
        let root = Run::new(rustc).within(source).args(["--print", "sysroot"]).output().await?;
        if rustlib(root.trim()).join(TARGET).is_dir() {
            return Ok(Toolchain::Own);
        }
    }
    if !Path::new(DEBIAN_RUSTC).is_file() {
        bail!(
            "there is no Rust compiler for arm64: run `rustup target add {TARGET}`, or, on Debian 12, \
             `apt install rustc-web`"
        );
    }
    let version = Run::new(DEBIAN_RUSTC.into()).args(["--version"]).output().await?;
    let release = version.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned();
    // It is kept: another path of it would compile everything anew.
    let system_root = target.join(format!("system-root-{release}"));
    if !rustlib(&system_root).join(TARGET).is_dir() {
        unpack_std(origin, &release, target, &system_root).await?;
    }
    Ok(Toolchain::Debian { system_root })
}

/// Makes a system root of Debian's compiler that has the standard library for arm64, too.
async fn unpack_std(origin: &Origin, release: &str, target: &Path, system_root: &Path) -> anyhow::Result<()> {
    let scratch = tempfile::Builder::new().prefix(".std-").tempdir_in(target)?;
    let packages = packages::unpack(origin, &[DEBIAN_STD], &scratch.path().join("std")).await?;
    let found = packages.get(DEBIAN_STD).map_or("none", String::as_str);
    if !found.starts_with(release) {
        bail!(
            "{DEBIAN_RUSTC} is version {release}, and its standard library for arm64 in Debian {} is {found}: \
             run `apt update && apt install rustc-web`, or `rustup target add {TARGET}`",
            origin.suite
        );
    }
    let targets = rustlib(system_root);
    fs::create_dir_all(&targets)?;
    // Programs that run while it builds are compiled by the same compiler, for this machine.
    let ask = |question: &'static str| Run::new(DEBIAN_RUSTC.into()).args(["--print", question]).output();
    let (here, root) = (ask("host-tuple").await?, ask("sysroot").await?);
    let link = targets.join(here.trim());
    if link.symlink_metadata().is_err() {
        symlink(rustlib(root.trim()).join(here.trim()), link)?;
    }
    fs::rename(rustlib(scratch.path().join("std/usr")).join(TARGET), targets.join(TARGET))?;
    Ok(())
}

fn rustlib(root: impl AsRef<Path>) -> PathBuf {
    root.as_ref().join("lib/rustlib")
}

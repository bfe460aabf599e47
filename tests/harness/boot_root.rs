//! The boot root of virtual racks, made by the real `piseduce boot-root build` and kept for as long as what it is made of
//! stays the same.

use crate::images::{cache, made_once};
use crate::process::{command, program, run, workspace};
use anyhow::{Context as _, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What its bytes follow from, in the workspace.
const MADE_OF: [&str; 5] =
    ["Cargo.lock", "Cargo.toml", "protocol/src", "node-agent", "coordinator/src/operate/boot_root"];
const PREFIX: &str = "boot-root-";

/// The directory `boot-roots` of a coordinator, with one version in it; `tell` gets a line for what takes long.
///
/// # Errors
/// When it cannot be made; what is missing is named.
pub fn boot_roots(tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<PathBuf> {
    let mut key = blake3::Hasher::new();
    for part in MADE_OF {
        add(&mut key, &workspace().join(part))?;
    }
    let directory = cache().join(format!("{PREFIX}{}", &key.finalize().to_hex()[..8]));
    made_once(&directory, |directory| {
        tell(
            "boot root: building the agent for arm64, fetching Debian's kernel: again when their source changes",
        );
        for entry in fs::read_dir(cache())?.flatten() {
            let is_older = entry.file_name().to_string_lossy().starts_with(PREFIX);
            if is_older && entry.path().is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        fs::create_dir_all(directory)?;
        build(directory)
    })?;
    Ok(directory.join("boot-roots"))
}

/// Puts it into the data directory of a coordinator.
///
/// # Errors
/// When it cannot be copied.
pub fn install(boot_roots: &Path, data: &Path) -> anyhow::Result<()> {
    run("cp", &["-a", &boot_roots.to_string_lossy(), &data.to_string_lossy()]).map(drop)
}

fn build(directory: &Path) -> anyhow::Result<()> {
    // Only the data directory matters here; the addresses are asked for all the same.
    let settings = directory.join("settings.toml");
    let data = directory.to_string_lossy();
    let nowhere = "advertised_address = \"127.0.0.1:1\"";
    fs::write(&settings, format!("data_directory = {data:?}\n[nodes]\n{nowhere}\n[broker]\n{nowhere}\n"))?;
    let mut build = command(program("piseduce"));
    build.args(["boot-root", "build", "--debian", "--ram", "--source"]).arg(workspace());
    build.arg("--config").arg(settings).stdin(Stdio::null());
    let output = build.output().context("piseduce cannot be started")?;
    match output.status.success() {
        true => Ok(()),
        false => bail!("no boot root: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

fn add(key: &mut blake3::Hasher, path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)?.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        return entries.iter().try_for_each(|entry| add(key, entry));
    }
    key.update(path.to_string_lossy().as_bytes());
    key.update(&fs::read(path).with_context(|| format!("failed to read {}", path.display()))?);
    Ok(())
}

//! The boot roots of virtual racks, made by the real `piseduce boot-root build` and kept for as long as what they are made of
//! stays the same: one from packages, one of the same for NFS, and one from an image of Raspberry Pi OS.

use crate::images::{cache, made_once, raspberry_pi_os};
use crate::process::{command, program, run, workspace};
use anyhow::{Context as _, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What their bytes follow from, in the workspace.
const MADE_OF: [&str; 6] = [
    "Cargo.lock",
    "Cargo.toml",
    "protocol/src",
    "node-agent",
    "coordinator/src/operate/boot_root",
    "tests/harness/images/raspberry_pi_os.rs",
];
const PREFIX: &str = "boot-root-";

/// Boot roots.
#[derive(Clone, Debug)]
pub struct BootRoots {
    /// The directory `boot-roots` of a coordinator; the one from packages is the current one.
    pub directory: PathBuf,
    /// The directory with the trees for NFS.
    pub exports: PathBuf,
    /// The name of the one for NFS.
    pub nfs: String,
    /// The name of the one from an image.
    pub image: String,
}

/// Boot roots; `tell` gets a line for what takes long.
///
/// # Errors
/// When they cannot be made; what is missing is named.
pub fn boot_roots(tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<BootRoots> {
    let mut key = blake3::Hasher::new();
    for part in MADE_OF {
        add(&mut key, &workspace().join(part))?;
    }
    let made = cache().join(format!("{PREFIX}{}", &key.finalize().to_hex()[..8]));
    made_once(&made, |made| {
        tell(
            "boot roots: building the agent for arm64, fetching Debian's kernel: again when their source changes",
        );
        for entry in fs::read_dir(cache())?.flatten() {
            let is_older = entry.file_name().to_string_lossy().starts_with(PREFIX);
            if is_older && entry.path().is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        build(made)
    })?;
    of(&made)
}

/// Puts them into the data directory of a coordinator, and what is for NFS beside it.
///
/// # Errors
/// When they cannot be copied.
pub fn install(boot_roots: &BootRoots, data: &Path, exports: &Path) -> anyhow::Result<()> {
    run("cp", &["-a", &boot_roots.directory.to_string_lossy(), &data.to_string_lossy()])?;
    run("cp", &["-a", &boot_roots.exports.to_string_lossy(), &exports.to_string_lossy()]).map(drop)
}

fn of(made: &Path) -> anyhow::Result<BootRoots> {
    let directory = made.join("boot-roots");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    let named = |part: &str| {
        let name = names.iter().find(|name| name.contains(part));
        name.cloned().with_context(|| format!("no boot root with {part} in its name"))
    };
    Ok(BootRoots { nfs: named("-nfs-")?, image: named("image-")?, exports: made.join("exports"), directory })
}

fn build(made: &Path) -> anyhow::Result<()> {
    let exports = made.join("exports");
    fs::create_dir_all(&exports)?;
    // Only the directories matter here; the addresses are asked for all the same.
    let nowhere = "advertised_address = \"127.0.0.1:1\"";
    let settings = format!(
        "data_directory = {made:?}\n[nodes]\n{nowhere}\n[broker]\n{nowhere}\n[netboot.nfs]\ndirectory = {exports:?}\n"
    );
    fs::write(made.join("settings.toml"), settings)?;
    let agent = made.join("agent").to_string_lossy().into_owned();
    boot_root(made, &["agent", &agent, "--source", &workspace().to_string_lossy()])?;
    let build = |arguments: &[&str]| {
        let settings = made.join("settings.toml").to_string_lossy().into_owned();
        let always = ["--agent", &agent, "--config", &settings];
        boot_root(made, &[&["build"], arguments, &always].concat())
    };
    build(&["--debian", "--ram"])?;
    build(&["--debian", "--nfs", "--keep-current"])?;
    let tree = fs::read_dir(&exports)?.next().context("an exported tree")??.path();
    let image = made.join("raspios.img");
    raspberry_pi_os::write(
        &image,
        &made.join("boot-roots/current/files/kernel8.img"),
        &tree.join("lib/modules"),
    )?;
    build(&["--from-image", &image.to_string_lossy(), "--ram", "--keep-current"])?;
    fs::remove_file(image)?;
    Ok(())
}

fn boot_root(directory: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut piseduce = command(program("piseduce"));
    piseduce.arg("boot-root").args(arguments).current_dir(directory).stdin(Stdio::null());
    let output = piseduce.output().context("piseduce cannot be started")?;
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

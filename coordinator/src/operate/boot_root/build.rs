//! Makes a version of the boot root: kernels, agent and init become what the firmware of Raspberry Pis fetches, and, under NFS, a
//! tree that their kernels fetch.

use super::agent;
use super::ingredients::{Ingredients, files_below, read};
use super::modules;
use super::packages::Origin;
use super::tree::Tree;
use crate::netboot::BootRoots;
use crate::netboot::boot_root::{Content, Description, Kind};
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// `console=serial0` becomes the name of the serial line when the firmware hands the words over. A kernel that gave up
/// starts again after 10 s.
const COMMAND_LINE: &str = "console=serial0,115200 panic=10 net.ifnames=0 quiet loglevel=4";
/// One file must stay below what a bootloader can count in blocks of 1,024 bytes: 65,535 of them.
/// Source: rpi-eeprom issue 720 and release notes of 2025-09-23.
const FILE_BYTES_MAX: u64 = 65_535 * 1024;
/// What an initramfs should not exceed, so that boards with 1 GB have room to work.
const INITRAMFS_BYTES_MAX: usize = 60_000_000;

/// Where the agent comes from.
pub(super) enum AgentSource {
    File(PathBuf),
    Tree(PathBuf),
}

impl AgentSource {
    /// The agent, built if need be; tells that to `tell`.
    ///
    /// # Errors
    /// When it cannot be read or built, or is for another machine.
    pub(super) async fn agent(&self, origin: &Origin, tell: &dyn Fn(&str)) -> anyhow::Result<Vec<u8>> {
        match self {
            AgentSource::File(file) => agent::read(file),
            AgentSource::Tree(source) => {
                tell("building the agent for arm64");
                agent::build(source, origin).await
            }
        }
    }
}

/// How a node gets what it works with.
#[derive(Clone, Debug)]
pub(super) enum Root {
    /// In its initramfs.
    Ram,
    /// From below this directory, which is exported.
    Nfs(PathBuf),
}

/// A version that was made.
pub(super) struct Made {
    pub(super) description: Description,
    /// It was there already, byte for byte.
    pub(super) known: bool,
}

/// Makes a version in `roots`; what is half done is in `scratch`, on the same file system.
///
/// # Errors
/// When something that is needed is missing, which is named. Nothing is left of it then, but maybe an exported tree, which the next try
/// finds whole.
pub(super) async fn build(
    roots: &BootRoots,
    ingredients: &Ingredients,
    agent: &[u8],
    root: &Root,
    scratch: &Path,
) -> anyhow::Result<Made> {
    let made = scratch.join("version");
    let files = made.join("files");
    fs::create_dir_all(&files)?;
    let base = Tree::base(&ingredients.tools)?;
    let mut work = Tree::work(&ingredients.tools, agent)?;
    let all = [&modules::NETWORK[..], &modules::WORK].concat();
    for kernel in &ingredients.kernels {
        let selected = scratch.join(format!("selected{}", kernel.suffix));
        let mut system = Tree::default();
        system.add(&base);
        match root {
            Root::Ram => {
                system.add(&work);
                system.add_data(modules::select(kernel, &all, &selected).await?);
            }
            Root::Nfs(_) => {
                work.add_data(modules::select(kernel, &all, &selected).await?);
                let (few, scratch) = (
                    [&modules::NETWORK[..], &modules::NFS].concat(),
                    scratch.join(format!("few{}", kernel.suffix)),
                );
                system.add_data(modules::select(kernel, &few, &scratch).await?);
            }
        }
        let initramfs = system.pack()?;
        if initramfs.len() > INITRAMFS_BYTES_MAX {
            bail!("the initramfs has {} bytes, and {INITRAMFS_BYTES_MAX} are allowed", initramfs.len());
        }
        fs::write(files.join(format!("initramfs{}", kernel.suffix)), initramfs)?;
        fs::write(files.join(format!("kernel{}.img", kernel.suffix)), &kernel.image)?;
    }
    fs::write(files.join("config.txt"), ingredients.config)?;
    for (name, path) in &ingredients.firmware {
        let to = files.join(name);
        fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
        fs::write(to, read(path)?)?;
    }
    let contents = contents(&files)?;
    let (kind, exported) = match root {
        Root::Ram => (Kind::Ram, BTreeMap::new()),
        Root::Nfs(_) => {
            let files = work.files().map(|(path, content)| (path.to_owned(), Content::of(content)));
            (Kind::Nfs, files.collect())
        }
    };
    let version = version(&ingredients.source, kind, contents.iter().chain(&exported));
    if let Root::Nfs(directory) = root {
        write_export(&work, &directory.join(&version))?;
    }
    let description = Description {
        schema: 1,
        version,
        kind,
        command_line: COMMAND_LINE.into(),
        packages: ingredients.packages.clone(),
        agent: blake3::hash(agent).to_hex().to_string(),
        files: contents,
        exported,
    };
    keep(roots, description, &made)
}

/// The name says where it comes from and what is in it, so that two of one name are the same.
fn version<'a>(
    source: &str,
    kind: Kind,
    contents: impl Iterator<Item = (&'a String, &'a Content)>,
) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(COMMAND_LINE.as_bytes());
    for (name, content) in contents {
        hasher.update(name.as_bytes()).update(b"\0").update(content.blake3.as_bytes());
    }
    format!("{source}-{kind}-{}", &hasher.finalize().to_hex()[..8])
}

/// Puts the tree where it is exported, whole or not at all.
fn write_export(tree: &Tree, directory: &Path) -> anyhow::Result<()> {
    let io = || format!("failed to write {}", directory.display());
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().context("an export is in a directory")?;
    if !parent.is_dir() {
        bail!("there is no {0}: `sudo install -d -o $USER -m 755 {0}` makes it", parent.display());
    }
    let scratch = tempfile::Builder::new().prefix(".build-").tempdir_in(parent).with_context(io)?;
    let made = scratch.path().join("tree");
    fs::create_dir(&made).with_context(io)?;
    fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).with_context(io)?;
    tree.write(&made)?;
    rustix::fs::syncfs(File::open(&made)?)?;
    fs::rename(&made, directory).with_context(io)
}

fn keep(roots: &BootRoots, description: Description, made: &Path) -> anyhow::Result<Made> {
    if roots.versions()?.contains(&description.version) {
        return Ok(Made { description, known: true });
    }
    let mut file = File::create(made.join("boot-root.json"))?;
    serde_json::to_writer_pretty(&mut file, &description)?;
    writeln!(file)?;
    rustix::fs::syncfs(&file)?;
    let home = roots.directory().join(&description.version);
    fs::rename(made, &home).with_context(|| format!("failed to write {}", home.display()))?;
    Ok(Made { description, known: false })
}

fn contents(files: &Path) -> anyhow::Result<BTreeMap<String, Content>> {
    let mut contents = BTreeMap::new();
    for (name, path) in files_below(files)? {
        let content = Content::of(&read(&path)?);
        if content.bytes > FILE_BYTES_MAX {
            bail!("{name} has {} bytes: some bootloaders fetch no more than {FILE_BYTES_MAX}", content.bytes);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        contents.insert(name, content);
    }
    Ok(contents)
}

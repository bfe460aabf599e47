//! Files and links by their paths: the system that a kernel starts, packed as its initramfs or as a directory that is exported.

use super::ingredients::read;
use super::initramfs::Initramfs;
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// The first process.
const INIT: &str = include_str!("init.sh");
/// What makes an offered address the interface's.
const UDHCPC: &str = include_str!("udhcpc.sh");
const DIRECTORIES: [&str; 7] = ["proc", "sys", "run", "tmp", "etc", "usr", "nfs"];
const TOOLS: [&str; 2] = ["e2fsck", "resize2fs"];
const LIBRARIES: &str = "lib/aarch64-linux-gnu";
const LOADER: &str = "ld-linux-aarch64.so.1";
/// What `e2fsck` and `resize2fs` are linked to.
const WANTED_LIBRARIES: [&str; 6] = ["libc", "libext2fs", "libe2p", "libcom_err", "libblkid", "libuuid"];

const PROGRAM: u32 = 0o755;
const DATA: u32 = 0o644;

/// Files with their permissions, links and directories, all of root's.
#[derive(Debug, Default)]
pub(super) struct Tree {
    directories: Vec<&'static str>,
    files: BTreeMap<String, (u32, Vec<u8>)>,
    links: BTreeMap<String, String>,
}

impl Tree {
    /// What a kernel can start: the first process, and a shell with what belongs to it, from the packages in `tools`.
    ///
    /// # Errors
    /// When a package lacks something.
    pub(super) fn base(tools: &Path) -> anyhow::Result<Tree> {
        let mut tree = Tree { directories: DIRECTORIES.into(), ..Tree::default() };
        tree.file("init", PROGRAM, INIT.as_bytes().to_vec());
        tree.file("etc/udhcpc.sh", PROGRAM, UDHCPC.as_bytes().to_vec());
        tree.file("bin/busybox", PROGRAM, packaged(tools, "bin/busybox")?);
        for (link, target) in
            [("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin"), ("usr/lib", "../lib")]
        {
            tree.links.insert(link.into(), target.into());
        }
        Ok(tree)
    }

    /// What a node works with: the agent, its tools and what those are linked to, from the packages in `tools`.
    ///
    /// # Errors
    /// When a package lacks something.
    pub(super) fn work(tools: &Path, agent: &[u8]) -> anyhow::Result<Tree> {
        let mut tree = Tree::default();
        tree.file("bin/piseduce-agent", PROGRAM, agent.to_vec());
        for tool in TOOLS {
            tree.file(&format!("bin/{tool}"), PROGRAM, packaged(tools, &format!("sbin/{tool}"))?);
        }
        for (name, path) in libraries(tools)? {
            tree.file(&format!("{LIBRARIES}/{name}"), PROGRAM, read(&path)?);
        }
        tree.links.insert(format!("lib/{LOADER}"), format!("aarch64-linux-gnu/{LOADER}"));
        Ok(tree)
    }

    fn file(&mut self, path: &str, permissions: u32, content: Vec<u8>) {
        self.files.insert(path.into(), (permissions, content));
    }

    /// Adds another tree.
    pub(super) fn add(&mut self, other: &Tree) {
        self.directories.extend(&other.directories);
        self.files.extend(other.files.clone());
        self.links.extend(other.links.clone());
    }

    /// Adds files that are no programs, by their paths.
    pub(super) fn add_data(&mut self, files: BTreeMap<String, Vec<u8>>) {
        self.files.extend(files.into_iter().map(|(path, content)| (path, (DATA, content))));
    }

    /// The files.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, (_, content))| (path.as_str(), content.as_slice()))
    }

    /// The tree as an initramfs.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn pack(&self) -> anyhow::Result<Vec<u8>> {
        let mut made = Initramfs::new()?;
        for directory in &self.directories {
            made.directory(directory)?;
        }
        for (path, (permissions, content)) in &self.files {
            made.file(path, *permissions, content)?;
        }
        for (path, target) in &self.links {
            made.link(path, target)?;
        }
        made.finish()
    }

    /// Writes the tree below `directory`, where everybody may read it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let write = || -> std::io::Result<()> {
            for (path, (permissions, content)) in &self.files {
                let path = with_parents(directory, path)?;
                fs::write(&path, content)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(*permissions))?;
            }
            for (path, target) in &self.links {
                symlink(target, with_parents(directory, path)?)?;
            }
            Ok(())
        };
        write().with_context(|| format!("failed to write in {}", directory.display()))
    }
}

/// The path of `name` below `directory`, whose directories are there then, whatever the umask is.
fn with_parents(directory: &Path, name: &str) -> std::io::Result<PathBuf> {
    let path = directory.join(name);
    let parents: Vec<&Path> = path.ancestors().skip(1).take_while(|parent| *parent != directory).collect();
    for parent in parents.into_iter().rev().filter(|parent| !parent.is_dir()).collect::<Vec<_>>() {
        fs::create_dir(parent)?;
        fs::set_permissions(parent, fs::Permissions::from_mode(PROGRAM))?;
    }
    Ok(path)
}

/// The shared libraries of all packages, by the name that programs ask for.
fn libraries(tree: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for directory in places(tree, LIBRARIES).into_iter().filter(|path| path.is_dir()) {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let wanted = WANTED_LIBRARIES.iter().any(|wanted| name.starts_with(&format!("{wanted}.so.")));
            // Behind a link with the name that programs ask for is the file with the full version.
            if name == LOADER || (wanted && name.matches('.').count() == 2) {
                found.insert(name, fs::canonicalize(entry.path())?);
            }
        }
    }
    for wanted in WANTED_LIBRARIES {
        if !found.keys().any(|name| name.starts_with(wanted)) {
            bail!("the packages have no {wanted}, which the tools need");
        }
    }
    if !found.contains_key(LOADER) {
        bail!("the packages have no {LOADER}, which the tools need");
    }
    Ok(found)
}

/// Where `path` may be in a tree of packages: before and since Debian's merge of `/usr`.
fn places(tree: &Path, path: &str) -> [PathBuf; 2] {
    [tree.join(path), tree.join("usr").join(path)]
}

fn packaged(tree: &Path, path: &str) -> anyhow::Result<Vec<u8>> {
    let [old, new] = places(tree, path);
    read(if old.exists() { &old } else { &new })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_written_for_everybody_to_read() {
        let scratch = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        tree.file("bin/tool", PROGRAM, b"x".to_vec());
        tree.links.insert("lib/x".into(), "../bin/tool".into());
        tree.add_data(BTreeMap::from([("lib/modules/1/a".into(), b"y".to_vec())]));
        tree.write(scratch.path()).unwrap();
        let mode = |path: &str| scratch.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode("bin"), mode("lib/x"), mode("lib/modules/1"), mode("lib/modules/1/a")),
            (0o755, 0o755, 0o755, 0o644)
        );
    }
}

//! Makes a version of the boot root: packages, agent and init become a kernel, an initramfs and what the firmware of
//! Raspberry Pis fetches beside them.

use super::initramfs::Initramfs;
use super::packages::{self, Origin};
use super::{agent, modules};
use crate::netboot::BootRoots;
use crate::netboot::boot_root::{Content, Description};
use anyhow::{Context as _, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The first process.
const INIT: &str = include_str!("init.sh");
/// What makes an offered address the interface's.
const UDHCPC: &str = include_str!("udhcpc.sh");

const PACKAGES: [&str; 4] = ["linux-image-arm64", "busybox-static", "e2fsprogs", "raspi-firmware"];
const TOOLS: [&str; 2] = ["e2fsck", "resize2fs"];
const LIBRARIES: &str = "lib/aarch64-linux-gnu";
const LOADER: &str = "ld-linux-aarch64.so.1";
/// What the firmware of Pi 3 and Pi 4 needs; see the package raspi-firmware.
const FIRMWARE: [&str; 5] = ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"];
/// `console=serial0` becomes the name of the serial line when the firmware hands the words over. A kernel that gave up
/// starts again after 10 s.
const COMMAND_LINE: &str = "console=serial0,115200 panic=10 net.ifnames=0 quiet loglevel=4";
/// Settings that the firmware of Pi 3 and Pi 4 reads; `upstream_kernel` because Debian's kernel names boards as the
/// kernel's own source does. Source: config.txt of the Raspberry Pi documentation.
const CONFIG: &str = "# The boot root of PiSeduce. Do not change it: build another version.
arm_64bit=1
upstream_kernel=1
enable_uart=1
kernel=kernel8.img
initramfs initramfs8 followkernel
";
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

/// A version that was made.
pub(super) struct Made {
    pub(super) description: Description,
    /// It was there already, byte for byte.
    pub(super) known: bool,
}

/// Makes a version in `roots`; tells the stages to `tell`.
///
/// # Errors
/// When something that is needed is missing, which is named, or cannot be fetched. Nothing is left of it then.
pub(super) async fn ram(
    roots: &BootRoots,
    origin: &Origin,
    agent: &AgentSource,
    tell: &dyn Fn(&str),
) -> anyhow::Result<Made> {
    let directory = roots.directory();
    fs::create_dir_all(directory).with_context(|| format!("failed to create {}", directory.display()))?;
    let scratch = tempfile::Builder::new().prefix(".build-").tempdir_in(directory);
    let scratch = scratch.with_context(|| format!("failed to write in {}", directory.display()))?;
    let agent = match agent {
        AgentSource::File(file) => agent::read(file)?,
        AgentSource::Tree(source) => {
            tell("building the agent for arm64");
            agent::build(source, origin).await?
        }
    };
    tell(&format!("fetching the packages of Debian {} for arm64", origin.suite));
    let tree = scratch.path().join("packages");
    let packages = packages::unpack(origin, &PACKAGES, &tree).await?;
    tell("packing kernel and initramfs");
    let kernel = modules::kernel(&tree)?;
    let selected = scratch.path().join("selected");
    let modules = modules::select(&tree, &kernel, &selected).await?;
    let files = scratch.path().join("version/files");
    fs::create_dir_all(&files)?;
    let agent_hash = blake3::hash(&agent).to_hex().to_string();
    let initramfs = initramfs(&tree, &selected, &modules, &agent)?;
    if initramfs.len() > INITRAMFS_BYTES_MAX {
        bail!("the initramfs has {} bytes, and {INITRAMFS_BYTES_MAX} are allowed", initramfs.len());
    }
    fs::write(files.join("initramfs8"), initramfs)?;
    fs::write(files.join("kernel8.img"), gzip(&tree.join("boot").join(format!("vmlinuz-{kernel}")))?)?;
    fs::write(files.join("config.txt"), CONFIG)?;
    firmware(&tree, &kernel, &files)?;
    let contents = contents(&files)?;
    let description = Description {
        schema: 1,
        version: version(&origin.suite, &contents),
        kind: "ram".into(),
        command_line: COMMAND_LINE.into(),
        packages,
        agent: agent_hash,
        files: contents,
    };
    keep(roots, description, &scratch.path().join("version"))
}

/// The name says where it comes from and what is in it, so that two of one name are the same.
fn version(suite: &str, contents: &BTreeMap<String, Content>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(COMMAND_LINE.as_bytes());
    for (name, content) in contents {
        hasher.update(name.as_bytes()).update(b"\0").update(content.blake3.as_bytes());
    }
    format!("debian-{suite}-ram-{}", &hasher.finalize().to_hex()[..8])
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

fn initramfs(tree: &Path, selected: &Path, modules: &[PathBuf], agent: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut made = Initramfs::new()?;
    for directory in ["proc", "sys", "run", "tmp", "etc", "usr"] {
        made.directory(directory)?;
    }
    made.file("init", 0o755, INIT.as_bytes())?;
    made.file("etc/udhcpc.sh", 0o755, UDHCPC.as_bytes())?;
    made.file("bin/busybox", 0o755, &packaged(tree, "bin/busybox")?)?;
    made.file("bin/piseduce-agent", 0o755, agent)?;
    for tool in TOOLS {
        made.file(&format!("bin/{tool}"), 0o755, &packaged(tree, &format!("sbin/{tool}"))?)?;
    }
    for (link, target) in
        [("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin"), ("usr/lib", "../lib")]
    {
        made.link(link, target)?;
    }
    for (name, path) in libraries(tree)? {
        made.file(&format!("{LIBRARIES}/{name}"), 0o755, &read(&path)?)?;
    }
    made.link(&format!("lib/{LOADER}"), &format!("aarch64-linux-gnu/{LOADER}"))?;
    for module in modules {
        let name = module.to_str().context("a module's path is UTF-8")?;
        made.file(name, 0o644, &read(&selected.join(module))?)?;
    }
    made.finish()
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

/// What `e2fsck` and `resize2fs` are linked to.
const WANTED_LIBRARIES: [&str; 6] = ["libc", "libext2fs", "libe2p", "libcom_err", "libblkid", "libuuid"];

/// 64-bit kernels may be gzip archives. Source: config.txt of the Raspberry Pi documentation, `kernel`.
fn gzip(image: &Path) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&read(image)?)?;
    Ok(encoder.finish()?)
}

/// The boards' firmware and the device trees of Debian's kernel.
fn firmware(tree: &Path, kernel: &str, files: &Path) -> anyhow::Result<()> {
    for name in FIRMWARE {
        fs::write(files.join(name), read(&tree.join("usr/lib/raspi-firmware").join(name))?)?;
    }
    let device_trees = tree.join(format!("usr/lib/linux-image-{kernel}/broadcom"));
    let boards = ["bcm2711-rpi-", "bcm2837-rpi-"];
    for entry in fs::read_dir(&device_trees).with_context(|| format!("no {}", device_trees.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if boards.iter().any(|board| name.starts_with(board)) {
            fs::write(files.join(name), read(&entry.path())?)?;
        }
    }
    Ok(())
}

/// Where `path` may be in a tree of packages: before and since Debian's merge of `/usr`.
fn places(tree: &Path, path: &str) -> [PathBuf; 2] {
    [tree.join(path), tree.join("usr").join(path)]
}

fn packaged(tree: &Path, path: &str) -> anyhow::Result<Vec<u8>> {
    let [old, new] = places(tree, path);
    read(if old.exists() { &old } else { &new })
}

fn contents(files: &Path) -> anyhow::Result<BTreeMap<String, Content>> {
    let mut contents = BTreeMap::new();
    for entry in fs::read_dir(files)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let bytes = read(&entry.path())?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            bail!("{name} has {} bytes: some bootloaders fetch no more than {FILE_BYTES_MAX}", bytes.len());
        }
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o644))?;
        let content =
            Content { bytes: bytes.len() as u64, blake3: blake3::hash(&bytes).to_hex().to_string() };
        contents.insert(name, content);
    }
    Ok(contents)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

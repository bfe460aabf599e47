//! Images to deploy: a small one for stories, made in a second, and a real Debian for the demo. And the
//! firmware's look at a card, which reads what a Pi's firmware reads. The image of the virtual rack is in [`arm64`].

pub mod arm64;
pub mod raspberry_pi_os;

use crate::firmware::BootPartition;
use crate::process::{command, run, workspace};
use anyhow::{Context as _, bail};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// The disk id of the images made here: "pise" in ASCII.
const DISK_ID: u32 = 0x7069_7365;
const BOOT_START: u64 = 4 * MIB;

/// What a firmware finds on a card.
#[derive(Debug)]
pub struct BootFiles {
    /// The kernel command line.
    pub command_line: Option<String>,
    /// The number of the partition that it names as root.
    pub root_partition: Option<u8>,
}

/// Looks at `card` as a Pi's firmware does: table, first FAT partition, `cmdline.txt`.
///
/// # Errors
/// When there is no table or no FAT partition.
pub fn boot_files(card: &Path) -> anyhow::Result<BootFiles> {
    let partition = BootPartition::open(card)?;
    let command_line = partition.read("cmdline.txt")?.map(String::from_utf8).transpose()?;
    let table = &partition.table;
    let root_partition = command_line.as_ref().and_then(|line| {
        let root = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("root=PARTUUID="))?;
        let is_root = |number: &u8| table.part_uuid(*number).as_deref() == Some(root);
        table.entries().iter().map(|entry| entry.number).find(is_root)
    });
    Ok(BootFiles { command_line, root_partition })
}

/// Which partition table an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Mbr,
    Gpt,
}

/// What Linux calls the root partition of an image with a GPT.
const GPT_ROOT: &str = "70697365-6475-6365-0000-000000000002";

/// What an image is made of.
struct Recipe<'a> {
    label: Label,
    /// The tree of its root.
    root: &'a Path,
    boot_mib: u64,
    root_mib: u64,
    /// What is in its boot partition beside the kernel's command line.
    boot_files: Vec<(&'static str, Vec<u8>)>,
}

/// The boot partition of an image that only bench nodes boot.
fn bench_files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.txt", b"# bench\narm_64bit=1\n".to_vec()),
        ("bootcode.bin", b"no firmware".to_vec()),
        ("start.elf", b"no firmware either".to_vec()),
        ("start4.elf", b"nor for a Pi 4".to_vec()),
        ("kernel8.img", b"no kernel".to_vec()),
    ]
}

impl Recipe<'_> {
    /// Writes the image: a table, a FAT boot partition, an ext4 root. No mounts, no loop devices.
    fn write(&self, image: &Path) -> anyhow::Result<()> {
        let root_start = BOOT_START + self.boot_mib * MIB;
        // A GPT has its backup behind the last partition.
        let behind = if self.label == Label::Gpt { MIB } else { 0 };
        File::create(image)?.set_len(root_start + self.root_mib * MIB + behind)?;
        let path = image.to_string_lossy().into_owned();
        let [boot, root] = [(BOOT_START, self.boot_mib * MIB), (root_start, self.root_mib * MIB)]
            .map(|(start, bytes)| format!("start={}, size={}", start / 512, bytes / 512));
        let layout = match self.label {
            Label::Mbr => {
                format!("label: dos\nlabel-id: {DISK_ID:#x}\n{boot}, type=c\n{root}, type=83\n")
            }
            Label::Gpt => format!(
                "label: gpt\n{boot}, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n\
                 {root}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid={GPT_ROOT}\n"
            ),
        };
        let root_id = match self.label {
            Label::Mbr => format!("{DISK_ID:08x}-02"),
            Label::Gpt => GPT_ROOT.into(),
        };
        fed("sfdisk", &["--quiet", &path], layout.as_bytes())?;
        let boot_kib = (self.boot_mib * 1024).to_string();
        let offset = (BOOT_START / 512).to_string();
        run("mkfs.fat", &["-F", "32", "-s", "1", "-n", "BOOTFS", "--offset", &offset, &path, &boot_kib])?;
        let fat = format!("{path}@@{BOOT_START}");
        let command_line = format!(
            "console=serial0,115200 root=PARTUUID={root_id} rootfstype=ext4 fsck.repair=yes rootwait resize\n"
        );
        let command_line = [("cmdline.txt", command_line.into_bytes())];
        for (name, content) in command_line.iter().chain(&self.boot_files) {
            if let Some((directory, _)) = name.split_once('/') {
                // It may be there.
                let _ = run("mmd", &["-D", "s", "-i", &fat, &format!("::{directory}")]);
            }
            fed("mcopy", &["-i", &fat, "-", &format!("::{name}")], content)?;
        }
        let (tree, size) = (self.root.to_string_lossy(), format!("{}M", self.root_mib));
        let at = format!("offset={root_start}");
        run("mke2fs", &["-q", "-F", "-t", "ext4", "-L", "rootfs", "-d", &tree, "-E", &at, &path, &size])?;
        Ok(())
    }
}

fn fed(program: &str, arguments: &[&str], input: &[u8]) -> anyhow::Result<()> {
    use std::process::Stdio;
    let mut child = command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| {
            let package = crate::process::package_of(program);
            format!("{program} cannot be started; Debian's package {package} has it")
        })?;
    child.stdin.take().context("its input is a pipe")?.write_all(input)?;
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

/// Makes `cached` by `make` unless it is there; two processes at once make it once.
pub(crate) fn made_once(cached: &Path, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    use rustix::fs::{FlockOperation, flock};
    fs::create_dir_all(cached.parent().context("a cached file has a directory")?)?;
    let lock = File::create(cached.with_extension("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if !cached.exists() {
        let temporary = cached.with_extension("new");
        make(&temporary)?;
        fs::rename(&temporary, cached)?;
    }
    Ok(())
}

pub(crate) fn cache() -> PathBuf {
    workspace().join("target/images")
}

/// The image of most stories: 64 MB of FAT, 150 MB of ext4 with busybox and a user `pi`.
///
/// # Errors
/// When a program is missing; its package is named.
pub fn story() -> anyhow::Result<PathBuf> {
    small("story-3.img", Label::Mbr)
}

/// The same with a GPT.
///
/// # Errors
/// When a program is missing; its package is named.
pub fn story_with_gpt() -> anyhow::Result<PathBuf> {
    small("story-gpt-3.img", Label::Gpt)
}

fn small(name: &str, label: Label) -> anyhow::Result<PathBuf> {
    let image = cache().join(name);
    made_once(&image, |image| {
        let tree = tempfile::tempdir()?;
        story_tree(tree.path())?;
        Recipe { label, root: tree.path(), boot_mib: 64, root_mib: 150, boot_files: bench_files() }
            .write(image)
    })?;
    Ok(image)
}

fn story_tree(root: &Path) -> anyhow::Result<()> {
    for directory in [
        "bin",
        "dev",
        "etc/ssh",
        "etc/systemd/system",
        "home/pi",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr/lib/systemd",
        "var/lib/systemd/timesync",
    ] {
        fs::create_dir_all(root.join(directory))?;
    }
    for (file, text) in [
        ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Story Linux\"\n"),
        ("etc/hostname", "story\n"),
        ("etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\tstory\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\npi:x:1000:1000:,,,:/home/pi:/bin/sh\n"),
        ("etc/group", "root:x:0:\npi:x:1000:\n"),
        ("etc/shadow", "root:*:19000:0:99999:7:::\npi:$6$old$hash:19000:0:99999:7:::\n"),
        ("etc/ssh/ssh_host_rsa_key", "everybody's private key\n"),
        ("etc/ssh/ssh_host_rsa_key.pub", "everybody's public key\n"),
        ("usr/lib/systemd/systemd", ""),
    ] {
        fs::write(root.join(file), text)?;
    }
    fs::set_permissions(root.join("etc/shadow"), fs::Permissions::from_mode(0o640))?;
    chown(root.join("home/pi"), Some(1000), Some(1000))?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    let program = fs::read(busybox.context("busybox is missing; Debian's package busybox-static has it")?)?;
    // The name of the program that loads libraries stands in every program that needs some.
    if program.windows(9).any(|bytes| bytes == b"/ld-linux") {
        bail!(
            "busybox needs libraries, which a card here does not have; Debian's package busybox-static needs none"
        );
    }
    fs::copy(busybox.expect("just read"), root.join("bin/busybox"))?;
    for applet in run("busybox", &["--list"])?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}

/// A real Debian: minbase with systemd, an SSH server and a user `pi`.
///
/// # Errors
/// When mmdebstrap fails.
pub fn debian() -> anyhow::Result<PathBuf> {
    let image = cache().join("debian-2.img");
    made_once(&image, |image| {
        let tree = tempfile::tempdir()?;
        let root = tree.path().join("root");
        let at = root.to_string_lossy().into_owned();
        run(
            "mmdebstrap",
            &[
                "--quiet",
                "--variant=minbase",
                "--include=systemd-sysv,openssh-server",
                "--aptopt=APT::Install-Recommends \"false\"",
                "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--dpkgopt=path-exclude=/usr/share/man/*",
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                "--customize-hook=chroot \"$1\" useradd --create-home --uid 1000 --shell /bin/bash pi",
                "bookworm",
                &at,
            ],
        )?;
        let used: u64 = run("du", &["--summarize", "--block-size=1M", &at])?
            .split_ascii_whitespace()
            .next()
            .and_then(|text| text.parse().ok())
            .context("du printed no number")?;
        Recipe {
            label: Label::Mbr,
            root: &root,
            boot_mib: 64,
            root_mib: used * 13 / 10 + 100,
            boot_files: bench_files(),
        }
        .write(image)
    })?;
    Ok(image)
}

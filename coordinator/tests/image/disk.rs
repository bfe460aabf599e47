//! Images of small disks, made with the tools that make real ones: an MBR, a FAT to boot from and an ext4
//! with a fake Debian, holding chunks of every kind (dense, repeated, zero).

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

pub(crate) const MIB: u64 = 1 << 20;
const FAT_AT: u64 = MIB;
const FAT_BYTES: u64 = 8 * MIB;
const EXT4_BYTES: u64 = 24 * MIB;
/// Behind the partitions; in a GPT its backup is at the end of it.
pub(crate) const TAIL_BYTES: u64 = 4 * MIB;

/// A program that tests start. Other programs than the tools for disks are not theirs to start.
#[expect(clippy::disallowed_methods, reason = "tests start programs here only")]
pub(crate) fn program(path: impl AsRef<Path>) -> Command {
    let mut command = Command::new(path.as_ref());
    command.stdin(Stdio::null()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Runs a tool of the Debian package `package`, which must succeed, and gives what it wrote.
#[track_caller]
pub(crate) fn run(package: &str, tool: &str, arguments: &[&str]) -> Vec<u8> {
    let result = program(tool).args(arguments).output();
    let result =
        result.unwrap_or_else(|error| panic!("{tool} cannot be started ({error}): install {package}"));
    let said = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success(), "{tool} {arguments:?}: {}: {said}", result.status);
    result.stdout
}

/// Numbers that look random and are the same every time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count as usize).collect()
    }
}

/// A root file system that a deployment could configure.
pub(crate) fn debian(root: &Path) {
    for directory in ["etc/systemd/system", "usr/bin", "usr/lib/systemd", "home/pi"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
    fs::write(root.join("usr/lib/os-release"), "ID=debian\nVERSION_ID=\"12\"\n").unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\npi:x:1000:1000::/home/pi:/bin/sh\n")
        .unwrap();
    fs::write(root.join("usr/lib/systemd/systemd"), "").unwrap();
    fs::write(root.join("usr/bin/curl"), "").unwrap();
    // The beginning of an ELF file for 64-bit ARM.
    let mut shell = b"\x7fELF\x02\x01\x01".to_vec();
    shell.resize(64, 0);
    shell[18] = 183;
    fs::write(root.join("usr/bin/dash"), shell).unwrap();
    symlink("dash", root.join("usr/bin/sh")).unwrap();
}

/// A FAT file system with these options of `mkfs.fat`, in whose root directory are `files`.
pub(crate) fn fat(options: &[&str], bytes: u64, files: &[(&str, &[u8])]) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (image, kib) = (place("fat"), (bytes / 1024).to_string());
    run("dosfstools", "mkfs.fat", &[&["-C"], options, &[&image, &kib]].concat());
    for (name, content) in files {
        fs::write(place("file"), content).unwrap();
        run("mtools", "mcopy", &["-i", &image, &place("file"), &format!("::{name}")]);
    }
    fs::read(image).unwrap()
}

/// An ext4 file system with these options of `mke2fs` that holds what `plant` puts into a directory.
pub(crate) fn ext4(options: &[&str], bytes: u64, plant: impl FnOnce(&Path)) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (image, root, kib) = (place("ext4"), place("root"), format!("{}K", bytes / 1024));
    fs::create_dir(&root).unwrap();
    plant(Path::new(&root));
    let fixed = ["-q", "-F", "-t", "ext4", "-d", &root];
    run("e2fsprogs", "mke2fs", &[&fixed, options, &[&image, &kib]].concat());
    fs::read(image).unwrap()
}

/// Makes the image of a disk at `path` with an MBR and partitions of these types and contents, one behind the
/// other with 4 KiB between.
pub(crate) fn assemble(path: &Path, partitions: &[(&str, &[u8])]) {
    assemble_by("label: dos\nlabel-id: 0x1234abcd\n", path, partitions);
}

/// The same with a GPT.
pub(crate) fn assemble_gpt(path: &Path, partitions: &[(&str, &[u8])]) {
    assemble_by("label: gpt\n", path, partitions);
}

fn assemble_by(label: &str, path: &Path, partitions: &[(&str, &[u8])]) {
    let disk = File::create(path).unwrap();
    let mut table = label.to_owned();
    let mut at = FAT_AT;
    for (kind, content) in partitions {
        table += &format!("start={}, size={}, type={kind}\n", at / 512, content.len() / 512);
        disk.write_all_at(content, at).unwrap();
        at += content.len() as u64 + 4096;
    }
    disk.set_len(at - 4096 + TAIL_BYTES).unwrap();
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), table).unwrap();
    // sfdisk reads from its standard input only.
    let script = format!("sfdisk -q '{}' < '{}'", path.display(), script.path().display());
    run("fdisk", "sh", &["-c", &script]);
}

/// Makes the image of a disk at `path`, whose root partition holds what `plant` puts into a directory.
pub(crate) fn make(path: &Path, plant: impl FnOnce(&Path)) {
    let boot = [("config.txt", &b"config.txt"[..]), ("cmdline.txt", b"cmdline.txt")];
    let boot = fat(&["-n", "BOOTFS", "-i", "0badcafe"], FAT_BYTES, &boot);
    let root = ext4(&["-b", "4096", "-L", "rootfs"], EXT4_BYTES, plant);
    assemble(path, &[("c", &boot), ("83", &root)]);
}

/// The image that most tests import: the fake Debian, and files that make chunks of every kind.
pub(crate) fn debian_disk(directory: &Path) -> PathBuf {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    let path = directory.join("debian.img");
    fs::write(&path, MADE.get_or_init(make_debian_disk)).unwrap();
    path
}

fn make_debian_disk() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("debian.img");
    make(&path, |root| {
        debian(root);
        let mut random = Random(1);
        let dense = random.bytes(2 * MIB);
        fs::write(root.join("dense"), &dense).unwrap();
        fs::write(root.join("text"), "sixteen letters!".repeat(200_000)).unwrap();
        fs::write(root.join("zeros"), vec![0; 3 << 20]).unwrap();
    });
    // Two equal chunks behind the partitions, on the borders of chunks; what lies there belongs to the image.
    let chunk = Random(2).bytes(MIB);
    let disk = File::options().write(true).open(&path).unwrap();
    for at in [34, 36] {
        disk.write_all_at(&chunk, at * MIB).unwrap();
    }
    fs::read(path).unwrap()
}

/// The image at `path`, compressed in blocks of 1 MiB.
pub(crate) fn xz(path: &Path) -> PathBuf {
    run("xz-utils", "xz", &["-k", "-f", "-0", "-T2", "--block-size=1MiB", path.to_str().unwrap()]);
    path.with_extension("img.xz")
}

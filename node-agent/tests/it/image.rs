//! An image as a vendor would make it: MBR or GPT, a FAT boot partition, an ext4 root with a small Debian.
//! Cut into chunks with a manifest; blocks that ext4 does not use are undefined.

use crate::card::GARBAGE;
use crate::head::Head;
use crate::program;
use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::{CHUNK_BYTES, Chunk, ChunkKind, FileSystem, Manifest, Partition};
use piseduce_protocol::path;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const BOOT_START: u64 = MIB;
pub(crate) const BOOT_BYTES: u64 = 36 * MIB;
pub(crate) const ROOT_START: u64 = BOOT_START + BOOT_BYTES;
pub(crate) const ROOT_BYTES: u64 = 64 * MIB;
pub(crate) const IMAGE_BYTES: u64 = ROOT_START + ROOT_BYTES + MIB;
pub(crate) const DISK_ID: u32 = 0x1234_abcd;

/// Which partition table an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    Mbr,
    Gpt,
}

impl Label {
    /// What Linux calls its root partition.
    pub(crate) fn root_id(self) -> &'static str {
        match self {
            Label::Mbr => "1234abcd-02",
            Label::Gpt => "01234567-89ab-cdef-0123-456789abcdef",
        }
    }

    pub(crate) fn command_line(self) -> String {
        format!(
            "console=tty1 root=PARTUUID={} rootwait resize init=/usr/lib/raspberrypi-sys-mods/firstboot quiet\n",
            self.root_id()
        )
    }

    /// The table as sfdisk takes it.
    fn script(self) -> String {
        let [boot, root] = [(BOOT_START, BOOT_BYTES), (ROOT_START, ROOT_BYTES)]
            .map(|(start, bytes)| format!("start={}, size={}", start / 512, bytes / 512));
        match self {
            Label::Mbr => {
                format!("label: dos\nlabel-id: {DISK_ID:#x}\n{boot}, type=c\n{root}, type=83\n")
            }
            Label::Gpt => format!(
                "label: gpt\n{boot}, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, name=bootfs\n\
                 {root}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=rootfs, uuid={}\n",
                self.root_id()
            ),
        }
    }
}

const CHUNK: usize = CHUNK_BYTES as usize;
const BLOCK: usize = 4096;

pub(crate) struct Image {
    pub(crate) label: Label,
    pub(crate) bytes: Vec<u8>,
    pub(crate) manifest: Manifest,
    /// The manifest as it is served.
    pub(crate) encoded: Vec<u8>,
    pub(crate) name: Hash,
    /// zstd frames by name.
    frames: HashMap<Hash, Vec<u8>>,
}

/// The image with an MBR, made once for all tests.
pub(crate) fn get() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| Image::cut(Label::Mbr, build(Label::Mbr), "debian"))
}

/// The same with a GPT.
pub(crate) fn with_gpt() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| Image::cut(Label::Gpt, build(Label::Gpt), "debian"))
}

impl Image {
    /// Cuts `bytes` into chunks.
    pub(crate) fn cut(label: Label, bytes: Vec<u8>, family: &str) -> Self {
        let partition =
            |number, start, bytes, file_system| Partition { number, start, bytes, file_system, label: None };
        let mut manifest = Manifest {
            image_bytes: bytes.len() as u64,
            whole: Hash([0; 32]),
            disk_id: if label == Label::Mbr { DISK_ID } else { 0 },
            partitions: vec![
                partition(1, BOOT_START, BOOT_BYTES, FileSystem::Fat),
                partition(2, ROOT_START, ROOT_BYTES, FileSystem::Ext4),
            ],
            boot: Some(1),
            root: Some(2),
            family: family.into(),
            family_evidence: "os-release".into(),
            architecture: None,
            packs: vec![Hash([1; 32])],
            chunks: vec![],
        };
        let free = free_blocks(label, &bytes);
        let mut frames = HashMap::new();
        for (index, raw) in bytes.chunks(CHUNK).enumerate() {
            let mut raw = raw.to_vec();
            let is_free = |block: usize| free[index * CHUNK / BLOCK + block];
            let blocks = raw.len() / BLOCK;
            let mask = (0..blocks).any(is_free).then(|| mask(blocks, &is_free));
            (0..blocks)
                .filter(|block| is_free(*block))
                .for_each(|block| raw[block * BLOCK..][..BLOCK].fill(0));
            let kind = match (0..blocks).all(is_free) {
                true => ChunkKind::Unallocated,
                false if raw.iter().all(|byte| *byte == 0) => ChunkKind::Zero,
                false => ChunkKind::Data,
            };
            let hash = Hash::of(&raw);
            let frame = zstd::bulk::compress(&raw, 1).unwrap();
            let stored = u32::try_from(frame.len()).unwrap();
            manifest.chunks.push(Chunk { kind, hash, pack: 0, offset: 0, stored, mask });
            frames.insert(hash, frame);
        }
        let encoded = manifest.encode();
        Image { label, bytes, name: Hash::of(&encoded), manifest, encoded, frames }
    }

    /// An opaque image of `bytes` bytes that do not compress, of which few differ; it is never whole in memory.
    pub(crate) fn of_noise(bytes: u64) -> Self {
        const DIFFERENT: u64 = 16;
        let mut sector0 = [0; 512];
        sector0[446 + 4] = 0x83;
        sector0[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
        sector0[446 + 12..446 + 16].copy_from_slice(&((bytes / 512 - 2048) as u32).to_le_bytes());
        sector0[510..].copy_from_slice(&[0x55, 0xaa]);
        let mut frames = HashMap::new();
        let mut chunks = Vec::new();
        for seed in 0..=DIFFERENT {
            let mut raw = vec![0; CHUNK];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut raw);
            if seed == 0 {
                raw[..512].copy_from_slice(&sector0);
            }
            let (hash, frame) = (Hash::of(&raw), zstd::bulk::compress(&raw, 1).unwrap());
            let stored = u32::try_from(frame.len()).unwrap();
            chunks.push(Chunk { kind: ChunkKind::Data, hash, pack: 0, offset: 0, stored, mask: None });
            frames.insert(hash, frame);
        }
        let count = bytes / u64::from(CHUNK_BYTES);
        let chunk = |index: u64| match index {
            0 => chunks[0].clone(),
            _ => chunks[(1 + index % DIFFERENT) as usize].clone(),
        };
        let manifest = Manifest {
            image_bytes: bytes,
            disk_id: 0,
            partitions: vec![],
            boot: None,
            root: None,
            family: "opaque".into(),
            chunks: (0..count).map(chunk).collect(),
            ..get().manifest.clone()
        };
        let encoded = manifest.encode();
        Image { label: Label::Mbr, bytes: vec![], name: Hash::of(&encoded), manifest, encoded, frames }
    }

    /// Lets `head` serve the manifest and all chunks.
    pub(crate) fn serve(&self, head: &Head) {
        head.serve(path::manifest(self.name), self.encoded.clone(), false);
        for (hash, frame) in &self.frames {
            head.serve(path::chunk(*hash), frame.clone(), true);
        }
    }

    /// The first chunk of that kind, with its place.
    pub(crate) fn chunk(&self, kind: ChunkKind, from: usize) -> (usize, &Chunk) {
        let mut chunks = self.manifest.chunks.iter().enumerate().skip(from);
        chunks.find(|(_, chunk)| chunk.kind == kind).expect("the image has every kind of chunk")
    }

    /// Asserts that `card` holds every defined byte of the image but sector 0, and garbage elsewhere.
    pub(crate) fn assert_on(&self, card: &[u8]) {
        self.assert_blocks(card, |block| block.iter().all(|byte| *byte == GARBAGE));
    }

    /// Asserts that `card` holds every defined byte of the image but sector 0.
    pub(crate) fn assert_on_defined(&self, card: &[u8]) {
        self.assert_blocks(card, |_| true);
    }

    fn assert_blocks(&self, card: &[u8], undefined: impl Fn(&[u8]) -> bool) {
        for (index, chunk) in self.manifest.chunks.iter().enumerate() {
            let start = index * CHUNK;
            for block in 0..self.manifest.chunk_bytes(index) as usize / BLOCK {
                let is_defined = chunk.kind != ChunkKind::Unallocated
                    && chunk.mask.as_ref().is_none_or(|mask| mask[block / 8] & (1 << (block % 8)) != 0);
                let from = start + block * BLOCK + if start + block == 0 { 512 } else { 0 };
                let to = start + (block + 1) * BLOCK;
                let is_right = if is_defined {
                    card[from..to] == self.bytes[from..to]
                } else {
                    undefined(&card[from..to])
                };
                assert!(is_right, "block at {from}, defined: {is_defined}");
            }
        }
    }
}

fn mask(blocks: usize, is_free: &dyn Fn(usize) -> bool) -> Vec<u8> {
    let mut mask = vec![0; blocks.div_ceil(8)];
    (0..blocks).filter(|block| !is_free(*block)).for_each(|block| mask[block / 8] |= 1 << (block % 8));
    mask
}

/// Which blocks of the image hold nothing: those that ext4 says are free, and those behind the root unless
/// the backup of a table is there.
fn free_blocks(label: Label, bytes: &[u8]) -> Vec<bool> {
    let mut free = vec![false; bytes.len().div_ceil(BLOCK)];
    free[(ROOT_START + ROOT_BYTES) as usize / BLOCK..].fill(label == Label::Mbr);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("root");
    fs::write(&file, &bytes[ROOT_START as usize..(ROOT_START + ROOT_BYTES) as usize]).unwrap();
    let text = program::run("dumpe2fs", &[file.as_os_str()]);
    for line in text.lines().filter_map(|line| line.trim().strip_prefix("Free blocks: ")) {
        for range in line.split(", ").filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let block = |text: &str| ROOT_START as usize / BLOCK + text.parse::<usize>().unwrap();
            // The line before the groups only counts them.
            if line.contains('-') {
                free[block(first)..=block(last)].fill(true);
            }
        }
    }
    free
}

/// Makes the image's bytes.
fn build(label: Label) -> Vec<u8> {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    plant(&at("tree"));
    let file = fs::File::create(at("image")).unwrap();
    file.set_len(IMAGE_BYTES).unwrap();
    program::feed("sfdisk", &["--quiet".as_ref(), at("image").as_os_str()], &label.script());
    let (image, tree) = (at("image").display().to_string(), at("tree").display().to_string());
    let kib = (BOOT_BYTES / 1024).to_string();
    let offset = (BOOT_START / 512).to_string();
    program::run("mkfs.fat", &["-F", "32", "-s", "1", "-n", "bootfs", "--offset", &offset, &image, &kib]);
    let fat = format!("{image}@@{BOOT_START}");
    for (name, content) in boot_files(label) {
        fs::write(at(name), content).unwrap();
        program::run("mcopy", &["-i", &fat, at(name).to_str().unwrap(), &format!("::{name}")]);
    }
    let extended = format!("offset={ROOT_START}");
    let size = format!("{}k", ROOT_BYTES / 1024);
    let arguments =
        ["-q", "-t", "ext4", "-b", "4096", "-L", "rootfs", "-E", &extended, "-d", &tree, &image, &size];
    program::run("mke2fs", &arguments);
    fs::read(at("image")).unwrap()
}

fn boot_files(label: Label) -> Vec<(&'static str, Vec<u8>)> {
    let mut firmware = vec![0; 5_000_000];
    blake3::Hasher::new().finalize_xof().fill(&mut firmware);
    vec![
        ("pieeprom.upd", b"a bootloader".to_vec()),
        ("config.txt", b"arm_64bit=1\n".to_vec()),
        ("cmdline.txt", label.command_line().into()),
        ("kernel8.img", firmware),
        ("user-data", b"#cloud-config\nchpasswd:\n  expire: true\n".to_vec()),
        ("meta-data", b"instance-id: rpios-image\n".to_vec()),
    ]
}

/// A small Debian.
fn plant(tree: &Path) {
    let files = [
        ("usr/lib/os-release", "ID=debian\nVERSION_ID=12\n"),
        ("etc/hostname", "raspberrypi\n"),
        ("etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000:,,,:/home/u:/bin/sh\n"),
        ("etc/shadow", "root:*:19000:0:99999:7:::\nu:$6$old:0:0:99999:7:::\n"),
        ("etc/ssh/sshd_config", ""),
        ("etc/ssh/ssh_host_rsa_key", "the vendor's\n"),
        ("etc/ssh/ssh_host_rsa_key.pub", "the vendor's\n"),
        ("etc/machine-id", "uninitialized\n"),
        ("etc/fake-hwclock.data", "2024-01-01 00:00:00\n"),
        ("etc/cloud/cloud.cfg.d/90.cfg", ""),
        ("usr/lib/systemd/system/userconfig.service", ""),
        ("usr/lib/systemd/system/ssh.service", ""),
        ("usr/lib/systemd/system/sshswitch.service", ""),
        ("etc/systemd/system/keep", ""),
        ("var/lib/systemd/timesync/keep", ""),
        ("home/u/.profile", ""),
        ("boot/firmware/keep", "not empty\n"),
    ];
    for (path, content) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    symlink("../usr/lib/os-release", tree.join("etc/os-release")).unwrap();
    fs::create_dir_all(tree.join("bin")).unwrap();
    let busybox =
        program::find("busybox").expect("this test needs busybox: install the package busybox-static");
    fs::copy(busybox, tree.join("bin/sh")).unwrap();
    for path in ["home/u", "home/u/.profile"] {
        chown(tree.join(path), Some(1000), Some(1000)).unwrap();
    }
    chown(tree.join("etc/shadow"), Some(0), Some(42)).unwrap();
    let mut mode = fs::metadata(tree.join("etc/shadow")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o640);
    fs::set_permissions(tree.join("etc/shadow"), mode).unwrap();
}

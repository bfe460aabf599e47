//! The boot files of an environment that an agent uploads, for boards whose firmware boots from the network or not at all (Pi 3):
//! which files those are, and how an upload is proved to come from the node.

use crate::id::Hash;
use crate::model::{Generation, Model};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A longer file cannot be counted in blocks of 1,024 bytes by older firmware: 65,535 of them.
pub const FILE_BYTES_MAX: u64 = 65_535 * 1024;
/// All boot files of an environment together.
pub const ALL_BYTES_MAX: u64 = 256 << 20;
/// So many of them.
pub const FILES_MAX: usize = 1024;
/// The longest name.
const NAME_CHARACTERS_MAX: usize = 128;

/// The file that says which kernel starts.
pub const CONFIG: &str = "config.txt";
/// The words for the kernel.
pub const COMMAND_LINE: &str = "cmdline.txt";
/// The boot ROM of a Pi 3 starts from a card that has it, and from nothing else then.
pub const SECOND_STAGE: &str = "bootcode.bin";
/// What that fetches next; without it a Pi 3 boots nothing.
pub const START: &str = "start.elf";

/// Whether a board of this model boots its card only with boot files that the head node serves: its boot ROM looks at the card
/// first, and boots nothing of it once it has asked the network.
pub fn needs_boot_files(model: &str) -> bool {
    Model::of(model).generation() == Generation::Three
}

/// A file of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFile {
    /// Its path on the boot partition.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its BLAKE3.
    pub hash: Hash,
}

/// All boot files of an environment: what an upload ends with.
pub type BootFileList = Vec<BootFile>;

/// Beginnings and ends of the names in the root directory that a firmware asks for.
const IN_ROOT: [(&str, &str); 12] = [
    ("start", ".elf"),
    ("fixup", ".dat"),
    ("bcm27", ".dtb"),
    ("bcm28", ".dtb"),
    ("kernel", ""),
    ("vmlinuz", ""),
    ("initramfs", ""),
    ("initrd", ""),
    ("uboot", ""),
    ("u-boot", ""),
    (CONFIG, ""),
    (COMMAND_LINE, ""),
];

/// The bytes of a list.
pub fn encode(list: &BootFileList) -> Vec<u8> {
    postcard::to_allocvec(list).expect("a list has a length and texts only")
}

/// The list that these bytes are.
pub fn decode(bytes: &[u8]) -> Option<BootFileList> {
    postcard::from_bytes(bytes).ok()
}

/// Words that start a first-boot program of Raspberry Pi OS, which grows its root and draws a new disk id: bookworm's and
/// trixie's (raspberrypi-sys-mods). Both were done already, and the disk id must stay.
const DISARMED: [&str; 2] = ["resize", "init=/usr/lib/raspberrypi-sys-mods/firstboot"];

/// The command line `old` of a kernel without what would undo the deployment at the first boot; still one line.
pub fn disarmed(old: &str) -> String {
    let words = old.split_ascii_whitespace().filter(|word| !DISARMED.contains(word));
    words.collect::<Vec<_>>().join(" ") + "\n"
}

/// Whether a Pi's firmware is to get the file `name` of a boot partition over the network. What would write a board's EEPROM,
/// or send it somewhere else to boot, is none.
pub fn is_boot_file(name: &str) -> bool {
    if name.len() > NAME_CHARACTERS_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    {
        return false;
    }
    let parts: Vec<&str> = name.split('/').collect();
    if parts.iter().any(|part| part.is_empty() || part.starts_with('.')) {
        return false;
    }
    match parts[..] {
        [file] => {
            let lower = file.to_ascii_lowercase();
            lower == SECOND_STAGE
                || lower.ends_with(".txt") && !lower.contains("tryboot") && !lower.contains("autoboot")
                || IN_ROOT.iter().any(|(start, end)| lower.starts_with(start) && lower.ends_with(end))
        }
        ["overlays", .., file] => [".dtbo", ".dtb"].iter().any(|end| file.ends_with(end)),
        _ => false,
    }
}

/// Proves that the node which has `key` sends `bytes` bytes of content with this hash to `path`.
pub fn proof(key: &[u8; 32], path: &str, content: Hash, bytes: u64) -> Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(path.as_bytes()).update(&[0]).update(&content.0).update(&bytes.to_le_bytes());
    Hash(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_gets_what_it_boots_from_and_nothing_else() {
        for name in [
            "bootcode.bin",
            "start.elf",
            "START_X.ELF",
            "fixup.dat",
            "config.txt",
            "cmdline.txt",
            "usercfg.txt",
            "kernel8.img",
            "initramfs8",
            "initrd.img",
            "bcm2710-rpi-3-b.dtb",
            "overlays/disable-bt.dtbo",
            "overlays/overlay_map.dtb",
        ] {
            assert!(is_boot_file(name), "{name}");
        }
        for name in [
            "",
            "pieeprom.upd",
            "pieeprom.sig",
            "recovery.bin",
            "recovery.elf",
            "autoboot.txt",
            "tryboot.txt",
            "user-data",
            "ssh",
            "../config.txt",
            "overlays/../config.txt",
            "overlays/.dtbo",
            "/start.elf",
            "overlays/README",
            "System Volume Information/x.dtb",
        ] {
            assert!(!is_boot_file(name), "{name}");
        }
    }

    #[test]
    fn a_proof_is_for_one_path_content_and_length() {
        let proof = |path, content, bytes| proof(&[1; 32], path, Hash([content; 32]), bytes);
        assert_ne!(proof("/a", 1, 9), proof("/b", 1, 9));
        assert_ne!(proof("/a", 1, 9), proof("/a", 2, 9));
        assert_ne!(proof("/a", 1, 9), proof("/a", 1, 8));
    }

    #[test]
    fn first_boot_programs_go_and_everything_else_stays_in_one_line() {
        for (old, new) in [
            (
                "console=tty1 root=PARTUUID=1234abcd-02 rootfstype=ext4 rootwait resize\n",
                "console=tty1 root=PARTUUID=1234abcd-02 rootfstype=ext4 rootwait\n",
            ),
            (
                "console=serial0,115200 quiet init=/usr/lib/raspberrypi-sys-mods/firstboot splash",
                "console=serial0,115200 quiet splash\n",
            ),
            (
                "resize=1 init=/sbin/init\nroot=LABEL=writable",
                "resize=1 init=/sbin/init root=LABEL=writable\n",
            ),
        ] {
            assert_eq!(disarmed(old), new);
            assert_eq!(disarmed(new), new);
        }
    }
}

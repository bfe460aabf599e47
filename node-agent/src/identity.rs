//! Who am I: the node as its device tree, network interface and kernel command line show it.
//!
//! Everything is read below a root path, so that tests and bench nodes can hand in a tree of their own.
//! It does not know what the parameters are used for: see `link.rs` and `runner.rs`.

use piseduce_protocol::boot::{BootError, BootParameters};
use piseduce_protocol::enrolment::Invitation;
use piseduce_protocol::id::{IdError, Serial};
use piseduce_protocol::report::KernelId;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The word whose absence marks a boot without work: the boot view `hold`.
const TOKEN_WORD: &str = "piseduce.token=";

/// A node, as far as its kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The serial number in the device tree.
    pub serial: Serial,
    /// The address of the first network interface, lower case with colons.
    pub mac: String,
    /// The model in the device tree.
    pub model: String,
    /// Which boot of a kernel this is.
    pub kernel: KernelId,
    /// How the bootloader booted and what its settings are, as far as the kernel shows it.
    pub bootloader: Vec<(String, String)>,
    command_line: String,
}

/// Why the agent does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file of the identity tree cannot be read.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The device tree's serial number is none.
    #[error("the device tree's serial number is wrong")]
    Serial(#[source] IdError),
    /// There is no network interface but the loopback.
    #[error("there is no network interface in {0}")]
    NoInterface(PathBuf),
    /// The kernel command line is not what the coordinator writes.
    #[error("the kernel command line cannot be used")]
    CommandLine(#[source] BootError),
    /// The kernel command line was made for another node.
    #[error("this node has the serial number {found}, but its kernel command line is for {expected}")]
    Mismatch {
        /// The node that the command line is for.
        expected: Serial,
        /// The node that this is.
        found: Serial,
    },
}

impl Identity {
    /// Reads the identity below `root`, which is `/` on a node.
    ///
    /// # Errors
    /// Every [`IdentityError`] but those of the command line's content.
    pub fn read(root: &Path) -> Result<Self, IdentityError> {
        let serial = text(&root.join("proc/device-tree/serial-number"))?;
        Ok(Identity {
            serial: serial.parse().map_err(IdentityError::Serial)?,
            mac: mac(&root.join("sys/class/net"))?,
            model: text(&root.join("proc/device-tree/model"))?,
            kernel: KernelId(text(&root.join("proc/sys/kernel/random/boot_id"))?),
            bootloader: bootloader(root),
            command_line: text(&root.join("proc/cmdline"))?,
        })
    }

    /// What the coordinator wrote on the kernel command line for this boot; none when it gives no work.
    ///
    /// # Errors
    /// [`IdentityError::CommandLine`], and [`IdentityError::Mismatch`] when it was written for another
    /// node: whoever has another node's token must not speak for it.
    pub fn parameters(&self) -> Result<Option<BootParameters>, IdentityError> {
        if !self.command_line.split_ascii_whitespace().any(|word| word.starts_with(TOKEN_WORD)) {
            return Ok(None);
        }
        let parameters = BootParameters::parse(&self.command_line).map_err(IdentityError::CommandLine)?;
        match parameters.serial == self.serial {
            true => Ok(Some(parameters)),
            false => Err(IdentityError::Mismatch { expected: parameters.serial, found: self.serial }),
        }
    }

    /// What the coordinator wrote on the kernel command line of a board that it does not know; none when it invites nobody.
    ///
    /// # Errors
    /// [`IdentityError::CommandLine`].
    pub fn invitation(&self) -> Result<Option<Invitation>, IdentityError> {
        Invitation::parse(&self.command_line).map_err(IdentityError::CommandLine)
    }
}

/// A file's text without the newline or NUL at its end.
fn text(path: &Path) -> Result<String, IdentityError> {
    let read = |source| IdentityError::Read { path: path.into(), source };
    let bytes = fs::read(path).map_err(read)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\0', '\n']).into())
}

/// The address of the first interface, by name, that has one.
fn mac(interfaces: &Path) -> Result<String, IdentityError> {
    let read = |source| IdentityError::Read { path: interfaces.into(), source };
    let entries = fs::read_dir(interfaces).map_err(read)?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let addresses = paths.iter().filter(|path| !path.ends_with("lo"));
    let mut addresses = addresses.filter_map(|path| text(&path.join("address")).ok());
    addresses
        .find(|address| address.bytes().any(|byte| !matches!(byte, b'0' | b':')))
        .map(|address| address.to_ascii_lowercase())
        .ok_or_else(|| IdentityError::NoInterface(interfaces.into()))
}

/// Where the boot root puts the bootloader's settings when the kernel has no driver for them.
const SETTINGS: &str = "run/bootloader-settings";

/// What can be read of the bootloader: how it booted (`chosen/bootloader`, big-endian numbers) and the
/// settings that it left in memory for `rpi-eeprom-config` (the nvmem device that the alias `blconfig`
/// points at, or what the boot root read there). Both exist on a Pi 4 or newer with a recent bootloader; not seen on a board.
fn bootloader(root: &Path) -> Vec<(String, String)> {
    let tree = root.join("proc/device-tree");
    let numbers = ["boot-mode", "partition", "tryboot", "build-timestamp"].into_iter().filter_map(|name| {
        let bytes = fs::read(tree.join("chosen/bootloader").join(name)).ok()?;
        let number = u32::from_be_bytes(bytes.try_into().ok()?);
        Some((name.to_owned(), number.to_string()))
    });
    let kept =
        || fs::read(root.join(SETTINGS)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let settings = settings(root, &tree).or_else(kept).unwrap_or_default();
    let settings = settings.lines().filter_map(|line| {
        let (name, value) = line.trim_matches(|c: char| c.is_whitespace() || c == '\0').split_once('=')?;
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        is_name.then(|| (name.to_owned(), value.to_owned()))
    });
    numbers.chain(settings).chain(usb_disk(root)).collect()
}

/// The number of USB's class of disks.
const MASS_STORAGE: &str = "08";

/// A USB disk that is plugged in, as its maker names it.
fn usb_disk(root: &Path) -> Option<(String, String)> {
    let directory = root.join("sys/bus/usb/devices");
    let mut interfaces: Vec<PathBuf> =
        fs::read_dir(&directory).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    interfaces.sort();
    let is_disk =
        |path: &&PathBuf| text(&path.join("bInterfaceClass")).is_ok_and(|class| class == MASS_STORAGE);
    let disk = interfaces.iter().find(is_disk)?;
    // An interface `1-1.3:1.0` belongs to the device `1-1.3`.
    let name = disk.file_name()?.to_string_lossy().into_owned();
    let device = name.split_once(':').map_or(name.as_str(), |(device, _)| device);
    let product = text(&directory.join(device).join("product"));
    let known = product.ok().filter(|product| !product.trim().is_empty()).unwrap_or_else(|| device.into());
    Some(("usb-storage".into(), known.trim().into()))
}

fn settings(root: &Path, tree: &Path) -> Option<String> {
    let alias = text(&tree.join("aliases/blconfig")).ok()?;
    let devices = fs::read_dir(root.join("sys/bus/nvmem/devices")).ok()?;
    let mut devices = devices.filter_map(|entry| Some(entry.ok()?.path()));
    let device = devices.find(|device| {
        fs::canonicalize(device.join("of_node"))
            .is_ok_and(|node| node.ends_with(alias.trim_start_matches('/')))
    })?;
    let bytes = fs::read(device.join("nvmem")).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_matches('\0').into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const LINE: &str = "console=tty1 piseduce.site=main piseduce.broker=10.0.0.1:1883 piseduce.head=10.0.0.1:8070 \
        piseduce.serial=10000000deadbeef piseduce.boot=7 \
        piseduce.token=0303030303030303030303030303030303030303030303030303030303030303";

    fn tree(command_line: &str) -> TempDir {
        let root = TempDir::new().unwrap();
        let put = |path: &str, content: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        put("proc/device-tree/serial-number", b"10000000deadbeef\0");
        put("proc/device-tree/model", b"Raspberry Pi 4 Model B Rev 1.4\0");
        put("proc/device-tree/chosen/bootloader/boot-mode", &[0, 0, 0, 2]);
        put("proc/device-tree/aliases/blconfig", b"/reserved-memory/nvram@0\0");
        put("sys/devices/rmem0/nvmem", b"[all]\nBOOT_UART=0\nBOOT_ORDER=0xf12\n\0\0\0");
        put("sys/firmware/base/reserved-memory/nvram@0/name", b"");
        put("sys/class/net/lo/address", b"00:00:00:00:00:00\n");
        put("sys/class/net/eth0/address", b"DC:A6:32:01:02:03\n");
        put("sys/class/net/bonding_masters", b"");
        put("sys/bus/usb/devices/1-1.2:1.0/bInterfaceClass", b"03\n");
        put("sys/bus/usb/devices/1-1.3:1.0/bInterfaceClass", b"08\n");
        put("sys/bus/usb/devices/1-1.3/product", b"Ultra Fit\n");
        put("proc/sys/kernel/random/boot_id", b"b0b0\n");
        put("proc/cmdline", command_line.as_bytes());
        let node = root.path().join("sys/firmware/base/reserved-memory/nvram@0");
        std::os::unix::fs::symlink(node, root.path().join("sys/devices/rmem0/of_node")).unwrap();
        fs::create_dir_all(root.path().join("sys/bus/nvmem/devices")).unwrap();
        std::os::unix::fs::symlink(
            root.path().join("sys/devices/rmem0"),
            root.path().join("sys/bus/nvmem/devices/rmem0"),
        )
        .unwrap();
        root
    }

    #[test]
    fn an_identity_is_read_from_the_tree_below_the_root() {
        let root = tree(LINE);
        let identity = Identity::read(root.path()).unwrap();
        assert_eq!(identity.serial, Serial(0x1000_0000_dead_beef));
        assert_eq!(identity.mac, "dc:a6:32:01:02:03");
        assert_eq!(identity.model, "Raspberry Pi 4 Model B Rev 1.4");
        assert_eq!(identity.kernel, KernelId("b0b0".into()));
        let expected =
            [("boot-mode", "2"), ("BOOT_UART", "0"), ("BOOT_ORDER", "0xf12"), ("usb-storage", "Ultra Fit")];
        assert_eq!(identity.bootloader, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(identity.parameters().unwrap().unwrap().head, "10.0.0.1:8070");
    }

    #[test]
    fn settings_that_the_boot_root_read_stand_in_for_a_driver() {
        let root = tree(LINE);
        fs::remove_dir_all(root.path().join("sys/bus/nvmem")).unwrap();
        let put = |text: &str| fs::write(root.path().join(SETTINGS), text).unwrap();
        fs::create_dir_all(root.path().join("run")).unwrap();
        put("[all]\nBOOT_ORDER=0xf41\nMAX_RESTARTS=3\0\0");
        let read = Identity::read(root.path()).unwrap().bootloader;
        let known = |name: &str, value: &str| read.contains(&(name.to_owned(), value.to_owned()));
        assert!(known("BOOT_ORDER", "0xf41") && known("MAX_RESTARTS", "3"), "{read:?}");
    }

    #[test]
    fn a_command_line_for_another_node_is_refused_and_one_without_a_token_gives_no_work() {
        let check = |line: &str| Identity::read(tree(line).path()).unwrap().parameters();
        let other = check(&LINE.replace("deadbeef", "deadbee0"));
        assert!(matches!(other, Err(IdentityError::Mismatch { .. })), "{:?}", other.err());
        assert!(matches!(check("console=tty1 piseduce.site=main"), Ok(None)));
        assert!(matches!(check(&LINE.replace("boot=7", "boot=x")), Err(IdentityError::CommandLine(_))));
    }

    #[test]
    fn a_missing_file_is_named() {
        let root = tree(LINE);
        fs::remove_file(root.path().join("proc/device-tree/model")).unwrap();
        let error = Identity::read(root.path()).unwrap_err().to_string();
        assert!(error.ends_with("proc/device-tree/model"), "{error}");
    }
}

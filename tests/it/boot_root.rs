//! Boot roots: built twice from real packages to the same bytes, listed, chosen; refused with what to do. That they boot is
//! proved by the virtual rack.

use piseduce_tests::coordinator::{Coordinator, free_udp_address};
use piseduce_tests::images::raspberry_pi_os;
use piseduce_tests::lab::ADMIN;
use piseduce_tests::process::run;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

struct Head {
    directory: tempfile::TempDir,
    coordinator: Coordinator,
}

impl Head {
    fn new() -> Head {
        Head::with(|_| String::new())
    }

    fn with(settings: impl Fn(&Path) -> String) -> Head {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        let coordinator = Coordinator::start(&directory.path().join("head"), &settings).unwrap();
        Head { directory, coordinator }
    }

    fn boot_root(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let settings = self.coordinator.settings();
        let end = ["--config", &*settings.to_string_lossy()].map(str::to_owned);
        let end: Vec<&str> = end.iter().map(String::as_str).collect();
        self.coordinator.cli(ADMIN, &[&["boot-root"], arguments, &end].concat())
    }

    /// Registers a node of this model.
    fn import(&self, name: &str, model: &str) {
        let text = format!(
            "[[switch]]\nname = \"sw\"\ndriver = \"manual\"\n[[node]]\nname = \"{name}\"\nserial = \"1000000000000005\"\n\
             mac = \"2c:cf:67:00:00:05\"\nmodel = \"{model}\"\nswitch = \"sw\"\nport = \"1\"\n"
        );
        let file = self.directory.path().join("inventory.toml");
        fs::write(&file, text).unwrap();
        self.coordinator.add_user(ADMIN, "admin").unwrap();
        self.coordinator.cli(ADMIN, &["node", "import", &file.to_string_lossy()]).unwrap();
    }

    /// A file that begins as a program for `machine` does.
    fn program(&self, name: &str, machine: u8) -> String {
        let mut bytes = [0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18] = machine;
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// An image like Raspberry Pi OS's, of a kernel that says it is `release`, with modules of another one.
    fn image(&self, name: &str, release: &str) -> String {
        let (kernel, modules) =
            (self.directory.path().join(format!("{name}.kernel")), self.directory.path().join("modules"));
        fs::write(&kernel, format!("code Linux version {release} (host)")).unwrap();
        fs::create_dir_all(modules.join("9.9.9")).unwrap();
        let image = self.directory.path().join(format!("{name}.img"));
        raspberry_pi_os::write(&image, &kernel, &modules).unwrap();
        image.to_string_lossy().into_owned()
    }

    fn roots(&self) -> PathBuf {
        self.coordinator.data().join("boot-roots")
    }
}

fn leftovers(roots: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(roots).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with('.')).collect()
}

#[test]
fn a_boot_root_is_built_from_packages_twice_to_the_same_bytes() {
    let head = Head::new();
    let agent = head.program("agent", 183);
    let build = ["build", "--debian", "--ram", "--agent", &agent];
    let first = head.boot_root(&build).unwrap();
    assert!(first.contains(": ram, ") && first.trim_end().ends_with(", current"), "{first}");
    let again = head.boot_root(&build).unwrap();
    assert_eq!(again.trim_end(), format!("{} (it was there already)", first.trim_end()));
    let name = first.split(':').next().unwrap();
    let version = head.roots().join(name);
    let text = fs::read_to_string(version.join("boot-root.json")).unwrap();
    let description: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(description["packages"]["linux-image-arm64"].is_string(), "{text}");
    let initramfs = version.join("files/initramfs8");
    assert!(initramfs.metadata().unwrap().len() < 60_000_000);
    let unpacked = head.directory.path().join("initramfs");
    run("zstd", &["-qdo", &unpacked.to_string_lossy(), &initramfs.to_string_lossy()]).unwrap();
    let archive = fs::read(unpacked).unwrap();
    let key = fs::read(head.coordinator.data().join("site.key")).unwrap();
    assert!(!archive.windows(key.len()).any(|bytes| bytes == key), "the site key is in the boot root");
    assert_eq!(leftovers(&head.roots()), Vec::<PathBuf>::new());
    let listed = head.boot_root(&["list"]).unwrap();
    assert_eq!(listed, first);
    assert_eq!(head.boot_root(&["use", name]).unwrap(), first);
    let only = head.boot_root(&["use", name, "--model", "Raspberry Pi 5"]).unwrap();
    assert_eq!(only.trim_end(), format!("{}, for Raspberry Pi 5", first.trim_end()));
    let error = head.boot_root(&["use", name, "--node", "pi-1"]).unwrap_err().to_string();
    assert!(error.contains("there is no node `pi-1`: `piseduce node list`"), "{error}");
    let error = head.boot_root(&["use", name, "--model", "Raspberry Pi 9"]).unwrap_err().to_string();
    assert!(error.contains("there is no model `Raspberry Pi 9`: allowed are 3A+"), "{error}");
    head.import("pi-1", "Raspberry Pi 5 Model B");
    let both = head.boot_root(&["use", name, "--node", "pi-1"]).unwrap();
    assert!(both.trim_end().ends_with(", current, for pi-1, Raspberry Pi 5"), "{both}");
    let back = ["unset", "--node", "pi-1"];
    assert_eq!(head.boot_root(&back).unwrap(), "the current version from now on\n");
    assert_eq!(head.boot_root(&back).unwrap(), "the current version, as before\n");
    assert_eq!(head.boot_root(&["list"]).unwrap(), only);
    let error = head.boot_root(&["use", name, "--node", "../x"]).unwrap_err().to_string();
    assert!(error.contains("there is no node `../x`"), "{error}");
    let error = head.boot_root(&["unset", "--node", "../x"]).unwrap_err().to_string();
    assert!(error.contains("no node and no model is called `../x`"), "{error}");
    let error = head.boot_root(&["unset"]).unwrap_err().to_string();
    assert!(error.contains("--node or --model"), "{error}");
}

#[test]
fn a_boot_root_for_nfs_has_a_tree_that_everybody_may_read_in_a_directory_of_its_own() {
    let tftp = free_udp_address().unwrap();
    let head = Head::with(|place| {
        format!("[netboot]\ntftp = \"{tftp}\"\n[netboot.nfs]\ndirectory = {:?}\n", place.join("exports"))
    });
    let agent = head.program("agent", 183);
    let build = ["build", "--debian", "--nfs", "--agent", &agent];
    let error = head.boot_root(&build).unwrap_err().to_string();
    let exports = head.directory.path().join("exports");
    assert!(error.contains(&format!("there is no {0}: `sudo install -d", exports.display())), "{error}");
    assert_eq!(leftovers(&head.roots()), Vec::<PathBuf>::new());
    fs::create_dir(&exports).unwrap();
    let built = head.boot_root(&build).unwrap();
    let name = built.split(':').next().unwrap();
    assert!(name.contains("-nfs-") && built.contains(": nfs, "), "{built}");
    let tree = exports.join(name);
    for (path, mode) in [("", 0o755), ("bin", 0o755), ("bin/piseduce-agent", 0o755), ("lib/modules", 0o755)] {
        let found = tree.join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}");
    }
    assert!(leftovers(&exports).is_empty());
    let initramfs = head.roots().join(name).join("files/initramfs8");
    assert!(initramfs.metadata().unwrap().len() < 3_000_000, "the rest is in the tree");
    assert_eq!(fs::read(tree.join("bin/piseduce-agent")).unwrap(), fs::read(&agent).unwrap());
    let doctor = |head: &Head| {
        let settings = head.coordinator.settings();
        let output = head.coordinator.cli_output(ADMIN, &["doctor", "--config", &settings.to_string_lossy()]);
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(doctor(&head).contains(" files, whole"), "{}", doctor(&head));
    fs::remove_file(tree.join("bin/e2fsck")).unwrap();
    let said = doctor(&head);
    assert!(
        said.contains("bin/e2fsck is missing") && said.contains(&format!(" and {}", tree.display())),
        "{said}"
    );
}

#[test]
fn a_boot_root_that_cannot_be_made_says_why_and_leaves_nothing() {
    let head = Head::new();
    let (other, arm64) = (head.program("agent", 62), head.program("arm64", 183));
    let image = head.image("other", "1.2.3-rpi-v8");
    let no_kernel = head.image("none", "");
    let story = piseduce_tests::images::story().unwrap().to_string_lossy().into_owned();
    for (arguments, expected) in [
        (
            &["build", "--debian", "--ram", "--agent", &other][..],
            "is no program for arm64; `piseduce boot-root agent`",
        ),
        (&["build", "--debian", "--ram", "--agent", "/nowhere/agent"], "failed to read /nowhere/agent"),
        (&["build", "--debian", "--ram", "--source", "/nowhere"], "/nowhere is not the source of PiSeduce"),
        (&["build", "--debian"], "--ram"),
        (&["build", "--debian", "--nfs", "--agent", &arm64], "add a [netboot.nfs] with its directory"),
        (&["build", "--debian", "--from-image", &story, "--ram"], "cannot be used with"),
        (&["build", "--from-image", "/nowhere.img", "--ram", "--agent", &arm64], "/nowhere.img"),
        (&["build", "--from-image", &arm64, "--ram", "--agent", &arm64], "partition"),
        (&["build", "--from-image", &story, "--ram", "--agent", &arm64], "the image has no /lib/modules"),
        (
            &["build", "--from-image", &image, "--ram", "--agent", &arm64],
            "the image has no modules for its kernel 1.2.3-rpi-v8",
        ),
        (
            &["build", "--from-image", &no_kernel, "--ram", "--agent", &arm64],
            "kernel8.img does not say which Linux it is",
        ),
        (&["use", "lab"], "there is no boot root `lab`; there are none: `piseduce boot-root build`"),
    ] {
        let error = head.boot_root(arguments).unwrap_err().to_string();
        assert!(error.contains(expected), "`{expected}` is not in: {error}");
    }
    let agent = head.program("agent", 183);
    let arguments =
        ["build", "--debian", "--ram", "--agent", &agent, "--mirror", "http://127.0.0.1:9/debian"];
    let error = head.boot_root(&arguments).unwrap_err().to_string();
    assert!(error.contains("mmdebstrap failed") && error.contains("127.0.0.1"), "{error}");
    assert_eq!(leftovers(&head.roots()), Vec::<PathBuf>::new());
    assert_eq!(head.boot_root(&["list"]).unwrap(), "");
}

//! The head node itself: the coordinator's directory, its disk, the site key's file, the clock.

use super::Check;
use crate::clock_trust::{Synchronised, synchronised};
use crate::data_directory::{SITE_KEY, SITE_MARK, STORE};
use crate::image::FreeSpace;
use crate::store::{BALLAST_BYTES, ballast_is_held};
use rustix::process::geteuid;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Whether the directory can be looked into, and what is to be said of it.
pub(in crate::operate) fn directory(path: &Path) -> (bool, Vec<Check>) {
    let shown = path.display();
    let name = "directory";
    let it = match fs::metadata(path) {
        Ok(it) => it,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let advice = "the first start makes it; systemd does with StateDirectory=";
            return (true, vec![Check::warn(name, format!("{shown} is not there yet"), advice)]);
        }
        Err(error) => {
            let advice = "run this as root or as the user that the coordinator runs as";
            return (
                false,
                vec![Check::fail(name, format!("{shown} cannot be looked at ({error})"), advice)],
            );
        }
    };
    if !it.is_dir() {
        let advice = "name a directory as data_directory";
        return (false, vec![Check::fail(name, format!("{shown} is not a directory"), advice)]);
    }
    if let Err(error) = fs::read_dir(path) {
        let found = format!("{shown} belongs to user {} and cannot be read ({error})", it.uid());
        let advice = "run this as root or as that user: sudo -u piseduce piseduce doctor";
        return (false, vec![Check::fail(name, found, advice)]);
    }
    let own = geteuid().as_raw();
    if own != 0 && own != it.uid() {
        let found = format!("{shown} belongs to user {}, and this runs as user {own}", it.uid());
        return (false, vec![Check::fail(name, found, "run this as root or as that user")]);
    }
    (true, vec![mode(path, &it), owners(path, &it)])
}

fn mode(path: &Path, it: &Metadata) -> Check {
    let (shown, mode) = (path.display(), it.mode() & 0o777);
    match mode & 0o077 {
        0 => Check::ok("directory", format!("{shown}, user {}, mode {mode:04o}", it.uid())),
        _ => Check::warn(
            "directory",
            format!("{shown} has mode {mode:04o}: others may look into it"),
            format!("chmod 700 {shown}"),
        ),
    }
}

/// A file that root made cannot be written by the service.
fn owners(root: &Path, it: &Metadata) -> Check {
    let mut pending = vec![root.to_owned()];
    let mut foreign: Option<PathBuf> = None;
    let mut count = 0;
    while let Some(path) = pending.pop() {
        // What disappears meanwhile, or cannot be read, is somebody's work under way.
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.uid() != it.uid() {
            count += 1;
            foreign.get_or_insert(path.clone());
        }
        if found.is_dir() {
            pending.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    match foreign {
        None => Check::ok("owner", "everything in it belongs to the same user"),
        Some(first) => Check::fail(
            "owner",
            format!(
                "{count} files do not belong to the directory's user {}, first {}",
                it.uid(),
                first.display()
            ),
            format!("chown -R {}:{} {}", it.uid(), it.gid(), root.display()),
        ),
    }
}

/// The file systems that are known to be good or bad for a store; numbers of `linux/magic.h`.
const FILE_SYSTEMS: [(u32, &str, Fitness); 13] = [
    (0xef53, "ext4", Fitness::Good),
    (0x9123_683e, "btrfs", Fitness::Good),
    (0x5846_5342, "xfs", Fitness::Good),
    (0x2fc1_2fc1, "zfs", Fitness::Good),
    (0xf2f5_2010, "f2fs", Fitness::Good),
    (0x794c_7630, "overlay", Fitness::Good),
    (0xca45_1a4e, "bcachefs", Fitness::Good),
    (0x0102_1994, "tmpfs", Fitness::Forgets),
    (0x6969, "nfs", Fitness::Network),
    (0xff53_4d42, "cifs", Fitness::Network),
    (0xfe53_4d42, "smb", Fitness::Network),
    (0x0102_1997, "9p", Fitness::Network),
    (0x4d44, "vfat", Fitness::NoModes),
];

#[derive(Clone, Copy)]
enum Fitness {
    Good,
    Forgets,
    Network,
    NoModes,
}

/// Free space, file system and device of the directory, or of where it will be.
pub(in crate::operate) fn disk(directory: &Path, floor: u64) -> Vec<Check> {
    let Some(place) = directory.ancestors().find(|path| path.exists()) else { return Vec::new() };
    let mut checks = Vec::new();
    match FreeSpace::of(place, floor) {
        Ok(space) => {
            let found = format!("{} MB free, {} MB must stay free", space.free >> 20, space.floor >> 20);
            let advice = "remove environments or make room; no image is imported until then";
            let short = space.is_short().then(|| Check::fail("free_space", &*found, advice));
            checks.push(short.unwrap_or_else(|| Check::ok("free_space", found)));
        }
        Err(error) => checks.push(unknown("free_space", &error)),
    }
    match rustix::fs::statfs(place) {
        Ok(found) => checks.push(file_system(u32::try_from(found.f_type & 0xffff_ffff).unwrap_or(0))),
        Err(error) => checks.push(unknown("file_system", &std::io::Error::from(error))),
    }
    checks.extend(sd_card(place));
    checks
}

fn unknown(name: &'static str, error: &dyn std::error::Error) -> Check {
    Check::warn(name, format!("unknown ({error})"), "")
}

fn file_system(magic: u32) -> Check {
    let known = FILE_SYSTEMS.iter().find(|(number, ..)| *number == magic);
    let Some((_, name, fitness)) = known else {
        return Check::ok("file_system", format!("of type {magic:#x}, nothing bad is known of it"));
    };
    let check = "file_system";
    match fitness {
        Fitness::Good => Check::ok(check, *name),
        Fitness::Forgets => {
            let advice = "it forgets everything at a reboot; set data_directory to a disk";
            Check::warn(check, *name, advice)
        }
        Fitness::Network => {
            let advice = "a store needs locks and shared memory of a local disk; set data_directory to one";
            Check::fail(check, *name, advice)
        }
        Fitness::NoModes => {
            let advice = "it keeps no file modes, so everybody may read the site key; use ext4";
            Check::fail(check, *name, advice)
        }
    }
}

/// A head that keeps its store on an SD card wears it.
fn sd_card(place: &Path) -> Option<Check> {
    let device = fs::metadata(place).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let name = block.iter().map(|part| part.to_string_lossy()).find(|part| part.starts_with("mmcblk"))?;
    let advice =
        "every change of a state is flushed to it; set data_directory to an SSD when the rack is large";
    Some(Check::warn("card", format!("the disk is {name}, an SD card"), advice))
}

/// The site key's file, which is not read.
pub(in crate::operate) fn site_key(directory: &Path) -> Option<Check> {
    let path = directory.join(SITE_KEY);
    let shown = path.display();
    let it = match fs::metadata(&path) {
        Ok(it) => it,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Before the first start and after a restore there is none, which is as it should be.
            return None;
        }
        Err(error) => {
            return Some(Check::fail("site_key", format!("{shown} cannot be looked at ({error})"), ""));
        }
    };
    let mode = it.mode() & 0o777;
    Some(match (it.len(), mode & 0o077) {
        (32, 0) => Check::ok("site_key", format!("{shown}, mode {mode:04o}")),
        (32, _) => {
            let found =
                format!("{shown} has mode {mode:04o}: others may read it, and all secrets follow from it");
            let advice = format!("stop the coordinator and remove {shown}; the next start makes a new one");
            Check::fail("site_key", found, advice)
        }
        (length, _) => {
            let found = format!("{shown} has {length} bytes instead of 32");
            Check::fail("site_key", found, format!("remove {shown}; the next start makes a new one"))
        }
    })
}

/// Whether the key has its store, without which it is not used.
pub(in crate::operate) fn store_of_key(directory: &Path) -> Option<Check> {
    let has_store = fs::metadata(directory.join(STORE)).is_ok_and(|it| it.len() > 0);
    (!has_store && directory.join(SITE_KEY).exists()).then(|| {
        let found = format!("{SITE_KEY} is there, but the store is missing or empty");
        let advice = "put the newest store back, or `piseduce site-key renew`";
        Check::fail("site_key", found, advice)
    })
}

/// Whether room is kept back on the disk for what must be written.
pub(in crate::operate) fn ballast(directory: &Path) -> Option<Check> {
    let has_served = directory.join(SITE_MARK).exists();
    has_served.then(|| match ballast_is_held(directory) {
        true => {
            Check::ok("ballast", format!("{} MB kept back for what must be written", BALLAST_BYTES >> 20))
        }
        false => Check::fail(
            "ballast",
            "the disk is or was full: the room that is kept back is in use, and requests are refused",
            "make room; a running coordinator keeps it back again by itself",
        ),
    })
}

/// Whether reservations begin and end by this clock.
pub(in crate::operate) fn clock(trust_unsynchronised: bool) -> Check {
    let name = "clock";
    match synchronised() {
        Ok(Synchronised::Within(error_us)) => {
            Check::ok(name, format!("synchronised, within {} ms", error_us.div_ceil(1000)))
        }
        Ok(Synchronised::No) if trust_unsynchronised => {
            Check::ok(name, "not synchronised, and believed all the same (clock.trust_unsynchronised)")
        }
        Ok(Synchronised::No) => Check::fail(
            name,
            "not synchronised: no reservation begins or ends, and nothing old is forgotten",
            "install chrony, or `timedatectl set-ntp true`, or set clock.trust_unsynchronised",
        ),
        Err(error) => unknown(name, &error),
    }
}

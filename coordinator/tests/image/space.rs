//! Imports on a file system that is too small: a tmpfs of a few megabytes. The floor of free space holds for
//! every way in, and where nothing is kept free the kernel's word is passed on.

use crate::disk::{MIB, debian_disk, run};
use crate::fetch::Server;
use crate::said;
use piseduce_coordinator::image::{ImportError, Library, Limits, Origin, Terms};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A tmpfs, unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new(mib: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let at = directory.path().to_str().unwrap();
        run("mount", "mount", &["-t", "tmpfs", "-o", &size, "piseduce-test", at]);
        Small(directory)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run("mount", "umount", &["--lazy", self.0.path().to_str().unwrap()]);
    }
}

/// Imports into a library of `mib` MiB of which `floor` must stay free; what it says. Nothing is left.
fn refusal(origin: &Origin, mib: u64, floor: u64) -> (ImportError, u64) {
    let small = Small::new(mib);
    let limits = Limits { free_bytes: floor, ..Limits::default() };
    let library = Library::open(&small.0.path().join("library"), limits).unwrap();
    let error = library.import(origin, &Terms::default(), &mut |_| {}, &AtomicBool::new(false)).unwrap_err();
    for directory in ["packs", "manifests", "incoming"] {
        let left = fs::read_dir(small.0.path().join("library").join(directory)).unwrap().count();
        assert_eq!(left, 0, "{directory}: {error}");
    }
    let space = rustix::fs::statvfs(small.0.path()).unwrap();
    (error, space.f_bavail * space.f_frsize)
}

#[test]
fn every_way_in_leaves_the_floor_of_free_space_alone_and_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let image = debian_disk(directory.path());
    let at = image.to_str().unwrap();
    let pack = |tool: &str, arguments: &[&str]| run(tool, tool, arguments);
    let wrapped = [
        ("gz", pack("gzip", &["-c", at])),
        ("zst", pack("zstd", &["-c", at])),
        ("tgz", pack("tar", &["-czf", "-", "-P", at])),
        ("zip", pack("zip", &["-q", "-", at])),
    ];
    let mut origins = vec![Origin::from(&*image)];
    for (name, bytes) in wrapped {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        origins.push((&*path).into());
    }
    let server = Server::of(fs::read(&image).unwrap());
    origins.push(Origin::Address(server.address()));
    for origin in &origins {
        let (error, free_behind) = refusal(origin, 12, 10 * MIB);
        let ImportError::Space { free, needed, floor, directory } = &error else {
            panic!("{origin}: {error}")
        };
        assert!(*free < needed + floor && *floor == 10 * MIB && directory.ends_with("library"), "{error}");
        assert!(free_behind > 11 * MIB, "{origin}: {free_behind} bytes are free");
        let said = error.to_string();
        let words =
            format!("library has {free} bytes free, {needed} are needed now and {floor} must stay free");
        assert!(said.contains(&words), "{said}");
    }
}

#[test]
fn a_file_that_is_announced_to_be_too_large_is_not_even_begun() {
    let server = Server::of(vec![1; 20 << 20]);
    let (error, _) = refusal(&Origin::Address(server.address()), 12, MIB);
    assert!(matches!(error, ImportError::Space { needed: 20_971_520, .. }), "{error}");
}

#[test]
fn a_disk_that_is_full_although_nothing_was_to_stay_free_is_told_by_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let image = debian_disk(directory.path());
    let (error, _) = refusal(&Path::new(&image).into(), 2, 0);
    let said = said(&error);
    assert!(matches!(error, ImportError::Space { floor: 0, .. }) || said.contains("No space left"), "{said}");
}

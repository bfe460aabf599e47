//! The files of a mounted root on a busy machine.

use piseduce_agent::card::mount::private_mounts;
use piseduce_agent::tree::Tree;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

#[test]
fn files_are_found_while_something_else_is_mounted() {
    let root = TempDir::new().unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::create_dir_all(root.path().join("usr/lib")).unwrap();
    fs::write(root.path().join("usr/lib/os-release"), "ID=debian").unwrap();
    symlink("../usr/lib/os-release", root.path().join("etc/os-release")).unwrap();
    let tree = Tree::open(root.path()).unwrap();
    let elsewhere = TempDir::new().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            private_mounts().expect("this test needs root: it mounts");
            while !is_over.load(Ordering::Relaxed) {
                mount_bind(elsewhere.path(), elsewhere.path()).unwrap();
                unmount(elsewhere.path(), UnmountFlags::DETACH).unwrap();
            }
        });
        let found = (0..20_000).all(|_| tree.exists("/etc/os-release").unwrap_or(false));
        is_over.store(true, Ordering::Relaxed);
        assert!(found);
    });
}

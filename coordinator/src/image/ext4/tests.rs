//! The reader of ext file systems against what `mke2fs` and `debugfs` write. `tests/image` of the crate
//! changes whole images at random.

use super::*;
use crate::image::raw::Raw;
use crate::image::tools::{ext, run};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

/// Bytes that differ from block to block.
fn pattern(bytes: u64) -> Vec<u8> {
    (0..bytes.div_ceil(8)).flat_map(|at| (at * 0x9e37_79b9).to_le_bytes()).take(bytes as usize).collect()
}

/// A tree with a file of every kind of block list, a large directory, and links of both lengths.
fn plant(tree: &Path) {
    fs::create_dir_all(tree.join("many")).unwrap();
    fs::write(tree.join("small"), "small\n").unwrap();
    fs::write(tree.join("large"), pattern(3_000_000)).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    // Behind what direct, indirect and doubly indirect blocks of 1 KiB reach.
    sparse.write_all_at(b"at the end", (12 + 256 + 256 * 256 + 300) * 1024).unwrap();
    for number in 0..3000 {
        fs::write(tree.join(format!("many/file-with-a-long-name-{number:05}")), "").unwrap();
    }
    symlink("small", tree.join("short-link")).unwrap();
    symlink(format!("many/..{}/../large", "/../many".repeat(12)), tree.join("long-link")).unwrap();
    symlink("/many/../many", tree.join("absolute")).unwrap();
    symlink("../../small", tree.join("above-the-root")).unwrap();
    symlink("circle-b", tree.join("circle-a")).unwrap();
    symlink("/circle-a", tree.join("circle-b")).unwrap();
    symlink("nowhere", tree.join("dangling")).unwrap();
}

fn volume(raw: &Raw) -> Volume<'_> {
    Volume::new(raw, 0, raw.bytes())
}

#[test]
fn every_layout_reads_as_it_was_written() {
    let layouts: [&[&str]; 6] = [
        &["-t", "ext2", "-b", "1024", "-L", "layout"],
        &["-t", "ext3", "-b", "4096", "-L", "layout"],
        &["-t", "ext4", "-b", "1024", "-L", "layout"],
        &["-t", "ext4", "-b", "4096", "-O", "^64bit,^metadata_csum", "-L", "layout"],
        &["-t", "ext4", "-b", "4096", "-O", "64bit,metadata_csum", "-L", "layout"],
        &["-t", "ext4", "-b", "4096", "-O", "bigalloc", "-N", "5000", "-L", "layout"],
    ];
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    plant(&tree);
    for layout in layouts {
        let raw = ext(directory.path(), layout, &tree, "100M");
        let volume = volume(&raw);
        let ext4 = Ext4::recognise(&volume).unwrap();
        assert_eq!(ext4.label().as_deref(), Some("layout"), "{layout:?}");
        let read = |path| Tree::read(&ext4, path, 1 << 30).unwrap();
        for path in ["small", "large", "sparse"] {
            let same = read(path) == Some(fs::read(tree.join(path)).unwrap());
            assert!(same, "{layout:?}: {path} differs");
        }
        assert_eq!(Tree::read(&ext4, "/large", 5000).unwrap(), Some(pattern(5000)));
        for path in ["/short-link", "/absolute/../small/", "/above-the-root", "//./many/../small"] {
            assert_eq!(read(path), Some(b"small\n".to_vec()), "{layout:?}: {path}");
        }
        assert_eq!(read("/long-link"), Some(pattern(3_000_000)), "{layout:?}");
        let kinds =
            ["/", "/many/file-with-a-long-name-02999", "/many/file", "/small/x", "/dangling", "/circle-a"];
        let kinds = kinds.map(|path| ext4.kind(path).unwrap());
        assert_eq!(kinds, [Some(Kind::Directory), Some(Kind::File), None, None, None, None], "{layout:?}");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("small"), "small\n").unwrap();
    let said = |raw: &Raw| {
        let volume = volume(raw);
        Tree::read(&Ext4::recognise(&volume).unwrap(), "/small", 9).unwrap_err().to_string()
    };
    let groups = ext(directory.path(), &["-t", "ext4", "-O", "meta_bg,^resize_inode"], &tree, "8M");
    assert_eq!(said(&groups), "it uses meta block groups, which is not supported");
    let inline = ext(directory.path(), &["-t", "ext4", "-O", "inline_data"], &tree, "8M");
    assert_eq!(said(&inline), "it uses inline data, which is not supported");
}

/// An image changed by `debugfs` as nobody's system would.
fn changed(directory: &Path, tree: &Path, commands: &[&str]) -> Raw {
    let raw = ext(directory, &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum"], tree, "8M");
    for command in commands {
        run("e2fsprogs", "debugfs", &["-w", "-R", command, directory.join("ext").to_str().unwrap()]);
    }
    raw
}

#[test]
fn lengths_that_the_image_claims_decide_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("directory")).unwrap();
    fs::write(tree.join("file"), "text").unwrap();
    symlink("x".repeat(100), tree.join("link")).unwrap();
    let commands = ["file", "link", "directory"].map(|path| format!("sif /{path} size 0x100000000000"));
    let raw = changed(directory.path(), &tree, &commands.each_ref().map(String::as_str));
    let volume = volume(&raw);
    let ext4 = Ext4::recognise(&volume).unwrap();
    assert_eq!(Tree::read(&ext4, "/file", 8).unwrap(), Some(b"text\0\0\0\0".to_vec()));
    assert_eq!(ext4.kind("/link").unwrap(), None);
    let said = ext4.kind("/directory/x").unwrap_err().to_string();
    assert_eq!(said, "a directory is longer than 64 MiB");
}

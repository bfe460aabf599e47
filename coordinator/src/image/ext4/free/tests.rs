//! The free space of ext file systems against what `debugfs` says of every block.

use crate::image::raw::Raw;
use crate::image::tools::{ext, free_blocks, run};
use piseduce_protocol::manifest::FileSystem;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Files of many lengths, of which every other one is removed again.
fn make(directory: &Path, options: &[&str], size: &str) -> Raw {
    let tree = directory.join("tree");
    fs::create_dir_all(&tree).unwrap();
    for number in 0..60_usize {
        fs::write(tree.join(format!("file{number}")), vec![number as u8 + 1; number * number * 300 + 1])
            .unwrap();
    }
    let raw = ext(directory, options, &tree, size);
    let removals: String = (0..60).step_by(2).map(|number| format!("rm file{number}\n")).collect();
    fs::write(directory.join("removals"), removals).unwrap();
    let [image, removals] = ["ext", "removals"].map(|name| directory.join(name).to_str().unwrap().to_owned());
    run("e2fsprogs", "debugfs", &["-w", "-f", &removals, &image]);
    raw
}

/// Whether each whole block of 4 KiB is used by nothing, in debugfs's words.
fn unused_blocks(directory: &Path, raw: &Raw, block_bytes: u64) -> Vec<bool> {
    let image = directory.join("ext");
    let count = raw.bytes() / block_bytes;
    // It cannot be asked of block 0, which is in use.
    let question = format!("testb 1 {}", count - 1);
    let said = run("e2fsprogs", "debugfs", &["-R", &question, image.to_str().unwrap()]);
    let mut unused = vec![false; count as usize];
    for words in said.lines().map(|line| line.split(' ').collect::<Vec<_>>()) {
        let number: usize = words[1].parse().unwrap();
        unused[number] = words[2..] == ["not", "in", "use"];
    }
    unused.chunks((4096 / block_bytes) as usize).map(|small| small.iter().all(|unused| *unused)).collect()
}

#[test]
fn every_block_that_is_not_in_use_is_free_in_every_layout_and_no_other() {
    let layouts: [(u64, &str, &[&str]); 12] = [
        (1024, "60M", &["-t", "ext2"]),
        (4096, "300M", &["-t", "ext3"]),
        (1024, "60M", &["-t", "ext4"]),
        (4096, "700M", &["-t", "ext4"]),
        (2048, "60M", &["-t", "ext4", "-O", "^64bit"]),
        (4096, "700M", &["-t", "ext4", "-O", "^64bit,^metadata_csum,uninit_bg"]),
        (1024, "60M", &["-t", "ext4", "-O", "^flex_bg,^metadata_csum,uninit_bg"]),
        (1024, "60M", &["-t", "ext4", "-O", "^sparse_super,^resize_inode"]),
        (1024, "60M", &["-t", "ext4", "-O", "sparse_super2,^resize_inode"]),
        (4096, "700M", &["-t", "ext4", "-O", "bigalloc", "-C", "65536"]),
        (1024, "200M", &["-t", "ext4", "-O", "bigalloc", "-C", "16384"]),
        (4096, "600M", &["-t", "ext4", "-E", "lazy_itable_init=1", "-G", "4", "-N", "30000"]),
    ];
    for (block_bytes, size, options) in layouts {
        let directory = tempfile::tempdir().unwrap();
        let block = block_bytes.to_string();
        let raw = make(directory.path(), &[options, &["-b", &block]].concat(), size);
        let (free, remarks) = free_blocks(&raw, FileSystem::Ext4);
        assert_eq!(remarks, [""; 0], "{options:?}");
        let unused = unused_blocks(directory.path(), &raw, block_bytes);
        let wrong: Vec<usize> = (0..unused.len()).filter(|block| free[*block] != unused[*block]).collect();
        assert!(wrong.is_empty(), "{options:?}: {} blocks, from {} on", wrong.len(), wrong[0]);
        let count = free.iter().filter(|free| **free).count();
        assert!(count > free.len() / 2 && count < free.len(), "{options:?}: {count} of {}", free.len());
    }
}

/// What is remarked on a file system that `debugfs` changed by `command`; nothing of it may be free then.
#[track_caller]
fn doubt(options: &[&str], command: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let raw = make(directory.path(), &[&["-t", "ext4", "-b", "1024"], options].concat(), "30M");
    let image = directory.path().join("ext");
    if !command.is_empty() {
        run("e2fsprogs", "debugfs", &["-w", "-R", command, image.to_str().unwrap()]);
    }
    let (free, remarks) = free_blocks(&raw, FileSystem::Ext4);
    assert!(!free.contains(&true), "{command}: something is free");
    let [remark] = &remarks[..] else { panic!("{command}: {remarks:?}") };
    remark.strip_prefix("partition 1 is stored with its free space: ").unwrap().to_owned()
}

#[test]
fn nothing_is_free_where_there_is_a_doubt() {
    let unclean = "it was not unmounted in order; check it, as with e2fsck";
    assert_eq!(doubt(&[], "feature needs_recovery"), unclean);
    assert_eq!(doubt(&[], "ssv state 0"), unclean);
    assert_eq!(doubt(&[], "ssv state 3"), "it has errors; check it, as with e2fsck");
    let groups = "it uses meta block groups, which is not supported";
    assert_eq!(doubt(&["-O", "meta_bg,^resize_inode"], ""), groups);
    let feature = "it uses a feature that is not known, which is not supported";
    assert_eq!(doubt(&[], "feature FEATURE_I29"), feature);
    assert_eq!(doubt(&[], "feature shared_blocks"), feature);
}

#[test]
fn lies_about_blocks_are_noticed() {
    let disagree = "its bitmaps and its counts of free blocks disagree";
    assert_eq!(doubt(&[], "set_bg 0 free_blocks_count 5"), disagree);
    assert_eq!(doubt(&[], "set_bg 0 flags 2"), disagree, "a bitmap that is used is said not to be");
    assert_eq!(doubt(&[], "set_bg 2 block_bitmap 8200"), disagree);
    let behind = "the structures of a group lie behind its end";
    assert_eq!(doubt(&[], "set_bg 1 block_bitmap 99999999"), behind);
    assert_eq!(doubt(&[], "set_bg 3 inode_table 30700"), behind);
    assert_eq!(doubt(&[], "ssv blocks_count 90000"), "it is longer than its partition");
    let superblock = "its superblock contradicts itself";
    assert_eq!(doubt(&[], "ssv inodes_count 12"), superblock);
    assert_eq!(doubt(&[], "ssv blocks_per_group 0"), superblock);
    assert_eq!(doubt(&[], "ssv blocks_per_group 9000000"), superblock);
    assert_eq!(doubt(&[], "ssv first_data_block 77"), superblock);
    assert_eq!(doubt(&["-O", "bigalloc", "-C", "16384"], "ssv log_cluster_size 60"), superblock);
}

#[test]
fn whatever_superblock_and_descriptors_say_the_search_for_free_space_ends() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), &["-t", "ext4", "-b", "1024", "-O", "uninit_bg,^metadata_csum"], "30M");
    let file = File::options().read(true).write(true).open(directory.path().join("ext")).unwrap();
    // The superblock and the descriptors behind it.
    let mut sound = [0; 2048];
    file.read_exact_at(&mut sound, 1024).unwrap();
    let (mut doubts, mut state) = (0, 1_u64);
    for _ in 0..2000 {
        let mut changed = sound;
        for _ in 0..3 {
            // Knuth's MMIX generator; its upper bits are the good ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (at, byte) = ((state >> 33) as usize % changed.len(), (state >> 56) as u8);
            changed[at] = [0, 1, 0x80, 0xff, byte][(state >> 45) as usize % 5];
        }
        file.write_all_at(&changed, 1024).unwrap();
        let raw = Raw::new(file.try_clone().unwrap()).unwrap();
        doubts += free_blocks(&raw, FileSystem::Ext4).1.len();
    }
    assert!((200..2000).contains(&doubts), "{doubts} of 2000 were in doubt");
}

//! The processor architecture of a system, from the ELF header of its shell. Sees the system through
//! `family::Tree`, and judges nothing else. Source: elf(5).

use super::family::Tree;
use super::volume::{VolumeError, u16_at};

/// What the programs of Raspberry Pis are made for, of all models that boot from the network.
pub(super) const RASPBERRY_PI: [&str; 2] = ["aarch64", "armv7l"];

/// What a system's shell is found by.
const SHELL: &str = "/bin/sh";
const MAGIC: &[u8] = b"\x7fELF";
const BITS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;

/// `e_machine`, whether it is 64 bits wide, and what `uname -m` calls it.
const MACHINES: [(u16, bool, &str); 6] = [
    (183, true, "aarch64"),
    (40, false, "armv7l"),
    (62, true, "x86_64"),
    (3, false, "i686"),
    (243, true, "riscv64"),
    (243, false, "riscv32"),
];

/// What `uname -m` says where the programs of `tree` run; none when its shell is not there or unknown.
pub(super) fn architecture(tree: &dyn Tree) -> Result<Option<String>, VolumeError> {
    Ok(tree.read(SHELL, 20)?.as_deref().and_then(of_program).map(str::to_owned))
}

fn of_program(header: &[u8]) -> Option<&'static str> {
    if header.len() < 20 || !header.starts_with(MAGIC) || header[5] != LITTLE_ENDIAN {
        return None;
    }
    let found = (u16_at(header, 18), header[4] == BITS_64);
    MACHINES.iter().find(|(machine, wide, _)| (*machine, *wide) == found).map(|(_, _, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, machine: u8) -> [u8; 20] {
        let mut header = [0; 20];
        header[..4].copy_from_slice(MAGIC);
        (header[4], header[5], header[18]) = (class, 1, machine);
        header
    }

    #[test]
    fn machines_have_the_names_that_uname_gives() {
        assert_eq!(of_program(&header(2, 183)), Some("aarch64"));
        assert_eq!(of_program(&header(1, 40)), Some("armv7l"));
        assert_eq!(of_program(&header(1, 62)), None, "x32 is not x86_64");
        assert_eq!(of_program(&header(2, 183)[..19]), None);
        assert_eq!(of_program(b"#!/bin/busybox sh -o"), None);
    }
}

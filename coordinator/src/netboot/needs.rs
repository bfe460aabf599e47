//! What a model's firmware must find in a boot root: its first files, a device tree, a kernel. A board that misses one of them stays
//! dark or goes on to its card, and says nothing.
//!
//! Sources: firmware-notes/boot-order.md; names of device trees as in the kernels of Raspberry Pi (`bcm2710`) and Linux (`bcm2837`).

use super::boot_root::Description;
use piseduce_protocol::model::{Generation, Model};

/// Files of the firmware, beginnings of device trees' names, and the rest of them.
struct Needs {
    firmware: &'static [&'static str],
    families: &'static [&'static str],
    boards: &'static [&'static str],
}

fn needs(model: Model) -> Option<Needs> {
    let boards: &[&str] = match model {
        Model::Pi3APlus => &["rpi-3-a-plus"],
        Model::Pi3B => &["rpi-3-b"],
        Model::Pi3BPlus => &["rpi-3-b-plus"],
        Model::ComputeModule3 | Model::ComputeModule3Plus => &["rpi-cm3", "rpi-cm3-io3"],
        Model::Zero2W => &["rpi-zero-2", "rpi-zero-2-w"],
        Model::Pi4B => &["rpi-4-b"],
        Model::Pi400 => &["rpi-400"],
        Model::ComputeModule4 => &["rpi-cm4", "rpi-cm4-io"],
        Model::ComputeModule4S => &["rpi-cm4s", "rpi-cm4s-io"],
        Model::Pi5 => &["rpi-5-b"],
        Model::Pi500 => &["rpi-500"],
        Model::ComputeModule5 => {
            &["rpi-cm5", "rpi-cm5-cm5io", "rpi-cm5-cm4io", "rpi-cm5l-cm5io", "rpi-cm5l-cm4io"]
        }
        Model::Other => return None,
    };
    let (firmware, families): (&[&str], &[&str]) = match model.generation() {
        Generation::Three => (&["bootcode.bin", "start.elf"], &["bcm2710-", "bcm2837-"]),
        Generation::Four => (&["start4.elf"], &["bcm2711-"]),
        Generation::Five => (&["config.txt"], &["bcm2712-", "bcm2712d0-"]),
        Generation::Unknown => return None,
    };
    Some(Needs { firmware, families, boards })
}

impl Description {
    /// What boards of this model do not find in it, in words; nothing: all that is known to be needed is there.
    pub fn lacks(&self, model: Model) -> Vec<String> {
        let Some(Needs { firmware, families, boards }) = needs(model) else { return Vec::new() };
        let missing = firmware.iter().filter(|name| !self.files.contains_key(**name));
        let mut lacks: Vec<String> = missing.map(|name| (*name).to_owned()).collect();
        let names = || {
            families.iter().flat_map(|family| boards.iter().map(move |board| format!("{family}{board}.dtb")))
        };
        if !names().any(|name| self.files.contains_key(&name)) {
            let first = names().next().unwrap_or_default();
            lacks.push(format!("a device tree such as {first}"));
        }
        if !self.files.keys().any(|name| name.starts_with("kernel")) {
            lacks.push("a kernel".into());
        }
        lacks
    }

    /// Whether it was made for other boards: it has device trees, and none for this model.
    pub fn is_for_others(&self, model: Model) -> bool {
        let has_trees = self.files.keys().any(|name| name.ends_with(".dtb"));
        has_trees && self.lacks(model).iter().any(|what| what.starts_with("a device tree"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::boot_root::{Content, Kind};
    use super::*;
    use std::collections::BTreeMap;

    fn root(files: &[&str]) -> Description {
        let content = Content { bytes: 0, blake3: String::new() };
        Description {
            schema: 1,
            version: "one".into(),
            kind: Kind::Ram,
            command_line: String::new(),
            packages: BTreeMap::new(),
            agent: String::new(),
            files: files.iter().map(|name| ((*name).to_owned(), content.clone())).collect(),
            exported: BTreeMap::new(),
        }
    }

    #[test]
    fn a_root_from_debians_packages_is_for_no_pi_5() {
        let debian = root(&[
            "bootcode.bin",
            "start.elf",
            "start4.elf",
            "config.txt",
            "kernel8.img",
            "bcm2837-rpi-3-b.dtb",
            "bcm2837-rpi-cm3-io3.dtb",
            "bcm2711-rpi-4-b.dtb",
            "bcm2711-rpi-cm4-io.dtb",
        ]);
        for model in [Model::Pi3B, Model::ComputeModule3, Model::Pi4B, Model::ComputeModule4, Model::Other] {
            assert!(debian.lacks(model).is_empty() && !debian.is_for_others(model), "{model}");
        }
        assert_eq!(debian.lacks(Model::Pi5), ["a device tree such as bcm2712-rpi-5-b.dtb"]);
        assert_eq!(debian.lacks(Model::Pi3BPlus), ["a device tree such as bcm2710-rpi-3-b-plus.dtb"]);
        assert!(debian.is_for_others(Model::Pi5));
        let nothing = root(&[]);
        assert_eq!(nothing.lacks(Model::Pi4B).len(), 3);
        assert!(!nothing.is_for_others(Model::Pi4B), "it does not say for whom it is");
    }
}

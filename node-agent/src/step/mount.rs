//! `mount_partition`: the root is checked and mounted read-only, and a system is found on the card.

use super::Step;
use super::cause::{StepError, failed};
use crate::card::fat::{self, FatError};
use crate::card::mount::Writing;
use crate::os::family;
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::manifest::{FileSystem, Partition};

impl Step<'_> {
    pub(super) fn mount_partition(&self) -> Result<String, StepError> {
        let manifest = &self.session.manifest;
        if family::find(&manifest.family)?.is_none() {
            return Ok("the environment is opaque and is not looked into".into());
        }
        let root = self.ext4_root().ok_or_else(|| not_found("the image has no ext4 root partition"))?;
        let device = self.root_device(root)?;
        self.check_file_system(&device.path)?;
        let has_release = self.with_root(&device, Writing::No, |tree| Ok(tree.exists("/etc/os-release")?))?;
        if !has_release {
            return Err(not_found("the root has no /etc/os-release"));
        }
        let boot = self.boot_partition()?;
        let is_boot = fat::edit(self.card, boot.start, boot.bytes, |fat| {
            Ok(fat.read("config.txt")?.is_some() || fat.read("cmdline.txt")?.is_some())
        });
        match is_boot {
            Ok(true) => Ok(format!(
                "boot is partition {}, root is partition {}, both are sound",
                boot.number, root.number
            )),
            Ok(false) => Err(not_found("the boot partition has neither config.txt nor cmdline.txt")),
            Err(FatError::Card(error)) => Err(error.into()),
            Err(error) => Err(not_found(super::cause::chain(&error))),
        }
    }

    /// The FAT partition that the firmware boots from.
    pub(super) fn boot_partition(&self) -> Result<&Partition, StepError> {
        let manifest = &self.session.manifest;
        let boot = manifest.boot.and_then(|number| manifest.partition(number));
        boot.filter(|partition| partition.file_system == FileSystem::Fat)
            .ok_or_else(|| not_found("the image has no FAT boot partition"))
    }
}

fn not_found(seen: impl Into<String>) -> StepError {
    failed(CauseKind::NoSystemFound, seen)
}

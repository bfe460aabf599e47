//! `system_conf` and `user_conf`: the copied image becomes this user's node, and in the end bootable.

use super::Step;
use super::cause::{StepError, failed};
use crate::card::mount::Writing;
use crate::card::{Card as _, fat};
use crate::image::copy;
use crate::image::fetch::FetchError;
use crate::os::family::{self, ConfigureError, Family, Settings};
use crate::tree::Tree;
use piseduce_protocol::bundle::Bundle;
use piseduce_protocol::cause::CauseKind;

/// What makes a board write its bootloader anew, and with it the boot order that the head relies on: nobody's image does that to
/// a node that is lent. Source: boot EEPROM in the Raspberry Pi documentation.
const BOOTLOADER_UPDATES: [&str; 4] = ["recovery.bin", "pieeprom.upd", "pieeprom.sig", "pieeprom.bin"];

impl Step<'_> {
    pub(super) fn system_conf(&self) -> Result<String, StepError> {
        let Some(family) = family::find(&self.session.manifest.family)? else {
            return Ok("the environment is opaque and is not configured".into());
        };
        let bundle = self.bundle()?;
        let settings = self.settings(&bundle);
        self.recopy_boot()?;
        self.configure_root(|tree| family.configure_system(tree, settings))?;
        self.configure_boot(family, settings)?;
        self.card.flush()?;
        Ok(format!("the system is configured as {}", bundle.host_name))
    }

    pub(super) fn user_conf(&self) -> Result<String, StepError> {
        let Some(family) = family::find(&self.session.manifest.family)? else {
            self.hand_over_boot_files()?;
            self.commit()?;
            return Ok("the environment is opaque and is not configured; the card boots now".into());
        };
        let bundle = self.bundle()?;
        let settings = self.settings(&bundle);
        if self.task.work.recopy_boot {
            self.recopy_boot()?;
            self.configure_boot(family, settings)?;
        }
        self.configure_root(|tree| family.configure_user(tree, settings))?;
        self.hand_over_boot_files()?;
        self.commit()?;
        Ok("the user is configured; the card boots now".into())
    }

    fn settings<'s>(&self, bundle: &'s Bundle) -> Settings<'s> {
        Settings { bundle, ticket: self.task.ticket, unix_ms: self.task.unix_ms }
    }

    /// The configuration of the run: fetched, compared with what the command named, and unlocked.
    fn bundle(&self) -> Result<Bundle, StepError> {
        let ticket = self.task.ticket;
        let invalid = |seen: String| failed(CauseKind::BundleInvalid, seen);
        let locked = match self.head.bundle(ticket.deployment, ticket.run, self.task.work.bundle) {
            Err(error @ FetchError::WrongHash { .. }) => return Err(invalid(error.to_string())),
            fetched => fetched?,
        };
        Bundle::unlock(&self.task.node.bundle_key, &locked).map_err(|error| invalid(error.to_string()))
    }

    /// Brings the boot partition back to the image when an earlier attempt may have broken it.
    fn recopy_boot(&self) -> Result<(), StepError> {
        if !self.task.work.recopy_boot {
            return Ok(());
        }
        let boot = self.boot_partition()?;
        let range = boot.start..boot.start + boot.bytes;
        Ok(copy::copy_range(self.scene(&|_, _| self.advance()), self.head, &range)?)
    }

    fn configure_root(
        &self,
        configure: impl FnOnce(&Tree) -> Result<(), ConfigureError>,
    ) -> Result<(), StepError> {
        let no_root = || failed(CauseKind::NoSystemFound, "the image has no ext4 root partition");
        let device = self.root_device(self.ext4_root().ok_or_else(no_root)?)?;
        if self.task.work.attempt > 1 {
            self.check_file_system(&device.path)?;
        }
        self.with_root(&device, Writing::Yes, |tree| Ok(configure(tree)?))
    }

    fn configure_boot(&self, family: &dyn Family, settings: Settings<'_>) -> Result<(), StepError> {
        let boot = self.boot_partition()?;
        let mut outcome = Ok(());
        fat::edit(self.card, boot.start, boot.bytes, |fat| {
            outcome = family.configure_boot(fat, settings);
            BOOTLOADER_UPDATES.iter().try_for_each(|name| fat.remove(name))
        })?;
        Ok(outcome?)
    }
}

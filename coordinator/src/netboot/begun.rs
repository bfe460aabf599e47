//! The boot root that each node's present boot began with: it gets that one to the end, and the next boot begins with the one
//! that is chosen then.
//!
//! Reads disks, never under its lock. Who gets what is decided in `desk.rs`.

use super::boot_root::{BootRoot, BootRootError, BootRoots};
use super::read_once::ReadOnce;
use piseduce_protocol::id::{BootNumber, Serial};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Boot roots, as nodes boot from them.
#[derive(Debug)]
pub(super) struct BegunRoots {
    roots: BootRoots,
    read: ReadOnce<BootRoot>,
    begun: Mutex<HashMap<Serial, (BootNumber, Arc<BootRoot>)>>,
}

/// Whose boot, and which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boot<'a> {
    pub(super) serial: Serial,
    pub(super) number: BootNumber,
    /// The node's name and model, by which a boot root may be chosen for it.
    pub(super) name: &'a str,
    pub(super) model: &'a str,
}

impl BegunRoots {
    /// No boot has begun with one of `roots` yet.
    pub(super) fn new(roots: BootRoots) -> BegunRoots {
        BegunRoots { roots, read: ReadOnce::default(), begun: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Serial, (BootNumber, Arc<BootRoot>)>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node's firmware began anew under the same boot number: what it gets next is chosen again.
    pub(super) fn forget(&self, serial: Serial) {
        self.lock().remove(&serial);
    }

    /// The boot root of this boot; none: none was chosen.
    ///
    /// # Errors
    /// When the chosen one cannot be read.
    pub(super) fn of(&self, boot: Boot<'_>) -> Result<Option<Arc<BootRoot>>, BootRootError> {
        let known = self.lock().get(&boot.serial).cloned();
        if let Some((number, root)) = known
            && number == boot.number
        {
            return Ok(Some(root));
        }
        let Some(root) = self.chosen_for(boot.name, boot.model)? else {
            self.forget(boot.serial);
            return Ok(None);
        };
        let mut begun = self.lock();
        // Two questions may have begun this boot at once.
        match begun.get(&boot.serial) {
            Some((number, first)) if *number == boot.number => Ok(Some(first.clone())),
            _ => {
                begun.insert(boot.serial, (boot.number, root.clone()));
                Ok(Some(root))
            }
        }
    }

    /// The boot root that is chosen now for a node of this name and model.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn chosen_for(&self, name: &str, model: &str) -> Result<Option<Arc<BootRoot>>, BootRootError> {
        let Some(version) = self.roots.chosen_for(name, model) else { return Ok(None) };
        self.read.get(&self.roots.description(&version), || self.roots.read(&version)).map(Some)
    }
}

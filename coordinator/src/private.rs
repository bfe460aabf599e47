//! What a process with secrets in its memory and files leaves to others: nothing.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

/// Takes care that the memory of this process, with its keys, is never written to a disk when it crashes. Both are
/// needed: a core pattern that is a pipe knows no limit, and programs that we start inherit only the limit.
pub fn leave_no_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
}

/// Whatever this process creates from now on is readable by its owner only.
pub fn write_for_owner_only() {
    umask(Mode::RWXG | Mode::RWXO);
}

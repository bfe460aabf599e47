//! The paths of the nodes' HTTP listener: written by agents and first boots, routed by the coordinator.

use crate::id::{DeploymentId, Hash, Run, Serial};
use alloc::format;
use alloc::string::String;

/// An image's manifest, immutable.
pub fn manifest(name: Hash) -> String {
    format!("/manifests/{name}")
}

/// A chunk, immutable: its raw bytes, or a zstd frame of them when the request accepts that encoding.
pub fn chunk(hash: Hash) -> String {
    format!("/chunks/{hash}")
}

/// The configuration bundle of a run, locked for the node's present boot.
pub fn bundle(deployment: DeploymentId, run: Run) -> String {
    format!("/bundles/{deployment}/{run}")
}

/// Where the agent of a run puts a boot file of its environment.
pub fn boot_file(deployment: DeploymentId, run: Run, name: &str) -> String {
    format!("/boot-files/v1/{deployment}/{run}/files/{name}")
}

/// Where it puts the list of all of them, which ends the upload.
pub fn boot_file_list(deployment: DeploymentId, run: Run) -> String {
    format!("/boot-files/v1/{deployment}/{run}/list")
}

/// The HTTP header with the proof of an upload, 64 hex digits.
pub const PROOF_HEADER: &str = "piseduce-proof";

/// The HTTP header with the BLAKE3 of what is uploaded, 64 hex digits: so it is proved before it comes.
pub const CONTENT_HEADER: &str = "piseduce-content";

/// Where the first boot of a run posts its reports: one level more says which.
pub fn first_boot(deployment: DeploymentId, run: Run) -> String {
    format!("/first-boot/v1/{deployment}/{run}")
}

/// Where an invited board posts its inventory.
pub fn enrolment(ticket: &str) -> String {
    format!("/enrolments/v1/{ticket}")
}

/// The boot view of a node, for firmware that boots over HTTP.
pub fn boot_view(serial: Serial) -> String {
    format!("/boot/v1/{serial}")
}

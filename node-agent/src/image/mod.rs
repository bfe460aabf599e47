//! Images: fetched chunk by chunk, written so that the card becomes equal to the manifest, and proven so.
//!
//! `fetch.rs` brings bytes that are right, `plan.rs` decides what is read before it is written, `copy.rs`
//! and `check.rs` do it. It knows cards and the head node's HTTP paths, and no states of a deployment.

pub mod check;
pub mod chunk;
pub mod copy;
pub mod fetch;
pub mod original;
pub mod plan;
#[cfg(test)]
pub mod sample;
pub mod withheld;
pub mod writer;

use crate::cancel::Cancel;
use crate::card::Card;
use fetch::FetchError;
use piseduce_protocol::id::Hash;
use piseduce_protocol::manifest::Manifest;
use std::panic::resume_unwind;
use withheld::Withheld;

/// Where chunks come from.
pub trait Source: Sync {
    /// Fills `raw` with the chunk of this name, whose raw length it has.
    ///
    /// # Errors
    /// [`FetchError`]; the bytes in `raw` are then undefined.
    fn chunk(&self, name: Hash, raw: &mut [u8]) -> Result<(), FetchError>;
}

/// What every piece of work on an image needs.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The card that is made equal.
    pub card: &'a dyn Card,
    /// What it is made equal to.
    pub manifest: &'a Manifest,
    /// What of the image is zero on the card meanwhile.
    pub withheld: &'a Withheld,
    /// Ends the work early.
    pub cancel: &'a Cancel,
    /// Told the bytes done and in total.
    pub advance: &'a (dyn Fn(u64, u64) + Sync),
}

/// Runs `work` on `workers` threads and returns the first of their errors, by number.
fn in_parallel<E: Send>(workers: usize, work: impl Fn() -> Result<(), E> + Sync) -> Result<(), E> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(&work)).collect();
        let results =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        // Every thread is waited for before the first error is returned.
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

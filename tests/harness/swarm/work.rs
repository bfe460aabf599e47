//! The work of a state, as far as it goes over the network: manifest and bundle are fetched and must be what the command
//! named. For the rest it takes its time.

use super::board::{Board, Card, count};
use super::http;
use piseduce_agent::agent::Job;
use piseduce_protocol::boot::BootParameters;
use piseduce_protocol::bundle::Bundle;
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::command::Work;
use piseduce_protocol::id::{Hash, Ticket};
use piseduce_protocol::manifest::Manifest;
use piseduce_protocol::path;
use piseduce_protocol::report::{Outcome, Written};
use piseduce_protocol::state::State;
use tokio::time::sleep;

/// What work came to.
pub(super) struct Finished {
    pub(super) outcome: Outcome,
    /// What a copy says that it wrote.
    pub(super) written: Option<Written>,
    /// What is on the card now, if that changed.
    pub(super) card: Option<Card>,
    /// Whether it was a wipe.
    pub(super) is_wipe: bool,
}

/// A piece of work.
pub(super) struct Task<'a> {
    pub(super) board: &'a Board,
    pub(super) parameters: &'a BootParameters,
    /// Locks the bundle.
    pub(super) key: [u8; 32],
    pub(super) ticket: Ticket,
}

impl Task<'_> {
    /// Does it.
    pub(super) async fn perform(&self, job: &Job) -> Finished {
        let done = match job {
            Job::Perform(work) => self.state(work).await,
            Job::Wipe(_) => Ok(Some(Card::default())),
        };
        sleep(self.board.shared.work).await;
        let is_copy = matches!(job, Job::Perform(work) if work.state == State::EnvCopy);
        let written = is_copy.then_some(Written { ticket: self.ticket, bytes: 2 << 30, busy_ms: 100_000 });
        let is_wipe = matches!(job, Job::Wipe(_));
        match done {
            Ok(card) => {
                Finished { outcome: Outcome::Done(format!("{job} took its time")), written, card, is_wipe }
            }
            Err(cause) => {
                count(&self.board.shared.faults.fetches);
                Finished { outcome: Outcome::Failed(cause), written: None, card: None, is_wipe }
            }
        }
    }

    async fn state(&self, work: &Work) -> Result<Option<Card>, Cause> {
        match work.state {
            State::EnvCopy => {
                let manifest = self.fetch(&path::manifest(work.manifest), work.manifest).await?;
                Manifest::decode(&manifest)
                    .map_err(|error| Cause::new(CauseKind::ImageUnreachable, error.to_string()))?;
                // Whoever waits here goes on as soon as it is told to, or its power is cut.
                let _ = self.board.shared.copies_wait.subscribe().wait_for(|wait| !wait).await;
                Ok(Some(Card::default()))
            }
            State::SystemConf => self.bundle(work).await.map(|_| None),
            State::UserConf => self.bundle(work).await.map(|bundle| Some(Card::configured(bundle))),
            _ => Ok(None),
        }
    }

    async fn bundle(&self, work: &Work) -> Result<Bundle, Cause> {
        let locked = self.fetch(&path::bundle(self.ticket.deployment, self.ticket.run), work.bundle).await?;
        let invalid = |error: piseduce_protocol::bundle::BundleError| {
            Cause::new(CauseKind::BundleInvalid, error.to_string())
        };
        Bundle::unlock(&self.key, &locked).map_err(invalid)
    }

    /// Bytes of the head that must have this hash.
    async fn fetch(&self, path: &str, name: Hash) -> Result<Vec<u8>, Cause> {
        let failed = |seen: String| Cause::new(CauseKind::ImageUnreachable, seen);
        let head = self.parameters.head.parse().map_err(|_| failed(self.parameters.head.clone()))?;
        match http::ask(self.board.address, head, "GET", path, b"").await {
            Ok((200, bytes)) if Hash::of(&bytes) == name => Ok(bytes),
            Ok((status, _)) => Err(failed(format!("{path}: status {status}"))),
            Err(error) => Err(failed(format!("{path}: {error}"))),
        }
    }
}

//! What one turn of the runner brought: all of it in one transaction, or nothing.

use super::deployments::{Change, Saved};
use super::logs::{AgentWords, ConsoleEnd};
use super::meta::ClockKept;
use super::schema::StoreError;
use super::site::CardProofs;
use super::{Actor, Store, cards, deployments, journal, logs, meta, site};
use crate::clock::UnixMs;
use crate::domain::card::CardNote;
use rusqlite::Connection;
use std::sync::Arc;

/// What one turn of the runner brought.
#[derive(Debug, Default)]
pub struct TurnRecord {
    /// When.
    pub at: UnixMs,
    /// What the machine changed, in order.
    pub changes: Vec<Change>,
    /// What agents told.
    pub words: Vec<AgentWords>,
    /// What happened to cards.
    pub cards: Vec<CardNote>,
    /// The consoles of runs that came to a bad end.
    pub consoles: Vec<ConsoleEnd>,
    /// What the cards of runs know.
    pub proofs: Vec<CardProofs>,
    /// Who did something else than a change of a deployment, what it was, and its details.
    pub notes: Vec<(Actor, &'static str, String)>,
    /// What is known of the head's clock, if it changed.
    pub clock: Option<ClockKept>,
}

impl TurnRecord {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        let TurnRecord { at: _, changes, words, cards, consoles, proofs, notes, clock } = self;
        changes.is_empty()
            && words.is_empty()
            && cards.is_empty()
            && consoles.is_empty()
            && proofs.is_empty()
            && notes.is_empty()
            && clock.is_none()
    }
}

pub(super) fn keep(connection: &Connection, record: &TurnRecord) -> Result<Vec<Saved>, StoreError> {
    let TurnRecord { at, changes, words, cards, consoles, proofs, notes, clock } = record;
    words.iter().try_for_each(|words| logs::keep(connection, words))?;
    cards.iter().try_for_each(|note| cards::keep(connection, note))?;
    consoles.iter().try_for_each(|end| logs::keep_console_end(connection, end))?;
    proofs.iter().try_for_each(|proofs| site::keep_proofs(connection, proofs))?;
    for (actor, what, detail) in notes {
        journal::note(connection, *at, actor, what, detail)?;
    }
    if let Some(clock) = clock {
        meta::keep_clock(connection, *clock)?;
    }
    changes.iter().map(|change| deployments::save(connection, change, *at)).collect()
}

impl Store {
    /// Keeps what a turn brought, in one transaction; answers with one entry a change. It may be kept again when that
    /// failed. It is written even on a disk that is too full for requests.
    ///
    /// # Errors
    /// When the store fails; then nothing is kept.
    pub async fn keep_turn(&self, record: Arc<TurnRecord>) -> Result<Vec<Saved>, StoreError> {
        self.record(move |connection| keep(connection, &record)).await
    }
}

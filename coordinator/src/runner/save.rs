//! Saves what a turn brought, in one transaction. While the disk takes nothing, the turn waits: nothing is done that is
//! not saved, nothing is forgotten, no deployment is charged for the time, and whoever asks is told.

use super::Runner;
use crate::clock::{self, Instant, UnixMs};
use crate::domain::deployment::{Condition, Deployment};
use crate::store::{Change, DiskTrouble, Saved, StoreError, TurnRecord};
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::state::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The pause before the second try; each pause is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Runner {
    /// Saves what this turn brought; `left` are the states that the changes left. Answers with one entry a change.
    pub(super) async fn save_turn(
        &mut self,
        changes: &[Change],
        left: &[State],
        at: UnixMs,
    ) -> Result<Vec<Saved>, StoreError> {
        if !changes.is_empty() && self.distrust.is_none() {
            self.calendar.seen(at);
        }
        let configured = changes.iter().map(|change| &change.deployment).filter(|now| is_configured(now));
        let record = TurnRecord {
            at,
            changes: changes.to_vec(),
            words: std::mem::take(&mut self.turn.words),
            cards: std::mem::take(&mut self.turn.cards),
            consoles: self.console_ends(changes, left, at),
            proofs: configured.map(|now| self.outside.card_proofs(now)).collect(),
            notes: std::mem::take(&mut self.turn.notes),
            clock: self.turn.clock.take(),
        };
        if record.is_empty() { Ok(Vec::new()) } else { self.save_until_saved(Arc::new(record)).await }
    }

    async fn save_until_saved(&mut self, record: Arc<TurnRecord>) -> Result<Vec<Saved>, StoreError> {
        let (mut pause, mut since) = (PAUSE_MIN, None);
        loop {
            match self.store.keep_turn(record.clone()).await {
                Ok(saved) => {
                    if let Some(since) = since {
                        self.goes_on(since);
                    }
                    return Ok(saved);
                }
                Err(StoreError::Disk(trouble)) => {
                    if since.is_none() {
                        tracing::error!(%trouble, hint = trouble.hint(), "nothing is done until it can be saved");
                    }
                    since.get_or_insert_with(clock::now);
                    self.board.set_unsaved(Some(trouble.clone()));
                    self.pause(pause, trouble).await?;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Waits, unless the coordinator ends.
    async fn pause(&mut self, pause: Duration, trouble: DiskTrouble) -> Result<(), StoreError> {
        let until = clock::now() + pause;
        let Some(stop) = &mut self.stop else {
            clock::sleep_until(until).await;
            return Ok(());
        };
        tokio::select! {
            () = clock::sleep_until(until) => Ok(()),
            _ = stop.wait_for(|stop| *stop) => Err(trouble.into()),
        }
    }

    /// What could not be saved since then is saved: no node is to blame for the time between.
    fn goes_on(&mut self, since: Instant) {
        let now = clock::now();
        tracing::info!(seconds = now.since(since).as_secs(), "the store is written again, work goes on");
        self.board.set_unsaved(None);
        for held in self.lives.values_mut() {
            held.live.forgive_until(now);
        }
        // What agents said meanwhile is still on its way.
        self.set_link_since(self.link_since.map(|_| now));
    }

    /// What was saved is what everybody sees from now on: before its events are told, so that whoever hears of a
    /// change finds it.
    pub(super) fn settle_changes(&mut self, changes: &[Change], saved: &[Saved]) {
        let mut live_boots = Vec::new();
        for (change, saved) in changes.iter().zip(saved) {
            let id = change.deployment.id;
            let Some(known) = self.nodes.get_mut(&change.node) else { continue };
            known.journal = saved.journal;
            live_boots.push((known.node.attributes.serial, change.deployment.live_boot()));
            if matches!(change.deployment.condition, Condition::Ended(_)) {
                known.deployment = None;
                self.board.count_ended();
                if let Some(held) = self.lives.remove(&id) {
                    known.node.owes = known.node.owes_after(&change.deployment, &held.owner);
                }
                self.admissions.changed(known.node.switch);
                self.set_times(id);
            } else if let Some(held) = self.lives.get_mut(&id) {
                held.since = saved.since;
                held.journal = saved.journal;
            }
        }
        for node in changes.iter().map(|change| change.node).collect::<BTreeSet<_>>() {
            self.show(node);
        }
        self.forget_consoles(changes);
        // The last change of a node counts.
        let live_boots: BTreeMap<Serial, Option<BootNumber>> = live_boots.into_iter().collect();
        self.board.change_live_boots(live_boots);
    }
}

/// Whether the card of this run is being configured: what it knows from then on is kept.
fn is_configured(now: &Deployment) -> bool {
    now.state() == State::SystemConf && now.form.as_ref().is_some_and(|form| form.reports)
}

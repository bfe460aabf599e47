//! Memory cards, by their identification register.

use super::schema::StoreError;
use super::{Store, rows};
use crate::clock::UnixMs;
use crate::domain::card::{CardDid, CardNote, Copy, Failure, Passport};
use piseduce_protocol::id::Ticket;
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;

const SEEN: &str = "INSERT INTO cards (cid, bytes, node, first_unix_ms, last_unix_ms) VALUES (?1, ?2, ?3, ?4, ?4)
    ON CONFLICT DO UPDATE SET bytes = excluded.bytes, node = excluded.node, last_unix_ms = excluded.last_unix_ms";

pub(super) fn keep(connection: &Connection, note: &CardNote) -> Result<(), StoreError> {
    let CardNote { cid, bytes, node, at, did } = note;
    // A length or time that no column holds is none.
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    connection.prepare_cached(SEEN)?.execute((cid, number(*bytes), node, at.0))?;
    let (ticket, cause, seen, bytes, busy_ms) = match did {
        CardDid::WasSeen => return Ok(()),
        CardDid::Wrote { ticket, bytes, busy_ms } => (ticket, None, "", number(*bytes), number(*busy_ms)),
        CardDid::Failed { ticket, kind, seen } => (ticket, Some(kind.name()), seen.as_str(), 0, 0),
    };
    let Ticket { deployment, run, seq } = ticket;
    let put =
        "INSERT INTO card_events (cid, node, deployment, run, seq, unix_ms, cause, seen, bytes, busy_ms)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    let row = (cid, node, deployment.0, run.0, seq.0, at.0, cause, seen, bytes, busy_ms);
    connection.prepare_cached(put)?.execute(row)?;
    Ok(())
}

/// What one event added to a card's history.
enum Event {
    Copy(Copy),
    Failure(Failure),
}

fn event(row: &Row<'_>) -> Result<(String, Event), StoreError> {
    let (at, cause) = (UnixMs(row.get("unix_ms")?), row.get::<_, Option<String>>("cause")?);
    let event = match cause {
        None => Event::Copy(Copy { at, bytes: row.get("bytes")?, busy_ms: row.get("busy_ms")? }),
        Some(cause) => Event::Failure(Failure { at, node: row.get("node")?, cause, seen: row.get("seen")? }),
    };
    Ok((row.get("cid")?, event))
}

fn passport(row: &Row<'_>) -> Result<Passport, StoreError> {
    Ok(Passport {
        cid: row.get("cid")?,
        bytes: row.get("bytes")?,
        node: row.get("node")?,
        first: UnixMs(row.get("first_unix_ms")?),
        last: UnixMs(row.get("last_unix_ms")?),
        copies: vec![],
        failures: vec![],
    })
}

impl Store {
    /// The card that was last seen in each node, by the node's name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn cards_in_nodes(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let query = "SELECT node, cid FROM cards ORDER BY last_unix_ms, rowid";
        // Of a node's cards the last one stays.
        let pair = |row: &Row<'_>| Ok((row.get("node")?, row.get("cid")?));
        self.read(move |connection| Ok(rows::all(connection, query, (), pair)?.into_iter().collect())).await
    }

    /// All cards with their histories, by their identification.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn cards(&self) -> Result<Vec<Passport>, StoreError> {
        let read = |connection: &Connection| {
            let cards = rows::all(connection, "SELECT * FROM cards ORDER BY cid", (), passport)?;
            let mut cards: BTreeMap<String, Passport> =
                cards.into_iter().map(|card| (card.cid.clone(), card)).collect();
            for (cid, event) in
                rows::all(connection, "SELECT * FROM card_events ORDER BY unix_ms, id", (), event)?
            {
                match (cards.get_mut(&cid), event) {
                    (Some(card), Event::Copy(copy)) => card.copies.push(copy),
                    (Some(card), Event::Failure(failure)) => card.failures.push(failure),
                    (None, _) => {}
                }
            }
            Ok(cards.into_values().collect())
        };
        self.read(read).await
    }
}

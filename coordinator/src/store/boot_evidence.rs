//! What was seen of a boot, as columns and back.

use super::rows;
use super::schema::StoreError;
use crate::domain::boot_evidence::{
    AgentWitness, BootEvidence, CardSighting, Place, PortWitness, TokenHolder,
};
use piseduce_protocol::id::BootNumber;
use rusqlite::Row;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

#[derive(Serialize, Deserialize)]
struct Column {
    off: Option<PortColumn>,
    on: Option<PortColumn>,
    firmware: Option<IpAddr>,
    agent: Option<AgentColumn>,
    card: Option<CardColumn>,
    place: Option<PlaceColumn>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PortColumn {
    Switch,
    Person,
    Nobody,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AgentColumn {
    Broker,
    Nobody,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PlaceColumn {
    AtPort,
    NotInTable,
    NoTable,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CardColumn {
    Absent,
    Unidentified,
    First(String),
    Same(String),
    Changed { before: String, now: String },
}

fn port_column(witness: PortWitness) -> PortColumn {
    match witness {
        PortWitness::Switch => PortColumn::Switch,
        PortWitness::Person => PortColumn::Person,
        PortWitness::Nobody => PortColumn::Nobody,
    }
}

fn port(column: PortColumn) -> PortWitness {
    match column {
        PortColumn::Switch => PortWitness::Switch,
        PortColumn::Person => PortWitness::Person,
        PortColumn::Nobody => PortWitness::Nobody,
    }
}

fn card_column(card: &CardSighting) -> CardColumn {
    match card.clone() {
        CardSighting::Absent => CardColumn::Absent,
        CardSighting::Unidentified => CardColumn::Unidentified,
        CardSighting::First(cid) => CardColumn::First(cid),
        CardSighting::Same(cid) => CardColumn::Same(cid),
        CardSighting::Changed { before, now } => CardColumn::Changed { before, now },
    }
}

fn card(column: CardColumn) -> CardSighting {
    match column {
        CardColumn::Absent => CardSighting::Absent,
        CardColumn::Unidentified => CardSighting::Unidentified,
        CardColumn::First(cid) => CardSighting::First(cid),
        CardColumn::Same(cid) => CardSighting::Same(cid),
        CardColumn::Changed { before, now } => CardSighting::Changed { before, now },
    }
}

/// The column of a boot's evidence; none when there is none.
pub(super) fn column(evidence: &BootEvidence) -> Option<String> {
    if *evidence == BootEvidence::default() {
        return None;
    }
    let column = Column {
        off: evidence.off.map(port_column),
        on: evidence.on.map(port_column),
        firmware: evidence.firmware,
        agent: evidence.agent.map(|witness| match witness {
            AgentWitness::Broker => AgentColumn::Broker,
            AgentWitness::Nobody => AgentColumn::Nobody,
        }),
        card: evidence.card.as_ref().map(card_column),
        place: evidence.place.map(|place| match place {
            Place::AtPort => PlaceColumn::AtPort,
            Place::NotInTable => PlaceColumn::NotInTable,
            Place::NoTable => PlaceColumn::NoTable,
        }),
    };
    Some(serde_json::to_string(&column).expect("evidence has text keys only"))
}

/// The evidence in a row.
pub(super) fn read(row: &Row<'_>) -> Result<BootEvidence, StoreError> {
    let Some(text) = row.get::<_, Option<String>>("boot_evidence")? else {
        return Ok(BootEvidence::default());
    };
    let column: Column = rows::json("evidence of a boot", text)?;
    Ok(BootEvidence {
        off: column.off.map(port),
        on: column.on.map(port),
        firmware: column.firmware,
        agent: column.agent.map(|column| match column {
            AgentColumn::Broker => AgentWitness::Broker,
            AgentColumn::Nobody => AgentWitness::Nobody,
        }),
        card: column.card.map(card),
        place: column.place.map(|column| match column {
            PlaceColumn::AtPort => Place::AtPort,
            PlaceColumn::NotInTable => Place::NotInTable,
            PlaceColumn::NoTable => Place::NoTable,
        }),
    })
}

/// Who fetched the last token.
pub(super) fn token(row: &Row<'_>) -> Result<Option<TokenHolder>, StoreError> {
    let (boot, address) =
        (row.get::<_, Option<u32>>("token_boot")?, row.get::<_, Option<String>>("token_address")?);
    let (Some(boot), Some(address)) = (boot, address) else { return Ok(None) };
    let address = rows::named("address", &address)?;
    Ok(Some(TokenHolder { boot: BootNumber(boot), address }))
}

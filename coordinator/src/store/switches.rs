//! Switches, and what they said last.

use super::schema::StoreError;
use super::{Store, rows};
use crate::clock::UnixMs;
use crate::domain::node::SwitchId;
use crate::domain::switch::{Switch, SwitchAttributes};
use rusqlite::{Connection, Row, named_params};
use std::time::Duration;

/// For how long a switch said that it had been running, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchSaid {
    /// For how long, in milliseconds.
    pub uptime_ms: u64,
    /// When, by the head's calendar.
    pub at: UnixMs,
}

fn switch(row: &Row<'_>) -> Result<Switch, StoreError> {
    let protected: String = row.get("protected")?;
    Ok(Switch {
        id: SwitchId(row.get("id")?),
        attributes: SwitchAttributes {
            name: row.get("name")?,
            driver: rows::json("driver", row.get("driver")?)?,
            off_time: Duration::from_millis(row.get("off_time_ms")?),
            protected: rows::json("list of ports", protected)?,
            budget_watts: row.get("budget_watts")?,
        },
    })
}

pub(super) fn put(connection: &Connection, switch: &SwitchAttributes) -> Result<(), StoreError> {
    let text = "settings have text keys only";
    connection.execute(
        "INSERT INTO switches (name, driver, off_time_ms, protected, budget_watts)
         VALUES (:name, :driver, :off_time_ms, :protected, :budget_watts)
         ON CONFLICT (name) DO UPDATE SET driver = excluded.driver, off_time_ms = excluded.off_time_ms,
           protected = excluded.protected, budget_watts = excluded.budget_watts",
        named_params! {
            ":name": switch.name,
            ":driver": serde_json::to_string(&switch.driver).expect(text),
            ":off_time_ms": u64::try_from(switch.off_time.as_millis()).unwrap_or(u64::MAX),
            ":protected": serde_json::to_string(&switch.protected).expect(text),
            ":budget_watts": switch.budget_watts,
        },
    )?;
    Ok(())
}

pub(super) fn all(connection: &Connection) -> Result<Vec<Switch>, StoreError> {
    rows::all(connection, "SELECT * FROM switches ORDER BY name", [], switch)
}

fn said(row: &Row<'_>) -> Result<Option<SwitchSaid>, StoreError> {
    let (uptime, at): (Option<u64>, Option<u64>) = (row.get("uptime_ms")?, row.get("uptime_at_ms")?);
    Ok(uptime.zip(at).map(|(uptime_ms, at)| SwitchSaid { uptime_ms, at: UnixMs(at) }))
}

impl Store {
    /// All switches, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn switches(&self) -> Result<Vec<Switch>, StoreError> {
        self.read(all).await
    }

    /// What a switch said last.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn switch_said(&self, switch: SwitchId) -> Result<Option<SwitchSaid>, StoreError> {
        let query = "SELECT uptime_ms, uptime_at_ms FROM switches WHERE id = ?";
        self.read(move |connection| Ok(rows::all(connection, query, [switch.0], said)?.pop().flatten())).await
    }

    /// Keeps what a switch says.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep_switch_said(&self, switch: SwitchId, said: SwitchSaid) -> Result<(), StoreError> {
        self.write(move |connection| {
            let update = "UPDATE switches SET uptime_ms = ?, uptime_at_ms = ? WHERE id = ?";
            connection.execute(update, (said.uptime_ms, said.at.0, switch.0))?;
            Ok(())
        })
        .await
    }
}

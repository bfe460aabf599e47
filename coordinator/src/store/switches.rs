//! Switches, and what they said last.

use super::journal::{self, Actor};
use super::schema::{Conflict, StoreError};
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
    let put = "INSERT INTO switches (name, driver, off_time_ms, protected, budget_watts)
         VALUES (:name, :driver, :off_time_ms, :protected, :budget_watts)
         ON CONFLICT (name) DO UPDATE SET driver = excluded.driver, off_time_ms = excluded.off_time_ms,
           protected = excluded.protected, budget_watts = excluded.budget_watts";
    connection.prepare_cached(put)?.execute(named_params! {
        ":name": switch.name,
        ":driver": serde_json::to_string(&switch.driver).expect(text),
        ":off_time_ms": u64::try_from(switch.off_time.as_millis()).unwrap_or(u64::MAX),
        ":protected": serde_json::to_string(&switch.protected).expect(text),
        ":budget_watts": switch.budget_watts,
    })?;
    Ok(())
}

pub(super) fn all(connection: &Connection) -> Result<Vec<Switch>, StoreError> {
    rows::all(connection, "SELECT * FROM switches WHERE removed_ms IS NULL ORDER BY name", [], switch)
}

fn named(connection: &Connection, name: &str) -> Result<Switch, StoreError> {
    let query = "SELECT * FROM switches WHERE name = ? AND removed_ms IS NULL";
    let found = rows::all(connection, query, [name], switch)?.pop();
    Ok(found.ok_or_else(|| Conflict::Missing { what: "switch", name: name.into() })?)
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

    /// Gives a switch another name; its nodes stay at it.
    ///
    /// # Errors
    /// [`Conflict::Missing`], [`Conflict::Taken`].
    pub async fn rename_switch(
        &self,
        name: String,
        new: String,
        at: UnixMs,
        actor: Actor,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            named(connection, &name)?;
            if name != new && named(connection, &new).is_ok() {
                return Err(Conflict::Taken { what: "switch", name: new.clone() }.into());
            }
            connection
                .prepare_cached("UPDATE switches SET name = ? WHERE name = ?")?
                .execute((&new, &name))?;
            journal::note(connection, at, &actor, "switch", &format!("{name} is named {new}"))
        })
        .await
    }

    /// Removes a switch that powers no node.
    ///
    /// # Errors
    /// [`Conflict::Missing`], [`Conflict::InUse`] with the nodes.
    pub async fn remove_switch(&self, name: String, at: UnixMs, actor: Actor) -> Result<(), StoreError> {
        self.write(move |connection| {
            let switch = named(connection, &name)?;
            let query = "SELECT name FROM nodes WHERE switch_id = ? AND retired_ms IS NULL ORDER BY name";
            let nodes: Vec<String> = rows::all(connection, query, [switch.id.0], |row| Ok(row.get(0)?))?;
            if !nodes.is_empty() {
                let by = format!("it powers {}; move or retire them first", nodes.join(", "));
                return Err(Conflict::InUse { what: "switch", name: name.clone(), by }.into());
            }
            let retired = "SELECT count(*) FROM nodes WHERE switch_id = ?";
            let retired: u64 = connection.prepare_cached(retired)?.query_row([switch.id.0], |row| row.get(0))?;
            // The history of retired nodes names the row; only its name is free again.
            if retired > 0 {
                let update = "UPDATE switches SET removed_ms = ?, name = name || ' (removed ' || id || ')' WHERE id = ?";
                connection.prepare_cached(update)?.execute((at.0, switch.id.0))?;
            } else {
                connection.prepare_cached("DELETE FROM switches WHERE id = ?")?.execute([switch.id.0])?;
            }
            journal::note(connection, at, &actor, "switch", &format!("removed {name}"))
        })
        .await
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
        self.record(move |connection| {
            let update = "UPDATE switches SET uptime_ms = ?, uptime_at_ms = ? WHERE id = ?";
            connection.prepare_cached(update)?.execute((said.uptime_ms, said.at.0, switch.0))?;
            Ok(())
        })
        .await
    }
}

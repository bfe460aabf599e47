//! Nodes out of service, and nodes that are none any more.

use super::Store;
use super::inventory::node_by_name;
use super::journal::{self, Actor};
use super::schema::{Conflict, StoreError};
use crate::clock::UnixMs;
use crate::domain::node::{Node, OutOfService};
use rusqlite::{Connection, OptionalExtension as _, Row};

/// The columns of a node that say why nobody gets it.
pub(super) fn out(row: &Row<'_>) -> Result<Option<OutOfService>, StoreError> {
    let (reason, by, since) = (row.get("out_reason")?, row.get("out_by")?, row.get("out_ms")?);
    let (Some(reason), Some(by), Some(since)) = (reason, by, since) else { return Ok(None) };
    Ok(Some(OutOfService { reason, by, since: UnixMs(since) }))
}

/// Nobody gets a node that is out of service.
pub(super) fn check_in_service(node: &Node) -> Result<(), Conflict> {
    match &node.out {
        Some(out) => {
            let (node, reason, by) = (node.attributes.name.clone(), out.reason.clone(), out.by.clone());
            Err(Conflict::OutOfService { node, reason, by })
        }
        None => Ok(()),
    }
}

fn named(connection: &Connection, name: &str) -> Result<Node, StoreError> {
    let found = node_by_name(connection, name)?;
    Ok(found.ok_or_else(|| Conflict::Missing { what: "node", name: name.into() })?)
}

impl Store {
    /// Takes a node out of service, or puts it back.
    ///
    /// # Errors
    /// [`Conflict::Missing`].
    pub async fn set_out(
        &self,
        name: String,
        out: Option<OutOfService>,
        at: UnixMs,
        actor: Actor,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            let node = named(connection, &name)?;
            let columns = out.as_ref().map(|out| (&out.reason, &out.by, out.since.0));
            let (reason, by, since) = match columns {
                Some((reason, by, since)) => (Some(reason), Some(by), Some(since)),
                None => (None, None, None),
            };
            connection.execute(
                "UPDATE nodes SET out_reason = ?, out_by = ?, out_ms = ? WHERE id = ?",
                (reason, by, since, node.id.0),
            )?;
            let detail = match &out {
                Some(out) => format!("{name} is out of service: {}", out.reason),
                None => format!("{name} is in service again"),
            };
            journal::note(connection, at, &actor, "service", &detail)
        })
        .await
    }

    /// Makes a node none any more. Its name, board, address and outlet are free; its history stays.
    ///
    /// # Errors
    /// [`Conflict::Missing`], and [`Conflict::InUse`] while it has a deployment.
    pub async fn retire(&self, name: String, at: UnixMs, actor: Actor) -> Result<(), StoreError> {
        self.write(move |connection| {
            let node = named(connection, &name)?;
            let live = "SELECT id FROM deployments WHERE node_id = ? AND state <> 'ended'";
            let live: Option<u64> = connection.query_row(live, [node.id.0], |row| row.get(0)).optional()?;
            if let Some(id) = live {
                let by = format!("deployment {id}; destroy it before retiring the node");
                return Err(Conflict::InUse { what: "node", name, by }.into());
            }
            connection.execute("UPDATE nodes SET retired_ms = ? WHERE id = ?", (at.0, node.id.0))?;
            journal::note(connection, at, &actor, "service", &format!("retired {name}"))
        })
        .await
    }
}

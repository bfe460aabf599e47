//! Nodes out of service, and nodes that are none any more.

use super::Store;
use super::inventory::node_by_name;
use super::journal::{self, Actor};
use super::schema::{Conflict, StoreError};
use crate::clock::UnixMs;
use crate::domain::node::{Node, NodeId, OutOfService};
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

/// The node is none any more.
pub(super) fn end(
    connection: &Connection,
    node: NodeId,
    at: UnixMs,
    actor: &Actor,
) -> Result<(), StoreError> {
    let retire = "UPDATE nodes SET retired_ms = ? WHERE id = ? RETURNING name";
    let name: String = connection.prepare_cached(retire)?.query_row((at.0, node.0), |row| row.get(0))?;
    journal::note(connection, at, actor, "service", &format!("retired {name}"))
}

impl Store {
    /// Takes nodes out of service, or puts them back, all in one transaction.
    ///
    /// Returns for each whether there is one: [`Conflict::Missing`].
    ///
    /// # Errors
    /// When the store fails; then nothing is done.
    pub async fn set_out(
        &self,
        names: Vec<String>,
        out: Option<OutOfService>,
        at: UnixMs,
        actor: Actor,
    ) -> Result<Vec<Result<(), Conflict>>, StoreError> {
        let put = move |connection: &Connection, name: &String| {
            let node = named(connection, name)?;
            let (reason, by, since) = match &out {
                Some(OutOfService { reason, by, since }) => (Some(reason), Some(by), Some(since.0)),
                None => (None, None, None),
            };
            let update = "UPDATE nodes SET out_reason = ?, out_by = ?, out_ms = ? WHERE id = ?";
            connection.prepare_cached(update)?.execute((reason, by, since, node.id.0))?;
            let detail = match &out {
                Some(out) => format!("{name} is out of service: {}", out.reason),
                None => format!("{name} is in service again"),
            };
            journal::note(connection, at, &actor, "service", &detail)
        };
        self.write(move |connection| names.iter().map(|name| or_conflict(put(connection, name))).collect())
            .await
    }

    /// Makes nodes none any more, all in one transaction. Their names, boards, addresses and outlets are free; their
    /// history stays.
    ///
    /// Returns for each whether that was done: [`Conflict::Missing`], and [`Conflict::InUse`] while it has a deployment.
    ///
    /// # Errors
    /// When the store fails; then nothing is done.
    pub async fn retire(
        &self,
        names: Vec<String>,
        at: UnixMs,
        actor: Actor,
    ) -> Result<Vec<Result<(), Conflict>>, StoreError> {
        let retire = move |connection: &Connection, name: &String| {
            let node = named(connection, name)?;
            let live = "SELECT id FROM deployments WHERE node_id = ? AND state <> 'ended'";
            let live: Option<u64> =
                connection.prepare_cached(live)?.query_row([node.id.0], |row| row.get(0)).optional()?;
            if let Some(id) = live {
                let by = format!("deployment {id}; destroy it before retiring the node");
                return Err(Conflict::InUse { what: "node", name: name.clone(), by }.into());
            }
            end(connection, node.id, at, &actor)
        };
        self.write(move |connection| names.iter().map(|name| or_conflict(retire(connection, name))).collect())
            .await
    }
}

/// What contradicts one node's part keeps no other from its own; nothing of it was written.
fn or_conflict(result: Result<(), StoreError>) -> Result<Result<(), Conflict>, StoreError> {
    match result {
        Ok(()) => Ok(Ok(())),
        Err(StoreError::Conflict(conflict)) => Ok(Err(conflict)),
        Err(other) => Err(other),
    }
}

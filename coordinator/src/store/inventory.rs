//! Nodes and environments. How nodes and switches are imported: [`super::import`].

use super::journal::{self, Actor};
use super::schema::{Conflict, StoreError};
use super::{Store, lifecycle, rows};
use crate::clock::UnixMs;
use crate::domain::deployment::Form;
use crate::domain::environment::Environment;
use crate::domain::node::{Node, NodeAttributes, NodeId, Owes, SwitchId};
use piseduce_protocol::id::BootNumber;
use rusqlite::{Connection, Row, named_params};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Who still uses the image of an environment that was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUsers {
    /// How many live deployments.
    pub deployments: usize,
    /// Other environments, by name.
    pub environments: Vec<String>,
}

/// The forms of all live deployments.
pub(super) fn live_forms(connection: &Connection) -> Result<Vec<Arc<Form>>, StoreError> {
    let live = "SELECT * FROM deployments WHERE state <> 'ended' AND form IS NOT NULL";
    let live = rows::all(connection, live, [], rows::deployment)?;
    Ok(live.into_iter().filter_map(|deployment| deployment.form).collect())
}

/// Columns of a node with its switch's name.
const NODE: &str =
    "SELECT nodes.*, switches.name AS switch FROM nodes JOIN switches ON switches.id = switch_id";

pub(super) fn node(row: &Row<'_>) -> Result<Node, StoreError> {
    let serial: String = row.get("serial")?;
    Ok(Node {
        id: NodeId(row.get("id")?),
        attributes: NodeAttributes {
            name: row.get("name")?,
            serial: rows::named("serial number", &serial)?,
            mac: row.get("mac")?,
            model: row.get("model")?,
            switch: row.get("switch")?,
            port: row.get("port")?,
            watts: row.get("watts")?,
            ip: row
                .get::<_, Option<String>>("ip")?
                .map(|text| rows::named("IP address", &text))
                .transpose()?,
            console: row
                .get::<_, Option<String>>("console")?
                .map(|text| rows::json("console", text))
                .transpose()?,
            labels: rows::json("labels", row.get("labels")?)?,
        },
        switch: SwitchId(row.get("switch_id")?),
        boot: BootNumber(row.get("boot")?),
        owes: owes(row)?,
        out: lifecycle::out(row)?,
    })
}

fn owes(row: &Row<'_>) -> Result<Option<Owes>, StoreError> {
    let (wipe, used_by): (Option<String>, Option<String>) = (row.get("owes")?, row.get("used_by")?);
    let Some((wipe, used_by)) = wipe.zip(used_by) else { return Ok(None) };
    Ok(Some(Owes { wipe: rows::named("wipe", &wipe)?, used_by }))
}

/// Writes down what the card of a node owes.
pub(super) fn set_owes(connection: &Connection, node: NodeId, owes: Option<&Owes>) -> Result<(), StoreError> {
    connection.prepare_cached("UPDATE nodes SET owes = ?, used_by = ? WHERE id = ?")?.execute((
        owes.map(|owes| owes.wipe.name()),
        owes.map(|owes| &owes.used_by),
        node.0,
    ))?;
    Ok(())
}

pub(super) fn node_by_name(connection: &Connection, name: &str) -> Result<Option<Node>, StoreError> {
    let query = format!("{NODE} WHERE nodes.name = ? AND retired_ms IS NULL");
    Ok(rows::all(connection, &query, [name], node)?.pop())
}

pub(super) fn node_by_id(connection: &Connection, id: NodeId) -> Result<Node, StoreError> {
    let found = rows::all(connection, &format!("{NODE} WHERE nodes.id = ?"), [id.0], node)?.pop();
    found.ok_or(StoreError::Row { what: "node number", found: id.0.to_string() })
}

/// The nodes with these numbers, in one query.
pub(super) fn nodes_by_id(
    connection: &Connection,
    ids: impl Iterator<Item = NodeId>,
) -> Result<HashMap<NodeId, Node>, StoreError> {
    let ids: HashSet<u64> = ids.map(|id| id.0).collect();
    let ids = serde_json::to_string(&ids).expect("a list of numbers");
    let query = format!("{NODE} WHERE nodes.id IN (SELECT value FROM json_each(?))");
    let found = rows::all(connection, &query, [ids], node)?;
    Ok(found.into_iter().map(|node| (node.id, node)).collect())
}

impl Store {
    /// All nodes, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        self.read(all_nodes).await
    }

    /// Adds an environment.
    ///
    /// # Errors
    /// [`Conflict::Taken`] when there is one of this name.
    pub async fn add_environment(&self, environment: Environment, actor: Actor) -> Result<(), StoreError> {
        self.write(move |connection| {
            let added = connection.prepare_cached(
                "INSERT INTO environments (name, manifest, image_bytes, family, family_evidence, architecture, added_ms)
                 VALUES (:name, :manifest, :image_bytes, :family, :evidence, :architecture, :added)
                 ON CONFLICT DO NOTHING",
            )?.execute(
                named_params! {
                    ":name": environment.name,
                    ":manifest": environment.manifest.0,
                    ":image_bytes": environment.image_bytes,
                    ":family": environment.family,
                    ":evidence": environment.family_evidence,
                    ":architecture": environment.architecture,
                    ":added": environment.added.0,
                },
            )?;
            if added == 0 {
                return Err(Conflict::Taken { what: "environment", name: environment.name.clone() }.into());
            }
            let detail = format!("added {} with image {}", environment.name, environment.manifest);
            journal::note(connection, environment.added, &actor, "environment", &detail)
        })
        .await
    }

    /// Removes an environment; what still uses its image keeps it.
    ///
    /// # Errors
    /// [`Conflict::Missing`] when there is none of this name.
    pub async fn remove_environment(
        &self,
        name: String,
        at: UnixMs,
        actor: Actor,
    ) -> Result<ImageUsers, StoreError> {
        self.write(move |connection| {
            let query = "DELETE FROM environments WHERE name = ? RETURNING *";
            let Some(removed) = rows::all(connection, query, [&name], environment)?.pop() else {
                return Err(Conflict::Missing { what: "environment", name: name.clone() }.into());
            };
            journal::note(connection, at, &actor, "environment", &format!("removed {name}"))?;
            let forms = live_forms(connection)?;
            let same = "SELECT name FROM environments WHERE manifest = ? ORDER BY name";
            let environments =
                rows::all(connection, same, [removed.manifest.0], |row| Ok(row.get::<_, String>(0)?))?;
            let deployments = forms.iter().filter(|form| form.manifest == removed.manifest).count();
            Ok(ImageUsers { deployments, environments })
        })
        .await
    }

    /// All environments, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn environments(&self) -> Result<Vec<Environment>, StoreError> {
        self.read(all_environments).await
    }
}

pub(super) fn all_nodes(connection: &Connection) -> Result<Vec<Node>, StoreError> {
    rows::all(connection, &format!("{NODE} WHERE retired_ms IS NULL ORDER BY nodes.name"), [], node)
}

pub(super) fn all_environments(connection: &Connection) -> Result<Vec<Environment>, StoreError> {
    rows::all(connection, "SELECT * FROM environments ORDER BY name", [], environment)
}

fn environment(row: &Row<'_>) -> Result<Environment, StoreError> {
    let manifest: Vec<u8> = row.get("manifest")?;
    Ok(Environment {
        name: row.get("name")?,
        manifest: rows::hash(&manifest)?,
        image_bytes: row.get("image_bytes")?,
        family: row.get("family")?,
        family_evidence: row.get("family_evidence")?,
        architecture: row.get("architecture")?,
        added: UnixMs(row.get("added_ms")?),
    })
}

//! Nodes and environments, and how they and switches are imported.

use super::journal::{self, Actor};
use super::schema::{Conflict, StoreError};
use super::{Store, lifecycle, rows, switches};
use crate::clock::UnixMs;
use crate::domain::deployment::Form;
use crate::domain::environment::Environment;
use crate::domain::node::{Node, NodeAttributes, NodeId, Owes, SwitchId};
use crate::domain::switch::SwitchAttributes;
use piseduce_protocol::id::{BootNumber, Serial};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// New nodes.
    pub added: usize,
    /// Nodes that were known by name and have new attributes.
    pub changed: usize,
    /// Nodes that were as the import has them.
    pub unchanged: usize,
}

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
    connection.execute(
        "UPDATE nodes SET owes = ?, used_by = ? WHERE id = ?",
        (owes.map(|owes| owes.wipe.name()), owes.map(|owes| &owes.used_by), node.0),
    )?;
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

fn put_node(
    connection: &Connection,
    node: &NodeAttributes,
    imported: &mut Imported,
) -> Result<(), StoreError> {
    let before = node_by_name(connection, &node.name)?;
    if before.as_ref().is_some_and(|before| before.attributes == *node) {
        imported.unchanged += 1;
        return Ok(());
    }
    // These may come, change and go at any time: no deployment rests on them.
    let moves = |before: &Node| {
        let NodeAttributes { console, ip, labels, .. } = before.attributes.clone();
        before.attributes != NodeAttributes { console, ip, labels, ..node.clone() }
    };
    if let Some(before) = before.as_ref().filter(|before| moves(before)) {
        // One in quarantine is off, and is tested as what it is then.
        let live = "SELECT id FROM deployments WHERE node_id = ? AND state NOT IN ('ended', 'quarantined')";
        let live: Option<u64> = connection.query_row(live, [before.id.0], |row| row.get(0)).optional()?;
        if let Some(id) = live {
            let by = format!("deployment {id}; destroy it before changing the node");
            return Err(Conflict::InUse { what: "node", name: node.name.clone(), by }.into());
        }
    }
    let switch_id = connection
        .query_row("SELECT id FROM switches WHERE name = ?", [&node.switch], |row| row.get::<_, u64>(0))
        .optional()?
        .ok_or_else(|| Conflict::Missing { what: "switch", name: node.switch.clone() })?;
    check_unique(connection, node, switch_id)?;
    connection
        .prepare_cached(
            "INSERT INTO nodes (name, serial, serial_short, mac, model, switch_id, port, watts, ip, console, labels)
             VALUES (:name, :serial, :short, :mac, :model, :switch, :port, :watts, :ip, :console, :labels)
             ON CONFLICT (name) WHERE retired_ms IS NULL DO UPDATE SET serial = excluded.serial,
               serial_short = excluded.serial_short, mac = excluded.mac, model = excluded.model,
               switch_id = excluded.switch_id, port = excluded.port, watts = excluded.watts, ip = excluded.ip,
               console = excluded.console, labels = excluded.labels",
        )?
        .execute(named_params! {
            ":name": node.name,
            ":serial": node.serial.to_string(),
            ":short": short(node.serial),
            ":mac": node.mac,
            ":model": node.model,
            ":switch": switch_id,
            ":port": node.port,
            ":watts": node.watts,
            ":ip": node.ip.map(|ip| ip.to_string()),
            ":labels": serde_json::to_string(&node.labels).expect("a list of texts"),
            ":console": node.console.as_ref().map(|console| serde_json::to_string(console).expect("settings have text keys only")),
        })?;
    *if before.is_some() { &mut imported.changed } else { &mut imported.added } += 1;
    Ok(())
}

fn short(serial: Serial) -> String {
    format!("{:08x}", serial.short())
}

/// No other node has the board, its address or its outlet.
fn check_unique(connection: &Connection, node: &NodeAttributes, switch_id: u64) -> Result<(), StoreError> {
    let serial = node.serial.to_string();
    let ip = node.ip.map(|ip| ip.to_string()).unwrap_or_default();
    let checks = [
        ("serial_short = ?", "serial number", short(node.serial), &serial, "has the same last 8 digits"),
        ("mac = ?", "MAC address", node.mac.clone(), &node.mac, "has it"),
        ("ip = ?", "IP address", ip.clone(), &ip, "has it"),
    ];
    for (condition, what, value, name, why) in checks {
        let query = format!("SELECT name FROM nodes WHERE {condition} AND name <> ? AND retired_ms IS NULL");
        let other: Option<String> =
            connection.query_row(&query, (value, &node.name), |row| row.get(0)).optional()?;
        if let Some(other) = other {
            return Err(
                Conflict::InUse { what, name: name.clone(), by: format!("node {other} {why}") }.into()
            );
        }
    }
    let query =
        "SELECT name FROM nodes WHERE switch_id = ? AND port = ? AND name <> ? AND retired_ms IS NULL";
    let other: Option<String> =
        connection.query_row(query, (switch_id, &node.port, &node.name), |row| row.get(0)).optional()?;
    match other {
        Some(other) => {
            let name = format!("{} of switch {}", node.port, node.switch);
            Err(Conflict::InUse { what: "port", name, by: format!("node {other} is plugged there") }.into())
        }
        None => Ok(()),
    }
}

/// Nobody could switch a node on a protected outlet.
fn check_protected(connection: &Connection) -> Result<(), StoreError> {
    let switches = switches::all(connection)?;
    for node in all_nodes(connection)? {
        let its = switches.iter().find(|switch| switch.id == node.switch);
        if its.is_some_and(|switch| switch.attributes.protects(&node.attributes.port)) {
            let NodeAttributes { name, switch, port, .. } = node.attributes;
            let by =
                format!("node {name}, which could not be switched there: it is one of the `protected_ports`");
            return Err(
                Conflict::InUse { what: "port", name: format!("{port} of switch {switch}"), by }.into()
            );
        }
    }
    Ok(())
}

/// One device is the console of one node.
fn check_consoles(connection: &Connection) -> Result<(), StoreError> {
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for node in all_nodes(connection)? {
        let NodeAttributes { name, console: Some(console), .. } = node.attributes else { continue };
        if let Some(other) = taken.insert(console.device.clone(), name) {
            let by = format!("node {other}, whose console it is");
            return Err(Conflict::InUse { what: "serial device", name: console.device, by }.into());
        }
    }
    Ok(())
}

impl Store {
    /// Adds or changes switches and nodes by name, all or none.
    ///
    /// # Errors
    /// A [`Conflict`] when a board, address, outlet or live node stands in the way.
    pub async fn import(
        &self,
        switches: Vec<SwitchAttributes>,
        nodes: Vec<NodeAttributes>,
        at: UnixMs,
        actor: Actor,
    ) -> Result<Imported, StoreError> {
        self.write(move |connection| {
            for switch in &switches {
                switches::put(connection, switch)?;
            }
            let mut imported = Imported::default();
            for node in &nodes {
                put_node(connection, node, &mut imported)?;
            }
            check_protected(connection)?;
            check_consoles(connection)?;
            let detail = format!(
                "{} switches; nodes: {} added, {} changed, {} unchanged",
                switches.len(),
                imported.added,
                imported.changed,
                imported.unchanged
            );
            journal::note(connection, at, &actor, "import", &detail)?;
            Ok(imported)
        })
        .await
    }

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
            let added = connection.execute(
                "INSERT INTO environments (name, manifest, image_bytes, family, family_evidence, architecture, added_ms)
                 VALUES (:name, :manifest, :image_bytes, :family, :evidence, :architecture, :added)
                 ON CONFLICT DO NOTHING",
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
                return Err(Conflict::Taken { what: "environment", name: environment.name }.into());
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
                return Err(Conflict::Missing { what: "environment", name }.into());
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

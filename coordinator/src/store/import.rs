//! The import of switches and nodes: all or none, each outlet in its switch's own form, and nothing that two nodes would share.

use super::inventory::all_nodes;
use super::journal::{self, Actor};
use super::schema::{Conflict, StoreError};
use super::{Store, switches};
use crate::clock::UnixMs;
use crate::domain::node::{Node, NodeAttributes};
use crate::domain::switch::{Switch, SwitchAttributes};
use piseduce_protocol::id::Serial;
use rusqlite::{Connection, OptionalExtension, named_params};
use std::collections::BTreeMap;

/// How many of a kind an import added, changed and found as it has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportCount {
    /// New ones.
    pub added: usize,
    /// Known by name, with new attributes.
    pub changed: usize,
    /// As they were.
    pub unchanged: usize,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// To nodes.
    pub nodes: ImportCount,
    /// To switches.
    pub switches: ImportCount,
    /// Registered nodes that the import does not name.
    pub unnamed_nodes: Vec<String>,
    /// The same of switches.
    pub unnamed_switches: Vec<String>,
}

impl ImportCount {
    pub(super) fn count(&mut self, is_known: bool, is_same: bool) {
        *match (is_known, is_same) {
            (false, _) => &mut self.added,
            (true, false) => &mut self.changed,
            (true, true) => &mut self.unchanged,
        } += 1;
    }
}

/// Frees what the import gives to other nodes, so that two may exchange boards, addresses and outlets: nothing is unique by these
/// values, and every node in `nodes` is written afterwards.
fn set_aside(connection: &Connection, nodes: &[NodeAttributes]) -> Result<(), StoreError> {
    let mut set_aside = connection.prepare_cached(
        "UPDATE nodes SET serial = '-' || id, serial_short = '-' || id, mac = '-' || id, port = '-' || id, ip = NULL
         WHERE name = ? AND retired_ms IS NULL",
    )?;
    for node in nodes {
        set_aside.execute([&node.name])?;
    }
    Ok(())
}

/// A live deployment rests on its board, and while it is under way on its outlet, too. Console, address and labels may come, change
/// and go at any time.
fn check_not_in_use(
    connection: &Connection,
    before: &Node,
    after: &NodeAttributes,
) -> Result<(), StoreError> {
    let NodeAttributes { serial, mac, model, switch, port, watts, .. } = &before.attributes;
    let is_same_board = (serial, mac, model) == (&after.serial, &after.mac, &after.model);
    if is_same_board && (switch, port, watts) == (&after.switch, &after.port, &after.watts) {
        return Ok(());
    }
    // One in quarantine is off, and is tested as what it is then. One that failed or is lost may be at the wrong port.
    let at_rest =
        if is_same_board { "'ended', 'quarantined', 'failed', 'lost'" } else { "'ended', 'quarantined'" };
    let live = format!("SELECT id FROM deployments WHERE node_id = ? AND state NOT IN ({at_rest})");
    let live: Option<u64> =
        connection.prepare_cached(&live)?.query_row([before.id.0], |row| row.get(0)).optional()?;
    match live {
        Some(id) => {
            let by = format!("deployment {id}; destroy it before changing the node");
            Err(Conflict::InUse { what: "node", name: after.name.clone(), by }.into())
        }
        None => Ok(()),
    }
}

fn put_node(
    connection: &Connection,
    node: &NodeAttributes,
    before: Option<&Node>,
    count: &mut ImportCount,
) -> Result<(), StoreError> {
    let is_same = before.is_some_and(|before| before.attributes == *node);
    count.count(before.is_some(), is_same);
    if let Some(before) = before {
        check_not_in_use(connection, before, node)?;
    }
    let switch_id = connection
        .prepare_cached("SELECT id FROM switches WHERE name = ?")?
        .query_row([&node.switch], |row| row.get::<_, u64>(0))
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
    // A board goes on counting where it was, whatever node it was before: no boot number is given out twice.
    let count =
        "UPDATE nodes SET boot = max(boot, (SELECT boot FROM boards WHERE boards.serial = nodes.serial))
        WHERE name = ? AND retired_ms IS NULL AND serial IN (SELECT serial FROM boards)";
    connection.prepare_cached(count)?.execute([&node.name])?;
    Ok(())
}

/// Writes each outlet as its switch's driver has it.
fn with_port_of_driver(
    mut node: NodeAttributes,
    switches: &BTreeMap<String, Switch>,
) -> Result<NodeAttributes, StoreError> {
    if let Some(switch) = switches.get(&node.switch) {
        node.port = switch.attributes.driver.port(&node.port).map_err(|why| Conflict::Port {
            node: node.name.clone(),
            switch: node.switch.clone(),
            why,
        })?;
    }
    Ok(node)
}

/// Every node's outlet is one that its switch has, also after the switch got another driver.
fn check_ports(connection: &Connection) -> Result<(), StoreError> {
    let switches = by_name(switches::all(connection)?);
    for node in all_nodes(connection)? {
        with_port_of_driver(node.attributes, &switches)?;
    }
    Ok(())
}

fn by_name(switches: Vec<Switch>) -> BTreeMap<String, Switch> {
    switches.into_iter().map(|switch| (switch.attributes.name.clone(), switch)).collect()
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
            connection.prepare_cached(&query)?.query_row((value, &node.name), |row| row.get(0)).optional()?;
        if let Some(other) = other {
            return Err(
                Conflict::InUse { what, name: name.clone(), by: format!("node {other} {why}") }.into()
            );
        }
    }
    let query =
        "SELECT name FROM nodes WHERE switch_id = ? AND port = ? AND name <> ? AND retired_ms IS NULL";
    let other: Option<String> = connection
        .prepare_cached(query)?
        .query_row((switch_id, &node.port, &node.name), |row| row.get(0))
        .optional()?;
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
            let mut imported = Imported::default();
            let known = by_name(switches::all(connection)?);
            for switch in &switches {
                let before = known.get(&switch.name);
                let is_same = before.is_some_and(|before| before.attributes == *switch);
                imported.switches.count(before.is_some(), is_same);
                switches::put(connection, switch)?;
            }
            let known = by_name(switches::all(connection)?);
            let nodes = nodes.iter().cloned().map(|node| with_port_of_driver(node, &known));
            let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
            let before = all_nodes(connection)?.into_iter().map(|node| (node.attributes.name.clone(), node));
            let before: BTreeMap<String, Node> = before.collect();
            set_aside(connection, &nodes)?;
            for node in &nodes {
                put_node(connection, node, before.get(&node.name), &mut imported.nodes)?;
            }
            check_ports(connection)?;
            check_protected(connection)?;
            check_consoles(connection)?;
            let is_named = |name: &String| nodes.iter().any(|node| node.name == *name);
            imported.unnamed_nodes = before.into_keys().filter(|name| !is_named(name)).collect();
            let is_named = |name: &String| switches.iter().any(|switch| switch.name == *name);
            imported.unnamed_switches = known.into_keys().filter(|name| !is_named(name)).collect();
            let (of_nodes, of_switches) = (imported.nodes, imported.switches);
            let detail = format!(
                "switches: {} added, {} changed, {} unchanged; nodes: {} added, {} changed, {} unchanged",
                of_switches.added,
                of_switches.changed,
                of_switches.unchanged,
                of_nodes.added,
                of_nodes.changed,
                of_nodes.unchanged
            );
            journal::note(connection, at, &actor, "import", &detail)?;
            Ok(imported)
        })
        .await
    }
}

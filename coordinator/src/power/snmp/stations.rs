//! Which address a switch has seen at which of its bridge ports: Q-BRIDGE-MIB (RFC 4363) where there are VLANs, else
//! BRIDGE-MIB (RFC 4188). Registered addresses are asked for by index; only tables that have another index than
//! addresses are read as a whole. What may be missing is said.

use super::super::PowerError;
use super::client::{Agent, Rows};
use super::{integer, oid};
use async_snmp::{Oid, Value};
use std::collections::{BTreeMap, BTreeSet};

/// dot1qTpFdbEntry: table of addresses (one a VLAN or more), address. Column 2 is the bridge port.
pub(super) const BY_VLAN: &str = "1.3.6.1.2.1.17.7.1.2.2.1";
/// dot1dTpFdbEntry: address. Column 1 is the address, column 2 the bridge port.
const PLAIN: &str = "1.3.6.1.2.1.17.4.3.1";
/// Numbers of an address in an index.
const ADDRESS: usize = 6;
/// Tables of one switch by VLAN that are looked through at most: as many VLANs as there can be.
const TABLES_MAX: usize = 4096;
/// With more objects to ask for, reading the whole table takes fewer requests.
const OBJECTS_MAX: usize = 4096;

/// Addresses with the bridge port of each, and why there may be more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sightings {
    pub(super) seen: Vec<(String, u32)>,
    pub(super) gap: Option<String>,
}

impl Sightings {
    /// What all contexts (VLANs) of a switch tell. An agent that answers us has seen at least our own address, so a
    /// switch without one does not show what it has.
    fn of_all(contexts: Vec<Sightings>, is_empty: bool) -> Sightings {
        let gap = contexts.iter().find_map(|context| context.gap.clone());
        let empty = is_empty.then(|| "the switch shows no address at all".to_owned());
        let seen = contexts.into_iter().flat_map(|context| context.seen).collect();
        Sightings { seen, gap: gap.or(empty) }
    }
}

/// All addresses; the switch's own are left out.
pub(super) async fn read(agents: &[&Agent]) -> Result<Sightings, PowerError> {
    let mut contexts = Vec::new();
    for agent in agents {
        let mut found = whole(agent, BY_VLAN).await?;
        if found.seen.is_empty() && found.gap.is_none() {
            found = whole(agent, PLAIN).await?;
        }
        contexts.push(found);
    }
    let is_empty = contexts.iter().all(|context| context.seen.is_empty());
    Ok(Sightings::of_all(contexts, is_empty))
}

/// These addresses, where they were seen; the gap is that of the whole table.
pub(super) async fn locate(agents: &[&Agent], macs: &[String]) -> Result<Sightings, PowerError> {
    let wanted: Vec<(&String, Vec<u32>)> = macs.iter().filter_map(|mac| Some((mac, numbers(mac)?))).collect();
    let mut contexts = Vec::new();
    let mut has_rows = false;
    for agent in agents {
        let mut tables = tables_of(agent, BY_VLAN).await?;
        if tables.is_empty() {
            tables = tables_of(agent, PLAIN).await?;
        }
        has_rows |= !tables.is_empty();
        contexts.push(located(agent, &tables, &wanted).await?);
    }
    // That none of ours was found says nothing against a table that has others.
    Ok(Sightings::of_all(contexts, !has_rows))
}

/// A table of addresses: what stands before them in its rows' identifiers, and its first row.
#[derive(Clone, Debug)]
struct Table {
    root: Oid,
    first: Vec<u32>,
}

/// The tables that have rows: one a VLAN.
async fn tables_of(agent: &Agent, entry: &str) -> Result<Vec<Table>, PowerError> {
    let column = oid(&format!("{entry}.2"));
    let mut tables: Vec<Table> = Vec::new();
    let mut after = column.clone();
    while let Some(first) = agent.first_after(&column, &after).await? {
        let own = first.len().saturating_sub(ADDRESS);
        let root = Oid::from_slice(&[column.arcs(), &first[..own]].concat());
        let is_repeated = tables.iter().any(|table| table.root == root);
        tables.push(Table { root: root.clone(), first });
        // A table without a number of its own is alone; one that comes twice leads nowhere.
        if own == 0 || is_repeated || tables.len() >= TABLES_MAX {
            break;
        }
        after = Oid::from_slice(&[root.arcs(), &[255; ADDRESS]].concat());
    }
    Ok(tables)
}

async fn located(
    agent: &Agent,
    tables: &[Table],
    wanted: &[(&String, Vec<u32>)],
) -> Result<Sightings, PowerError> {
    let Some(first) = tables.first() else { return Ok(Sightings::default()) };
    let entry = if first.root.strip_prefix(&oid(BY_VLAN)).is_some() { BY_VLAN } else { PLAIN };
    let by_address = tables.iter().all(|table| table.first.len() >= ADDRESS);
    if !by_address || tables.len() * wanted.len() > OBJECTS_MAX {
        return whole(agent, entry).await;
    }
    let mut asked = Vec::new();
    for table in tables {
        asked.extend(wanted.iter().map(|(_, mac)| Oid::from_slice(&[table.root.arcs(), mac].concat())));
    }
    let values = agent.get(&asked).await?;
    let macs = wanted.iter().map(|(mac, _)| *mac).cycle();
    let seen: Vec<(String, u32)> = macs
        .zip(values)
        .filter_map(|(mac, value)| Some((mac.clone(), bridge_port(value.as_ref()?)?)))
        .collect();
    if seen.is_empty() {
        // Some agents answer no question by index: a row that is there must be found by it.
        let known = Oid::from_slice(&[oid(&format!("{entry}.2")).arcs(), &first.first].concat());
        if agent.get(&[known]).await?.first().is_none_or(Option::is_none) {
            return whole(agent, entry).await;
        }
    }
    Ok(Sightings { seen, gap: None })
}

/// A whole table, whatever its index is.
async fn whole(agent: &Agent, entry: &str) -> Result<Sightings, PowerError> {
    let ports = agent.table(&oid(&format!("{entry}.2"))).await?;
    let mut gap = ports.gap.clone();
    let addresses = if ports.rows.iter().all(|(index, _)| index.len() >= ADDRESS) {
        BTreeMap::new()
    } else {
        let Rows { rows, gap: short } = agent.table(&oid(&format!("{entry}.1"))).await?;
        gap = gap.or(short);
        rows.into_iter().collect()
    };
    let (mut seen, mut strange) = (BTreeSet::new(), 0);
    for (index, value) in ports.rows {
        let Some(at) = bridge_port(&value) else { continue };
        let of_index = || mac(index.get(index.len().checked_sub(ADDRESS)?..)?);
        match addresses.get(&index).map_or_else(of_index, of_value) {
            Some(mac) => drop(seen.insert((mac, at))),
            None => strange += 1,
        }
    }
    if strange > 0 && gap.is_none() {
        gap = Some(format!("{strange} rows of its table of addresses have an index that is no address"));
    }
    Ok(Sightings { seen: seen.into_iter().collect(), gap })
}

/// A bridge port; 0 is none.
fn bridge_port(value: &Value) -> Option<u32> {
    u32::try_from(integer(value)?).ok().filter(|at| *at > 0)
}

fn of_value(value: &Value) -> Option<String> {
    mac(&value.as_bytes()?.iter().copied().map(u32::from).collect::<Vec<u32>>())
}

/// Six numbers as an address.
fn mac(numbers: &[u32]) -> Option<String> {
    let bytes: Option<Vec<u8>> = numbers.iter().map(|number| u8::try_from(*number).ok()).collect();
    let bytes = bytes.filter(|bytes| bytes.len() == ADDRESS)?;
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(pairs.join(":"))
}

/// An address as six numbers.
fn numbers(mac: &str) -> Option<Vec<u32>> {
    let numbers: Option<Vec<u32>> = mac.split(':').map(|pair| u32::from_str_radix(pair, 16).ok()).collect();
    numbers.filter(|numbers| numbers.len() == ADDRESS)
}

//! Looks at a switch that is to be registered: its vendor, its groups and ports, how its table of addresses
//! counts ports, and what its spanning tree does to nodes that boot.

use super::client::Agent;
use super::{PowerError, SnmpSwitch, integer, oid, presets, stations};
use crate::domain::driver::{SnmpPreset, SnmpSettings};
use crate::power::{PortView, Supply};
use async_snmp::Value;
use std::collections::{BTreeMap, BTreeSet};

/// sysDescr and sysObjectID.
const SYS_DESCR: &str = "1.3.6.1.2.1.1.1.0";
const SYS_OBJECT_ID: &str = "1.3.6.1.2.1.1.2.0";
/// Where vendors' numbers stand.
const ENTERPRISES: &str = "1.3.6.1.4.1";
/// pethPsePortAdminEnable.
const ADMIN_COLUMN: &str = "1.3.6.1.2.1.105.1.1.1.3";
/// dot1dStpPortState and dot1dStpPortEnable (RFC 4188), dot1dStpPortOperEdgePort (RFC 4318).
const STP_STATE: &str = "1.3.6.1.2.1.17.2.15.1.3";
const STP_ENABLED: &str = "1.3.6.1.2.1.17.2.15.1.4";
const STP_EDGE: &str = "1.3.6.1.2.1.17.2.19.1.3";
/// Bridge ports are looked for so far beside the numbers of the outlets.
const OFFSET_MAX: i64 = 128;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// What the switch says of itself.
    pub description: String,
    /// The preset that fits.
    pub preset: SnmpPreset,
    /// Why that one.
    pub preset_evidence: String,
    /// Groups, and the outlets of each by number.
    pub groups: BTreeMap<u32, Vec<u32>>,
    /// What is added to an outlet's number to get its bridge port.
    pub bridge_offset: i32,
    /// Why so much.
    pub offset_evidence: String,
    /// Its power supplies.
    pub supplies: Vec<Supply>,
    /// The state of the spanning tree at bridge ports that take part in it and are no edge.
    pub spanning_tree: BTreeMap<u32, &'static str>,
}

/// Looks at the switch behind `settings`, whose preset and objects need not be right.
///
/// # Errors
/// When the switch does not answer, or refuses.
pub async fn detect(settings: &SnmpSettings) -> Result<Detected, PowerError> {
    let agent = Agent::new(settings);
    let values = agent.get(&[oid(SYS_DESCR), oid(SYS_OBJECT_ID)]).await?;
    let value = |at: usize| values.get(at).and_then(Option::as_ref);
    let description = value(0).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let vendor = value(1)
        .and_then(Value::as_oid)
        .and_then(|id| id.strip_prefix(&oid(ENTERPRISES))?.arcs().first().copied());
    let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (index, _) in agent.table(&oid(ADMIN_COLUMN)).await?.rows {
        if let [group, number] = index[..] {
            groups.entry(group).or_default().push(number);
        }
    }
    let (preset, preset_evidence) = preset(vendor, groups.values().map(Vec::len).sum());
    let group = if groups.contains_key(&settings.group) {
        settings.group
    } else {
        *groups.keys().next().unwrap_or(&1)
    };
    let switch = SnmpSwitch::new(&SnmpSettings { preset, objects: None, group, ..settings.clone() });
    let ports = switch.all_ports().await?;
    if groups.is_empty() {
        let numbers: Vec<u32> = ports.iter().filter_map(|port| port.port.parse().ok()).collect();
        if !numbers.is_empty() {
            groups.insert(group, numbers);
        }
    }
    let seen: BTreeSet<u32> = stations::read(&[&agent]).await?.seen.into_iter().map(|(_, at)| at).collect();
    let (bridge_offset, offset_evidence) = offset(&ports, &seen);
    let supplies = switch.all_supplies().await?;
    let spanning_tree = spanning_tree(&agent).await?;
    Ok(Detected {
        description,
        preset,
        preset_evidence,
        groups,
        bridge_offset,
        offset_evidence,
        supplies,
        spanning_tree,
    })
}

/// The bridge ports of the switch behind `settings` at which its spanning tree holds traffic back after a link comes up, with their
/// state now.
///
/// # Errors
/// When the switch does not answer, or refuses.
pub async fn held_back(settings: &SnmpSettings) -> Result<BTreeMap<u32, &'static str>, PowerError> {
    spanning_tree(&Agent::new(settings)).await
}

fn preset(vendor: Option<u32>, standard_ports: usize) -> (SnmpPreset, String) {
    let Some(number) = vendor else {
        return (SnmpPreset::Standard, "the switch names no vendor".into());
    };
    let id = format!("its sysObjectID is below {ENTERPRISES}.{number}");
    match presets::by_vendor(number) {
        Some((preset, who)) => (preset, format!("{id}: {who}")),
        None => (
            SnmpPreset::Standard,
            format!("{id}, which is not known here; POWER-ETHERNET-MIB has {standard_ports} ports"),
        ),
    }
}

/// The offset by which most outlets that deliver power have a bridge port at which an address was seen.
fn offset(ports: &[PortView], seen: &BTreeSet<u32>) -> (i32, String) {
    let delivering = ports.iter().filter(|port| port.delivering == Some(true));
    let delivering: Vec<i64> = delivering.filter_map(|port| port.port.parse().ok()).collect();
    if delivering.is_empty() || seen.is_empty() {
        return (0, "guessed: no port delivers power, or the switch has seen no address".into());
    }
    let hits = |offset: i64| {
        delivering
            .iter()
            .filter(|port| u32::try_from(**port + offset).is_ok_and(|at| seen.contains(&at)))
            .count()
    };
    let best = (-OFFSET_MAX..=OFFSET_MAX).max_by_key(|offset| (hits(*offset), -offset.abs())).unwrap_or(0);
    let evidence = format!(
        "with it an address was seen at {} of the {} ports that deliver power, without at {}",
        hits(best),
        delivering.len(),
        hits(0)
    );
    (i32::try_from(best).unwrap_or(0), evidence)
}

async fn spanning_tree(agent: &Agent) -> Result<BTreeMap<u32, &'static str>, PowerError> {
    let mut columns = Vec::new();
    for root in [STP_STATE, STP_ENABLED, STP_EDGE] {
        let rows = agent.table(&oid(root)).await?.rows.into_iter();
        let rows = rows.filter_map(|(index, value)| Some((*index.first()?, integer(&value)?)));
        columns.push(rows.collect::<BTreeMap<u32, i32>>());
    }
    let [states, enabled, edge] = columns.try_into().expect("three were asked for");
    let costs =
        states.into_iter().filter(|(port, _)| enabled.get(port) == Some(&1) && edge.get(port) != Some(&1));
    Ok(costs
        .map(|(port, state)| {
            let state = match state {
                1 => "disabled",
                2 => "blocking",
                3 => "listening",
                4 => "learning",
                5 => "forwarding",
                _ => "broken",
            };
            (port, state)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivering(numbers: std::ops::RangeInclusive<u32>) -> Vec<PortView> {
        let port = |number: u32| PortView {
            port: number.to_string(),
            delivering: Some(true),
            ..PortView::default()
        };
        numbers.map(port).collect()
    }

    #[test]
    fn the_offset_is_what_fits_most_ports_and_none_when_nothing_tells() {
        let check = |seen: &[u32]| offset(&delivering(1..=4), &seen.iter().copied().collect()).0;
        assert_eq!(check(&[]), 0);
        assert_eq!(check(&[1, 2, 3, 4, 25]), 0);
        assert_eq!(check(&[49, 50, 51, 52]), 48);
        assert_eq!(check(&[2, 3, 4, 5, 30]), 1, "though three of four would fit without");
        assert_eq!(offset(&[], &[7].into()).0, 0);
    }

    #[test]
    fn a_vendor_is_known_by_its_number_and_others_are_said_to_be_unknown() {
        assert_eq!(preset(Some(11863), 0).0, SnmpPreset::TpLink);
        let (fallback, evidence) = preset(Some(4_000_000), 24);
        assert_eq!(fallback, SnmpPreset::Standard);
        assert!(evidence.contains("not known") && evidence.contains("24 ports"), "{evidence}");
        assert!(preset(Some(2636), 24).1.contains("can only be read"));
    }
}

//! Looks at a switch that is to be registered: its vendor, its groups and ports, how its table of addresses
//! counts ports, and what its spanning tree does to nodes that boot.

use super::client::Agent;
use super::stations::Sightings;
use super::{PowerError, SnmpSwitch, bridge, integer, oid, presets, stations};
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
/// dot1dStpPortState "disabled": also what a port without link shows.
const NO_LINK: i32 = 1;
/// dot1qVlanStaticRowStatus (RFC 4363); vtpVlanState (CISCO-VTP-MIB), domain 1.
const VLAN_STATUS: &str = "1.3.6.1.2.1.17.7.1.4.3.1.5";
const VTP_VLAN_STATE: &str = "1.3.6.1.4.1.9.9.46.1.3.1.1.2.1";
/// VLANs that Cisco keeps for token ring and FDDI.
const CISCOS_OWN: std::ops::RangeInclusive<u16> = 1002..=1005;
/// VLANs whose addresses are looked for at most.
const VLANS_MAX: usize = 64;
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
    /// What is added to an outlet's number to get its bridge port, by group; a group without a clear answer has none.
    pub bridge_offsets: BTreeMap<u32, i32>,
    /// Why so much.
    pub offset_evidence: String,
    /// VLANs whose addresses it shows only in a context of their own.
    pub vlans: Vec<u16>,
    /// Its power supplies; one that is listed more than once counts once.
    pub supplies: Vec<Supply>,
    /// The state of the spanning tree at bridge ports that take part in it and are no edge; none: it does not tell.
    pub spanning_tree: Option<BTreeMap<u32, &'static str>>,
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
    let plain = stations::read(&[&agent]).await?;
    let vlans = vlans(settings, &agent, &plain).await?;
    let in_vlans: Vec<Agent> = vlans.iter().map(|vlan| Agent::in_vlan(settings, *vlan)).collect();
    let contexts: Vec<&Agent> = std::iter::once(&agent).chain(&in_vlans).collect();
    let seen = stations::read(&contexts).await?.seen.into_iter().map(|(_, at)| at).collect();
    let (bridge_offsets, offset_evidence) = offsets(&groups, &bridge::names(&contexts).await?, &ports, &seen);
    let supplies = once(switch.all_supplies().await?);
    let spanning_tree = spanning_tree(&agent).await?;
    Ok(Detected {
        description,
        preset,
        preset_evidence,
        groups,
        bridge_offsets,
        offset_evidence,
        vlans,
        supplies,
        spanning_tree,
    })
}

/// The bridge ports of the switch behind `settings` at which its spanning tree holds traffic back after a link comes up, with their
/// state now; none: the switch does not tell. A port without link is none of them: nobody boots there.
///
/// # Errors
/// When the switch does not answer, or refuses.
pub async fn held_back(settings: &SnmpSettings) -> Result<Option<BTreeMap<u32, &'static str>>, PowerError> {
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

/// VLANs in which the switch shows addresses that it does not show otherwise.
async fn vlans(settings: &SnmpSettings, agent: &Agent, plain: &Sightings) -> Result<Vec<u16>, PowerError> {
    // Where there is a table by VLAN, it has all of them.
    if agent.first_after(&oid(stations::BY_VLAN), &oid(stations::BY_VLAN)).await?.is_some() {
        return Ok(vec![]);
    }
    let mut candidates = BTreeSet::new();
    for root in [VLAN_STATUS, VTP_VLAN_STATE] {
        let rows = agent.table(&oid(root)).await?.rows.into_iter();
        let numbers = rows.filter_map(|(index, _)| u16::try_from(*index.last()?).ok());
        candidates.extend(numbers.filter(|vlan| (2..=4094).contains(vlan) && !CISCOS_OWN.contains(vlan)));
    }
    let mut found = Vec::new();
    for vlan in candidates.into_iter().take(VLANS_MAX) {
        match stations::read(&[&Agent::in_vlan(settings, vlan)]).await {
            Ok(there) if there.seen.iter().any(|seen| !plain.seen.contains(seen)) => found.push(vlan),
            Ok(_) | Err(PowerError::Refused(_)) => {}
            // It does not know such communities, and would be waited for each time.
            Err(PowerError::Unreachable(_)) => break,
        }
    }
    Ok(found)
}

/// Each supply once, however often it is listed (every member of a stack may list all).
fn once(supplies: Vec<Supply>) -> Vec<Supply> {
    let mut pools: Vec<Supply> = Vec::new();
    supplies.into_iter().for_each(|supply| {
        if !pools.contains(&supply) {
            pools.push(supply);
        }
    });
    pools
}

/// How each group counts its bridge ports: by the switch's own tables where its addresses are counted as they are, else
/// by where power flows and addresses were seen.
fn offsets(
    groups: &BTreeMap<u32, Vec<u32>>,
    names: &BTreeMap<u32, String>,
    ports: &[PortView],
    seen: &BTreeSet<u32>,
) -> (BTreeMap<u32, i32>, String) {
    if seen.is_empty() || seen.iter().any(|at| names.contains_key(at)) {
        let is_stack = groups.len() > 1;
        let by_names = |(group, outlets): (&u32, &Vec<u32>)| {
            Some((*group, bridge::offset(*group, outlets, is_stack, names)?))
        };
        let found: BTreeMap<u32, (i32, usize)> = groups.iter().filter_map(by_names).collect();
        let told =
            found.iter().map(|(group, (offset, hits))| format!("group {group}: {offset} ({hits} ports)"));
        let told: Vec<String> = told.collect();
        if !told.is_empty() {
            let evidence = format!("by dot1dBasePortIfIndex and ifName, {}", told.join(", "));
            return (found.into_iter().map(|(group, (offset, _))| (group, offset)).collect(), evidence);
        }
    }
    let only = groups.keys().next().filter(|_| groups.len() == 1);
    match (only, vote(ports, seen)) {
        (Some(group), Some((offset, evidence))) => ([(*group, offset)].into(), evidence),
        _ => {
            let why =
                "neither the names of its interfaces nor its addresses say how bridge ports are counted";
            (BTreeMap::new(), why.into())
        }
    }
}

/// The one offset by which most outlets that deliver power have a bridge port at which an address was seen; none when
/// several do so, or it explains less than half of them.
fn vote(ports: &[PortView], seen: &BTreeSet<u32>) -> Option<(i32, String)> {
    let delivering = ports.iter().filter(|port| port.delivering == Some(true));
    let delivering: Vec<i64> = delivering.filter_map(|port| port.port.parse().ok()).collect();
    let hits = |offset: i64| {
        delivering
            .iter()
            .filter(|port| u32::try_from(**port + offset).is_ok_and(|at| seen.contains(&at)))
            .count()
    };
    let best = (-OFFSET_MAX..=OFFSET_MAX).max_by_key(|offset| (hits(*offset), -offset.abs()))?;
    let most = hits(best);
    let is_one = (-OFFSET_MAX..=OFFSET_MAX).filter(|offset| hits(*offset) == most).count() == 1;
    if !is_one || 2 * most <= delivering.len() {
        return None;
    }
    let evidence = format!(
        "{best}: with it an address was seen at {most} of the {} ports that deliver power, without at {}",
        delivering.len(),
        hits(0)
    );
    Some((i32::try_from(best).ok()?, evidence))
}

async fn spanning_tree(agent: &Agent) -> Result<Option<BTreeMap<u32, &'static str>>, PowerError> {
    let mut columns = Vec::new();
    for root in [STP_STATE, STP_ENABLED, STP_EDGE] {
        let rows = agent.table(&oid(root)).await?.rows.into_iter();
        let rows = rows.filter_map(|(index, value)| Some((*index.first()?, integer(&value)?)));
        columns.push(rows.collect::<BTreeMap<u32, i32>>());
    }
    let [states, enabled, edge] = columns.try_into().expect("three were asked for");
    // Without states nothing is known; without the column of edges, whether they are held back.
    if states.is_empty() || edge.is_empty() && enabled.values().any(|enabled| *enabled == 1) {
        return Ok(None);
    }
    let costs = states.into_iter().filter(|(port, state)| {
        *state != NO_LINK && enabled.get(port) == Some(&1) && edge.get(port) != Some(&1)
    });
    let costs = costs
        .map(|(port, state)| {
            let state = match state {
                2 => "blocking",
                3 => "listening",
                4 => "learning",
                5 => "forwarding",
                _ => "broken",
            };
            (port, state)
        })
        .collect();
    Ok(Some(costs))
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
        let check = |seen: &[u32]| {
            vote(&delivering(1..=4), &seen.iter().copied().collect()).map(|(offset, _)| offset)
        };
        assert_eq!(check(&[]), None);
        assert_eq!(check(&[1, 2, 3, 4, 25]), Some(0));
        assert_eq!(check(&[49, 50, 51, 52]), Some(48));
        assert_eq!(check(&[2, 3, 4, 5, 30]), Some(1), "though three of four would fit without");
        assert_eq!(check(&[25]), None, "any of the four may be at the uplink");
        assert_eq!(vote(&[], &[7].into()), None);
    }

    #[test]
    fn names_are_believed_before_addresses_and_not_where_addresses_are_counted_otherwise() {
        let groups = BTreeMap::from([(1, (1..=4).collect::<Vec<u32>>())]);
        let names: BTreeMap<u32, String> = (1..=4).map(|port| (port + 48, format!("ge1/0/{port}"))).collect();
        let check = |seen: &[u32]| {
            offsets(&groups, &names, &delivering(1..=4), &seen.iter().copied().collect()).0.get(&1).copied()
        };
        assert_eq!(check(&[49, 60]), Some(48));
        assert_eq!(check(&[1, 2, 3, 4]), Some(0), "its table of addresses counts from 1");
        assert_eq!(check(&[30]), None);
        let stack = BTreeMap::from([(1, vec![1, 2, 3, 4]), (2, vec![1, 2, 3, 4])]);
        let nothing = offsets(&stack, &BTreeMap::new(), &delivering(1..=4), &[1, 2, 3, 4].into());
        assert_eq!(nothing.0, BTreeMap::new(), "no vote over members");
    }

    #[test]
    fn a_supply_that_every_member_lists_counts_once() {
        let supply = |nominal_watts, used| Supply { nominal_watts, used_milliwatts: used };
        let listed = vec![supply(2425, 90), supply(4090, 10), supply(2425, 90), supply(4090, 10)];
        assert_eq!(once(listed), [supply(2425, 90), supply(4090, 10)]);
        assert_eq!(once(vec![supply(740, 9), supply(740, 19)]).len(), 2);
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

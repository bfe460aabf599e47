//! Which bridge port an outlet has, by the switch's own tables: dot1dBasePortIfIndex (RFC 4188) leads from a bridge port
//! to its interface, ifName (RFC 2863) says which member and port of a stack that is. Nothing is guessed here.

use super::super::PowerError;
use super::client::Agent;
use super::{integer, oid};
use async_snmp::Value;
use std::collections::BTreeMap;

/// dot1dBasePortIfIndex.
const BASE_PORT_IF_INDEX: &str = "1.3.6.1.2.1.17.1.4.1.2";
/// ifName.
const IF_NAME: &str = "1.3.6.1.2.1.31.1.1.1.1";
/// How names of interfaces begin that are no sockets.
const NO_SOCKETS: [&str; 12] =
    ["po", "trk", "lag", "ae", "vl", "lo", "tu", "bridge", "mgmt", "oob", "irb", "stack"];

/// The interfaces' names by bridge port, in all contexts (VLANs) together.
pub(super) async fn names(agents: &[&Agent]) -> Result<BTreeMap<u32, String>, PowerError> {
    let mut interfaces = BTreeMap::new();
    for agent in agents {
        let rows = agent.table(&oid(BASE_PORT_IF_INDEX)).await?.rows;
        let pair = |(index, value): (Vec<u32>, Value)| Some((*index.first()?, integer(&value)?));
        interfaces.extend(rows.into_iter().filter_map(pair));
    }
    if interfaces.is_empty() {
        return Ok(BTreeMap::new());
    }
    let Some(agent) = agents.first() else { return Ok(BTreeMap::new()) };
    let rows = agent.table(&oid(IF_NAME)).await?.rows.into_iter();
    let pair = |(index, value): (Vec<u32>, Value)| {
        let index = i32::try_from(*index.first()?).ok()?;
        Some((index, value.as_str()?.trim().to_owned()))
    };
    let names: BTreeMap<i32, String> = rows.filter_map(pair).collect();
    let named = interfaces.into_iter().filter_map(|(port, index)| Some((port, names.get(&index)?.clone())));
    Ok(named.collect())
}

/// The member of a stack, where the name has one, and the number of the port: `Gi3/0/17` is port 17 of member 3, `gi17`
/// port 17.
fn place(name: &str) -> Option<(Option<u32>, u32)> {
    let lower = name.to_ascii_lowercase();
    if NO_SOCKETS.iter().any(|word| lower.starts_with(word)) {
        return None;
    }
    let numbers = lower.split(|letter: char| !letter.is_ascii_digit()).filter(|part| !part.is_empty());
    let numbers: Vec<u32> = numbers.filter_map(|part| part.parse().ok()).collect();
    match numbers[..] {
        [] => None,
        [port] => Some((None, port)),
        [member, .., port] => Some((Some(member), port)),
    }
}

/// What is added to the number of an outlet of `group` to get its bridge port, and at how many outlets the names say so;
/// none when they say nothing, or different things.
///
/// Vendors number outlets either as the member's ports are named (1 to 48 in each) or as its bridge ports are.
pub(super) fn offset(
    group: u32,
    outlets: &[u32],
    is_stack: bool,
    names: &BTreeMap<u32, String>,
) -> Option<(i32, usize)> {
    let mut votes: BTreeMap<i64, usize> = BTreeMap::new();
    for (bridge_port, name) in names {
        let Some((member, port)) = place(name) else { continue };
        if is_stack && member.is_some_and(|member| member != group) {
            continue;
        }
        let as_named = outlets.contains(&port).then(|| i64::from(*bridge_port) - i64::from(port));
        let as_bridged = outlets.contains(bridge_port).then_some(0);
        let mut offsets: Vec<i64> = as_named.into_iter().chain(as_bridged).collect();
        offsets.dedup();
        offsets.into_iter().for_each(|offset| *votes.entry(offset).or_default() += 1);
    }
    if votes.is_empty() && is_stack && outlets.contains(&1) {
        // Outlets from 1 on are numbered as the member's ports are named, also where only others are bridged now.
        let places = names.iter().filter_map(|(bridge_port, name)| Some((*bridge_port, place(name)?)));
        for (bridge_port, (_, port)) in places.filter(|(_, (member, _))| *member == Some(group)) {
            *votes.entry(i64::from(bridge_port) - i64::from(port)).or_default() += 1;
        }
    }
    let (offset, hits) = votes.iter().max_by_key(|(_, hits)| **hits)?;
    let others = votes.iter().filter(|(other, _)| *other != offset).map(|(_, hits)| *hits).max().unwrap_or(0);
    // Uplinks of another speed are counted from 1 once more; they are few.
    (*hits > 2 * others).then_some(())?;
    Some((i32::try_from(*offset).ok()?, *hits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(rows: impl IntoIterator<Item = (u32, String)>) -> BTreeMap<u32, String> {
        rows.into_iter().collect()
    }

    fn outlets(range: std::ops::RangeInclusive<u32>) -> Vec<u32> {
        range.collect()
    }

    #[test]
    fn members_whose_outlets_are_named_by_their_ports_have_an_offset_each() {
        // Bridge ports are 56 * (member - 1) + port, and of each member only a few are bridged in this VLAN.
        let few = [(3, "Gi1/0/3"), (47, "Gi1/0/47"), (81, "Gi2/0/25"), (115, "Gi3/0/3"), (300, "Po1")];
        let few = names(few.map(|(port, name)| (port, name.to_owned())));
        for (group, expected) in [(1, 0), (2, 56), (3, 112)] {
            assert_eq!(offset(group, &outlets(1..=48), true, &few).map(|found| found.0), Some(expected));
        }
        let without_it = offset(2, &outlets(1..=24), true, &few);
        assert_eq!(without_it, Some((56, 1)), "though port 25 has no power of its own");
        assert_eq!(offset(4, &outlets(1..=48), true, &few), None, "nothing is known of it");
    }

    #[test]
    fn members_whose_outlets_count_on_are_their_bridge_ports() {
        let member = |number: u32, first: u32| {
            let slow = (1..=24).map(move |port| (first + port - 1, format!("gi{number}/0/{port}")));
            slow.chain((1..=4).map(move |port| (first + 23 + port, format!("te{number}/0/{port}"))))
        };
        let rows = names(member(1, 1).chain(member(2, 53)));
        assert_eq!(offset(1, &outlets(1..=24), true, &rows), Some((0, 24)));
        assert_eq!(offset(2, &outlets(53..=76), true, &rows), Some((0, 24)));
    }

    #[test]
    fn a_single_switch_is_recognised_by_either_number() {
        let rows = names((49..=66).map(|port| (port, format!("gi{}", port - 48))));
        assert_eq!(offset(1, &outlets(49..=66), false, &rows), Some((0, 18)));
        assert_eq!(offset(1, &outlets(1..=16), false, &rows), Some((48, 16)));
    }

    #[test]
    fn without_a_clear_answer_there_is_none() {
        assert_eq!(offset(1, &outlets(1..=8), false, &BTreeMap::new()), None);
        let trunks = names((1..=8).map(|port| (port + 100, format!("Trk{port}"))));
        assert_eq!(offset(1, &outlets(1..=8), false, &trunks), None);
        let both = names((1..=8).map(|port| (port, format!("ge{}", port + 4))));
        assert_eq!(offset(1, &outlets(1..=12), false, &both), None, "two answers of eight hits each");
    }
}

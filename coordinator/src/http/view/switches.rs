//! Switches and their ports as the JSON of the API.

use crate::api::{DetectedView, Inventory, SupplyView, SwitchEntry, SwitchPortView, SwitchView};
use crate::domain::driver::{Driver, GroupOffset, SnmpSettings};
use crate::domain::switch::Switch;
use crate::power::{Detected, PortView, Supply};

pub(in super::super) fn switch(switch: &Switch, nodes: usize, reads_back: bool) -> SwitchView {
    let attributes = &switch.attributes;
    SwitchView {
        name: attributes.name.clone(),
        driver: attributes.driver.name().into(),
        nodes,
        off_time_ms: u64::try_from(attributes.off_time.as_millis()).unwrap_or(u64::MAX),
        protected_ports: attributes.protected.clone(),
        budget_watts: attributes.budget_watts,
        reads_back,
    }
}

/// A port as its switch shows it; what is known of it otherwise is added by the caller.
pub(in super::super) fn port(port: PortView) -> SwitchPortView {
    SwitchPortView {
        port: port.port,
        on: port.on,
        delivering: port.delivering,
        detection: port.detection,
        class: port.class,
        milliwatts: port.milliwatts,
        protected: false,
        macs: vec![],
        node: None,
        error: None,
    }
}

pub(in super::super) fn supply(supply: Supply) -> SupplyView {
    SupplyView { nominal_watts: supply.nominal_watts, used_milliwatts: supply.used_milliwatts }
}

/// What was found, and the entry that registers it.
pub(in super::super) fn detected(asked: &SnmpSettings, found: Detected) -> DetectedView {
    let mut warnings = Vec::new();
    if found.groups.is_empty() {
        warnings
            .push("no port can be switched by what is known of it here: see `objects` of the driver".into());
    }
    if found.preset_evidence.contains("can only be read") {
        warnings.push(found.preset_evidence.clone());
    }
    let spanning_tree = found.spanning_tree.unwrap_or_else(|| {
        warnings.push("it does not tell whether its spanning tree holds booting nodes back".into());
        Default::default()
    });
    if !spanning_tree.is_empty() {
        let ports: Vec<String> =
            spanning_tree.iter().map(|(port, state)| format!("{port} ({state})")).collect();
        warnings.push(format!(
            "spanning tree without edge mode at bridge ports {}: a booting node is cut off for up to 30 s each time, \
             and gives up; make the nodes' ports edge ports",
            ports.join(", ")
        ));
    }
    let group = if found.groups.contains_key(&asked.group) {
        asked.group
    } else {
        found.groups.keys().next().copied().unwrap_or(asked.group)
    };
    let unclear: Vec<String> = found
        .groups
        .keys()
        .filter(|group| !found.bridge_offsets.contains_key(group))
        .map(u32::to_string)
        .collect();
    if !unclear.is_empty() {
        warnings.push(format!(
            "which bridge ports the outlets of group {} have is not clear, and `bridge_offset` is not found: {}; \
             compare `switch show` with the cables",
            unclear.join(" and "),
            found.offset_evidence
        ));
    }
    let others = found.bridge_offsets.iter().filter(|(other, _)| **other != group);
    let others = others.map(|(group, offset)| GroupOffset { group: *group, offset: *offset }).collect();
    let settings = SnmpSettings {
        preset: found.preset,
        group,
        bridge_offset: found.bridge_offsets.get(&group).copied().unwrap_or(0),
        bridge_offsets: others,
        vlans: found.vlans.clone(),
        objects: None,
        ..asked.clone()
    };
    let supplies = found.supplies.iter().map(|supply| supply.nominal_watts);
    let budget_watts = if found.groups.len().max(1) > 1 { supplies.min() } else { Some(supplies.sum()) };
    let budget_watts = budget_watts.filter(|watts| *watts > 0);
    if let (Some(watts), true) = (budget_watts, found.supplies.len() > 1 && found.groups.len() > 1) {
        let each: Vec<String> =
            found.supplies.iter().map(|supply| format!("{} W", supply.nominal_watts)).collect();
        warnings.push(format!(
            "each member of a stack feeds its own ports ({}): the entry allows {watts} W in all, so that none is asked for more \
             than it has; raise it if you spread the nodes",
            each.join(", ")
        ));
    }
    let entry = SwitchEntry {
        name: "NAME".into(),
        driver: Driver::Snmp(settings),
        off_time_ms: None,
        protected_ports: vec![],
        budget_watts,
    };
    let entry = Inventory { switches: vec![entry], nodes: vec![] };
    DetectedView {
        description: found.description,
        preset: serde_json::to_value(found.preset)
            .ok()
            .and_then(|name| name.as_str().map(Into::into))
            .unwrap_or_default(),
        preset_evidence: found.preset_evidence,
        groups: found.groups,
        bridge_offsets: found.bridge_offsets,
        vlans: found.vlans,
        offset_evidence: found.offset_evidence,
        budget_watts,
        warnings,
        entry: toml::to_string(&entry).unwrap_or_default(),
    }
}

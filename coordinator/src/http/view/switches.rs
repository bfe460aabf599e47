//! Switches and their ports as the JSON of the API.

use crate::api::{DetectedView, Inventory, SupplyView, SwitchEntry, SwitchPortView, SwitchView};
use crate::domain::driver::{Driver, SnmpSettings};
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
    if !found.spanning_tree.is_empty() {
        let ports: Vec<String> =
            found.spanning_tree.iter().map(|(port, state)| format!("{port} ({state})")).collect();
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
    let settings = SnmpSettings {
        preset: found.preset,
        group,
        bridge_offset: found.bridge_offset,
        objects: None,
        ..asked.clone()
    };
    let budget_watts = found.supplies.iter().map(|supply| supply.nominal_watts).sum::<u32>();
    let budget_watts = (budget_watts > 0).then_some(budget_watts);
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
        bridge_offset: found.bridge_offset,
        offset_evidence: found.offset_evidence,
        budget_watts,
        warnings,
        entry: toml::to_string(&entry).unwrap_or_default(),
    }
}

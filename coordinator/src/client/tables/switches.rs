//! Switches and their ports as text for eyes.

use super::super::table::{Cell, Look, pairs, table};
use super::or_dash;
use crate::api::{DetectedView, SwitchDetails, SwitchPortView, SwitchView};
use crate::print::Screen;

/// All switches.
pub(in super::super) fn switches(switches: &[SwitchView], screen: Screen) -> String {
    let row = |switch: &SwitchView| {
        vec![
            switch.name.as_str().into(),
            switch.driver.as_str().into(),
            switch.nodes.to_string().into(),
            or_dash(switch.budget_watts.map(|watts| format!("{watts} W"))),
            or_dash(Some(switch.protected_ports.join(" ")).filter(|ports| !ports.is_empty())),
            if switch.reads_back { "yes".into() } else { Cell::looking("no, believed unseen", Look::Bad) },
        ]
    };
    let heading = ["SWITCH", "DRIVER", "NODES", "BUDGET", "PROTECTED", "READ BACK"];
    table(&heading, switches.iter().map(row).collect(), screen)
}

fn watts_of(milliwatts: u64) -> String {
    format!("{}.{} W", milliwatts / 1000, milliwatts % 1000 / 100)
}

fn on_off(on: bool) -> Cell {
    if on { Cell::looking("on", Look::Good) } else { "off".into() }
}

/// What the switch says of the device: its own words, or whether power flows.
fn detection(port: &SwitchPortView) -> Cell {
    let flows =
        port.delivering.map(|delivering| if delivering { "delivering" } else { "no power" }.to_owned());
    or_dash(port.error.clone().or(port.detection.clone()).or(flows))
}

/// A switch and its ports.
pub(in super::super) fn switch(details: &SwitchDetails, screen: Screen) -> String {
    let row = |port: &SwitchPortView| {
        let name = if port.protected { format!("{} (protected)", port.port) } else { port.port.clone() };
        vec![
            name.into(),
            port.on.map_or_else(|| "?".into(), on_off),
            detection(port),
            or_dash(port.class),
            or_dash(port.milliwatts.map(watts_of)),
            or_dash(port.node.clone()),
            or_dash(Some(port.macs.join(" ")).filter(|macs| !macs.is_empty())),
        ]
    };
    let heading = ["PORT", "ADMIN", "DETECTION", "CLASS", "WATTS", "NODE", "SEEN"];
    format!(
        "{}\n\n{}",
        about(details, screen),
        table(&heading, details.ports.iter().map(row).collect(), screen)
    )
}

fn about(details: &SwitchDetails, screen: Screen) -> String {
    let view = &details.switch;
    let supplies: Vec<String> = details
        .supplies
        .iter()
        .map(|supply| format!("{} of {} W", watts_of(supply.used_milliwatts), supply.nominal_watts))
        .collect();
    let mut lines = vec![("switch", view.name.as_str().into()), ("driver", view.driver.as_str().into())];
    if let Some(seconds) = details.uptime_seconds {
        let uptime = humantime::format_duration(std::time::Duration::from_secs(seconds));
        lines.push(("up for", uptime.to_string().into()));
    }
    if !supplies.is_empty() {
        lines.push(("delivers", supplies.join(", ").into()));
    }
    if let Some(watts) = view.budget_watts {
        lines.push(("budget", format!("{watts} W").into()));
    }
    if !view.reads_back {
        lines.push((
            "read back",
            Cell::looking("no: ports are believed to do what they were told", Look::Bad),
        ));
    }
    if let Some(gap) = &details.place_gap {
        let text = format!("not sure: {gap}");
        lines.push(("who is where", Cell::looking(text, Look::Bad)));
    }
    if let Some(recovery) = &details.recovery {
        lines.push(("recovery", recovery.as_str().into()));
    }
    pairs(lines, screen)
}

/// What the ports of a switch deliver.
pub(in super::super) fn watts(details: &SwitchDetails, screen: Screen) -> String {
    let drawing = details.ports.iter().filter_map(|port| Some((port, port.milliwatts?)));
    let rows: Vec<(&SwitchPortView, u64)> = drawing.filter(|(_, milliwatts)| *milliwatts > 0).collect();
    let total: u64 = rows.iter().map(|(_, milliwatts)| milliwatts).sum();
    if rows.is_empty() {
        return format!("{}\n\nno port tells what it delivers", about(details, screen));
    }
    let row = |(port, milliwatts): &(&SwitchPortView, u64)| {
        vec![port.port.as_str().into(), watts_of(*milliwatts).into(), or_dash(port.node.clone())]
    };
    let mut cells: Vec<Vec<Cell>> = rows.iter().map(row).collect();
    cells.push(vec![Cell::looking("all", Look::Heading), watts_of(total).into(), "".into()]);
    format!("{}\n\n{}", about(details, screen), table(&["PORT", "WATTS", "NODE"], cells, screen))
}

/// What a switch turned out to be, and how to register it.
pub(in super::super) fn detected(found: &DetectedView, screen: Screen) -> String {
    let groups: Vec<String> =
        found.groups.iter().map(|(group, ports)| format!("{group}: {}", ranges(ports))).collect();
    let mut lines = vec![
        ("switch", found.description.as_str().into()),
        ("preset", format!("{}: {}", found.preset, found.preset_evidence).into()),
        ("ports", groups.join("; ").into()),
        ("bridge offset", found.offset_evidence.as_str().into()),
    ];
    if !found.vlans.is_empty() {
        let vlans: Vec<String> = found.vlans.iter().map(u16::to_string).collect();
        lines.push(("asked in VLANs", vlans.join(", ").into()));
    }
    if let Some(watts) = found.budget_watts {
        lines.push(("can deliver", format!("{watts} W").into()));
    }
    lines
        .extend(found.warnings.iter().map(|warning| ("warning", Cell::looking(warning.as_str(), Look::Bad))));
    let advice = "register it by this entry with a name of yours and the ports to protect, by `piseduce node import FILE`:";
    format!("{}\n\n{advice}\n\n{}", pairs(lines, screen), found.entry.trim_end())
}

/// Numbers as ranges: `1-24, 49`.
fn ranges(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let text = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

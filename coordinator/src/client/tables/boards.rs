//! Boards as text for eyes: those that are not registered, what keeps others from coming back, what nobody can explain.

use super::super::table::{printable, table};
use super::super::time::local;
use super::or_dash;
use crate::api::{AlarmView, BootFileView, BootFilesView, DiscoveredView, FindingView, NodeCheckView};
use crate::print::Screen;

/// Boards that are not registered.
pub(in super::super) fn discovered(boards: &[DiscoveredView], screen: Screen) -> String {
    if boards.is_empty() {
        return "no board that is not registered has asked what to boot since the coordinator started".into();
    }
    let row = |board: &DiscoveredView| {
        vec![
            or_dash(board.mac.as_ref()),
            or_dash(serial(board)),
            or_dash(board.inventory.as_ref().map(|known| &known.model).or(board.model.as_ref())),
            or_dash(board.switch.as_ref()),
            or_dash(board.port.as_ref()),
            board.address.as_str().into(),
            local(board.last_unix_ms).into(),
            printable(&board.file).into(),
        ]
    };
    let heading = ["ADDRESS", "SERIAL", "MODEL (MAYBE A GUESS)", "SWITCH", "PORT", "IP", "LAST ASKED", "FOR"];
    table(&heading, boards.iter().map(row).collect(), screen)
}

/// Whole, once the board told it; else its end, as firmware shows it.
fn serial(board: &DiscoveredView) -> Option<String> {
    let whole = board.inventory.as_ref().map(|known| known.serial.to_string());
    whole.or_else(|| board.serial_end.as_ref().map(|end| format!("…{end}")))
}

/// What could keep nodes from coming back.
pub(in super::super) fn checked(checked: &[NodeCheckView]) -> String {
    checked.iter().map(checked_node).collect::<Vec<_>>().join("\n")
}

fn checked_node(view: &NodeCheckView) -> String {
    let NodeCheckView { node, findings, .. } = view;
    let Some(heard) = view.heard_unix_ms else {
        return format!(
            "{node}: not seen in the boot root yet; `piseduce node test {node} --wait` brings it there"
        );
    };
    let said = format!("by what its agent read at {}", local(heard));
    if findings.is_empty() {
        // A Pi 3 has no bootloader with settings; of others, boot roots read only newer ones.
        let read = if view.facts.is_empty() { "; it read no settings of a bootloader" } else { "" };
        return format!("{node}: nothing found, {said}{read}");
    }
    let line = |finding: &FindingView| {
        let FindingView { name, action, remedy, .. } = finding;
        format!("  {name} ({action}): {}\n    to mend it: {remedy}", printable(&finding.seen))
    };
    let lines: Vec<String> = findings.iter().map(line).collect();
    format!("{node}: {said}\n{}", lines.join("\n"))
}

/// What nobody can explain.
pub(in super::super) fn alarms(alarms: &[AlarmView], screen: Screen) -> String {
    if alarms.is_empty() {
        return "nothing that cannot be explained was seen since the coordinator started".into();
    }
    let row = |alarm: &AlarmView| {
        vec![
            alarm.name.as_str().into(),
            or_dash(alarm.switch.as_ref()),
            or_dash(alarm.port.as_ref()),
            or_dash(alarm.last_unix_ms.map(local)),
            or_dash(alarm.times.map(|times| times.to_string())),
            printable(&alarm.seen).into(),
        ]
    };
    let heading = ["ALARM", "SWITCH", "PORT", "LAST SEEN", "TIMES", "WHAT"];
    table(&heading, alarms.iter().map(row).collect(), screen)
}

/// What a node boots over the network instead of from its card.
pub(in super::super) fn boot_files(files: &BootFilesView, screen: Screen) -> String {
    let row = |file: &BootFileView| vec![printable(&file.name).into(), file.bytes.to_string().into()];
    let list = table(&["FILE", "BYTES"], files.files.iter().map(row).collect(), screen);
    format!("{}: boot files since {}, by {}\n{list}", files.node, local(files.since_unix_ms), files.by)
}

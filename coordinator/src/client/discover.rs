//! `piseduce node discover`: powers the ports of a switch one after the other, sees which board asks what to boot, and proposes how to
//! register it.

use super::connection::{Connection, level};
use super::error::ClientError;
use super::follow::{ASK_EVERY, pause};
use super::interrupt::until_interrupted;
use crate::api::{
    BoardView, CardView, DiscoveredView, ImportedView, Inventory, InvitedView, NodeEntry, NodeView,
    SwitchDetails, SwitchedView,
};
use crate::domain::guard;
use crate::print::{self, Output};
use clap::Args;
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::id::Serial;
use piseduce_protocol::model::Model;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{IsTerminal as _, stdin, stdout};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What `discover` takes.
#[derive(Clone, Debug, Args)]
pub struct DiscoverOptions {
    /// The switch's name
    #[arg(long, value_name = "NAME")]
    switch: String,
    /// Its ports in its own words; without one all that have no node and are not protected
    ports: Vec<String>,
    /// How long a board may take from power to its question
    #[arg(long, value_name = "TIME", default_value = "90s")]
    within: humantime::Duration,
    /// What nodes are called; {port} is the port, with `-` for what no name may have
    #[arg(long, value_name = "TEXT", default_value = "pi-{port}")]
    name: String,
    /// The address of the first; the next ones follow, known ones are left out
    #[arg(long, value_name = "ADDRESS")]
    first_ip: Option<Ipv4Addr>,
    /// How long a board may take from power to its inventory in the boot root
    #[arg(long, value_name = "TIME", default_value = "3m")]
    inventory_within: humantime::Duration,
    /// Ask firmware only: boot no board into the boot root
    #[arg(long)]
    firmware_only: bool,
    /// Register what is complete, without asking; on a terminal you are asked
    #[arg(long)]
    import: bool,
}

/// What a port showed.
#[derive(Clone, Debug, Serialize)]
struct Found {
    port: String,
    /// Whether something there draws power.
    is_powered: bool,
    /// Who asked there; none: nobody did.
    board: Option<DiscoveredView>,
    /// How to register it; none: its serial number is not known whole.
    entry: Option<NodeEntry>,
}

/// How far it is, for when it is cut short: what was found is told, and what is powered is switched off again.
#[derive(Default)]
struct SoFar {
    powered: Option<String>,
    found: Vec<Found>,
}

type Shared = Arc<Mutex<SoFar>>;

fn lock(so_far: &Shared) -> MutexGuard<'_, SoFar> {
    so_far.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn discover(
    connection: &Connection,
    output: Output,
    options: &DiscoverOptions,
) -> Result<(), ClientError> {
    let so_far = Shared::default();
    let work = {
        let (connection, options, so_far) = (connection.clone(), options.clone(), so_far.clone());
        move || look(&connection, output, &options, &so_far)
    };
    let ended = until_interrupted(vec![], work);
    let SoFar { powered, found } = std::mem::take(&mut *lock(&so_far));
    let switched_off = powered.map_or(Ok(()), |port| order(connection, &options.switch, &port, "off"));
    if ended.is_ok() || !found.is_empty() {
        output.tell("found", &found, |found| proposal(options, found));
    }
    ended.and(switched_off)?;
    let nodes: Vec<NodeEntry> = found.into_iter().filter_map(|found| found.entry).collect();
    if options.import || is_confirmed(output, nodes.len())? {
        let inventory = Inventory { switches: vec![], nodes };
        let imported: ImportedView = connection.post("nodes/import", &inventory)?;
        output.tell("imported", &imported, |imported| format!("# registered: {} nodes", imported.added));
    }
    Ok(())
}

/// Whether the person at the terminal wants what is proposed; nobody is asked who does not see it there.
fn is_confirmed(output: Output, count: usize) -> Result<bool, ClientError> {
    let is_seen = stdin().is_terminal() && stdout().is_terminal();
    if output == Output::Json || count == 0 || !is_seen {
        return Ok(false);
    }
    print::aside(format_args!("register these {count} nodes as proposed? y or n"));
    until_interrupted(vec![], || {
        let mut line = String::new();
        stdin().read_line(&mut line).map_err(ClientError::Waiting)?;
        Ok(matches!(line.trim(), "y" | "yes"))
    })
}

/// One port after the other.
fn look(
    connection: &Connection,
    output: Output,
    options: &DiscoverOptions,
    so_far: &Shared,
) -> Result<(), ClientError> {
    let details: SwitchDetails = connection.get(&format!("switches/{}", level(&options.switch)))?;
    let nodes: Vec<NodeView> = connection.get("nodes")?;
    let free = details.ports.iter().filter(|port| port.node.is_none() && !port.protected);
    let ports = match options.ports.as_slice() {
        [] => free.map(|port| port.port.clone()).collect(),
        ports => ports.to_vec(),
    };
    let mut taken: BTreeSet<Ipv4Addr> = nodes.iter().filter_map(|node| node.ip).collect();
    for port in ports {
        if output == Output::Text {
            print::aside(format_args!("port {port}: power, and up to {} for a question …", options.within));
        }
        let before: Vec<DiscoveredView> = connection.get("discovered")?;
        lock(so_far).powered = Some(port.clone());
        let is_powered = match order(connection, &options.switch, &port, "cycle") {
            Ok(()) => true,
            Err(ClientError::Refused(body)) if body.code == CauseKind::PortNotDelivering.name() => false,
            Err(error) => return Err(error),
        };
        let board = if is_powered { wait(connection, options, &port, &before)? } else { None };
        let board = match board {
            Some(board) if !options.firmware_only => {
                Some(take_stock(connection, output, options, &port, board)?)
            }
            other => other,
        };
        order(connection, &options.switch, &port, "off")?;
        lock(so_far).powered = None;
        let ip = board.as_ref().and(options.first_ip).map(|first| next(first, &mut taken));
        let entry = board.as_ref().and_then(|board| entry(options, &port, board, ip));
        lock(so_far).found.push(Found { port, is_powered, board, entry });
    }
    Ok(())
}

fn order(connection: &Connection, switch: &str, port: &str, wish: &str) -> Result<(), ClientError> {
    let path = format!("switches/{}/ports/{}/{wish}", level(switch), level(port));
    connection.post::<SwitchedView>(&path, &()).map(drop)
}

/// Who asks for the first time since the port was powered, or anew. Firmware asks for more with each question: one that shows its serial
/// number is waited for.
fn wait(
    connection: &Connection,
    options: &DiscoverOptions,
    port: &str,
    before: &[DiscoveredView],
) -> Result<Option<DiscoveredView>, ClientError> {
    let mut seen = None;
    for _ in 0..=options.within.as_millis() / ASK_EVERY.as_millis() {
        pause();
        let now: Vec<DiscoveredView> = connection.get("discovered")?;
        seen = now.into_iter().find(|board| is_there(board, options, port) && is_new(board, before)).or(seen);
        if seen.as_ref().is_some_and(|board| board.serial_end.is_some()) {
            break;
        }
    }
    Ok(seen)
}

/// Boots the board once more, into the boot root, where its agent sees more than its firmware tells.
fn take_stock(
    connection: &Connection,
    output: Output,
    options: &DiscoverOptions,
    port: &str,
    board: DiscoveredView,
) -> Result<DiscoveredView, ClientError> {
    let tell = |line: String| {
        if output == Output::Text {
            print::aside(line);
        }
    };
    let Some(mac) = board.mac.clone() else { return Ok(board) };
    match connection.post::<InvitedView>(&format!("discovered/{}/invite", level(&mac)), &()) {
        Ok(_) => {}
        Err(ClientError::Refused(body)) => {
            tell(format!("port {port}: only what firmware tells: {}", body.message));
            return Ok(board);
        }
        Err(error) => return Err(error),
    }
    tell(format!("port {port}: once more, into the boot root, for up to {}", options.inventory_within));
    order(connection, &options.switch, port, "cycle")?;
    for _ in 0..=options.inventory_within.as_millis() / ASK_EVERY.as_millis() {
        pause();
        let now: Vec<DiscoveredView> = connection.get("discovered")?;
        let its = now.into_iter().find(|seen| seen.mac.as_ref() == Some(&mac) && seen.inventory.is_some());
        if let Some(board) = its {
            return Ok(board);
        }
    }
    tell(format!(
        "port {port}: nothing was heard from the boot root: does it know this board? its console says more"
    ));
    Ok(board)
}

/// A switch that does not tell where a board is leaves only that it is new.
fn is_there(board: &DiscoveredView, options: &DiscoverOptions, port: &str) -> bool {
    match (&board.switch, &board.port) {
        (Some(switch), Some(seen)) => *switch == options.switch && seen == port,
        _ => true,
    }
}

fn is_new(board: &DiscoveredView, before: &[DiscoveredView]) -> bool {
    let same = before.iter().find(|old| old.mac == board.mac && old.serial_end == board.serial_end);
    same.is_none_or(|old| old.questions < board.questions)
}

/// The first address from `first` on that nobody has.
fn next(first: Ipv4Addr, taken: &mut BTreeSet<Ipv4Addr>) -> Ipv4Addr {
    let mut address = first;
    while !taken.insert(address) {
        address = Ipv4Addr::from(u32::from(address).wrapping_add(1));
    }
    address
}

/// How to register a board, if that can be told.
fn entry(
    options: &DiscoverOptions,
    port: &str,
    board: &DiscoveredView,
    ip: Option<Ipv4Addr>,
) -> Option<NodeEntry> {
    let (serial, model) = match &board.inventory {
        Some(inventory) => (inventory.serial, inventory.model.clone()),
        None => {
            let model = board.model.as_deref()?;
            (serial(model, board.serial_end.as_deref()?)?, registered_model(model).into())
        }
    };
    Some(NodeEntry {
        name: name(&options.name, port),
        serial,
        mac: board.mac.clone()?,
        model,
        switch: options.switch.clone(),
        port: port.into(),
        watts: None,
        ip,
        console: None,
        labels: vec![],
    })
}

fn name(pattern: &str, port: &str) -> String {
    let port = port.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    pattern.replace("{port}", port.trim_matches('-'))
}

/// Firmware shows the last 8 digits. Before them a Pi 4 has `10000000` and a Pi 3 zeros; a Pi 5 has any.
fn serial(model: &str, end: &str) -> Option<Serial> {
    let begin = match model {
        _ if model.contains("Pi 4") => "10000000",
        _ if model.contains("Pi 3") => "00000000",
        _ => return None,
    };
    format!("{begin}{end}").parse().ok()
}

/// What stands for a guess in the inventory.
fn registered_model(guess: &str) -> &'static str {
    match guess {
        _ if guess.contains("Pi 5") => "Raspberry Pi 5",
        _ if guess.contains("Pi 4") => "Raspberry Pi 4",
        _ if guess.contains("Pi 3") => "Raspberry Pi 3",
        _ => Model::Other.name(),
    }
}

/// An inventory, with what is missing as comments.
fn proposal(options: &DiscoverOptions, found: &[Found]) -> String {
    let mut text = String::new();
    for Found { port, is_powered, board, entry } in found {
        text += &match (board, entry) {
            (board, Some(entry)) => {
                let inventory = board.as_ref().and_then(|board| board.inventory.as_ref());
                inventory.map(stock).unwrap_or_default() + &registered(entry)
            }
            (Some(board), None) => incomplete(options, port, board),
            (None, None) if !is_powered => format!("# port {port}: nothing draws power there\n"),
            (None, None) => format!(
                "# port {port}: powered, and nothing asked: it does not boot from the network, or there is no address for it (`range`)\n"
            ),
        };
    }
    text.trim_end().into()
}

/// What its agent saw, as comments, and what must be changed before it can be relied on.
fn stock(board: &BoardView) -> String {
    let card = match &board.card {
        Some(CardView { bytes, cid }) => {
            let cid = cid.as_ref().map(|cid| format!(" (CID {cid})")).unwrap_or_default();
            format!("card of {} MB{cid}", bytes / 1_000_000)
        }
        None => "no card".into(),
    };
    let mut text = format!("# {} MB of memory, {card}\n", board.memory_bytes / 1_000_000);
    for finding in guard::examine(&board.model, &board.facts) {
        let remedy = guard::guard(finding.kind).map_or("", |guard| guard.remedy);
        text += &format!("# {}: {}: {remedy}\n", finding.kind.name(), finding.seen);
    }
    text
}

fn registered(entry: &NodeEntry) -> String {
    let NodeEntry { name, serial, mac, model, switch, port, .. } = entry;
    let ip = entry.ip.map(|ip| format!("ip = \"{ip}\"\n")).unwrap_or_default();
    format!(
        "[[node]]\nname = \"{name}\"\nserial = \"{serial}\"\nmac = \"{mac}\"\nmodel = \"{model}\"\nswitch = \"{switch}\"\nport = \"{port}\"\n{ip}\n"
    )
}

fn incomplete(options: &DiscoverOptions, port: &str, board: &DiscoveredView) -> String {
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    format!(
        "# port {port}: {}, mac {}, serial number ending in {}: fill in its serial number, which a label or its system tells\n\
         # [[node]]\n# name = \"{}\"\n# serial = \"\"\n# mac = \"{}\"\n# model = \"{}\"\n# switch = \"{}\"\n# port = \"{port}\"\n\n",
        or(&board.model),
        or(&board.mac),
        or(&board.serial_end),
        name(&options.name, port),
        or(&board.mac),
        registered_model(&or(&board.model)),
        options.switch,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_serial_numbers_are_made_of_what_is_known() {
        assert_eq!(name("pi-{port}", "2/7"), "pi-2-7");
        assert_eq!(name("row-{port}-b", "Gi1/0/3"), "row-gi1-0-3-b");
        assert_eq!(serial("Pi 4, Pi 400 or CM4", "c0ffee12").unwrap().to_string(), "10000000c0ffee12");
        assert_eq!(serial("Pi 3 or older", "00c0ffee").unwrap().to_string(), "0000000000c0ffee");
        assert_eq!(serial("Pi 5 or CM5", "c0ffee12"), None, "any 8 digits may come before");
        let mut taken = [Ipv4Addr::new(10, 0, 0, 12)].into();
        let first = Ipv4Addr::new(10, 0, 0, 11);
        let given: Vec<u8> = (0..3).map(|_| next(first, &mut taken).octets()[3]).collect();
        assert_eq!(given, [11, 13, 14]);
    }
}

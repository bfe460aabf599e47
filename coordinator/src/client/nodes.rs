//! `piseduce node` and `piseduce reserve`.

use super::commands::Nodes;
use super::connection::{Connection, level};
use super::deploy::Ended;
use super::discover::{DiscoverOptions, discover};
use super::error::ClientError;
use super::lifecycle::{self, LifecycleCommand};
use super::qualify::QualifyOptions;
use super::tables;
use super::time::local;
use crate::api::{
    AlarmView, BootFilesView, DiscoveredView, ImportCountView, ImportedView, Inventory, NodeCheckView,
    NodeView, ReservationView, ReserveRequest,
};
use crate::print::{Output, Screen};
use clap::Subcommand;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `piseduce node`.
#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// Add or change switches and nodes from a TOML file
    Import {
        /// File with [[switch]] and [[node]] entries
        file: PathBuf,
    },
    /// Print switches and nodes as they are registered, in the format that `import` reads
    Export,
    /// All nodes, who has them, and what they wait for
    List,
    /// One node
    Show {
        /// Its name
        node: String,
    },
    /// What could keep nodes from coming back, by what their agents last read of their bootloaders
    Check {
        /// Nodes by name, or @LABEL; all without one
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Boards that ask what to boot and are not registered
    Discovered,
    /// Power the ports of a switch one after the other, see which board asks there, and propose how to register it
    Discover(DiscoverOptions),
    /// What a Pi 3 boots its card with over the network; renew it after the node's kernel was upgraded
    BootFiles {
        /// The node's name
        node: String,
        /// A tar archive of the boot partition, `-` for standard input, such as
        /// `ssh pi-3 tar -C /boot/firmware -c . | piseduce node boot-files pi-3 --renew -`
        #[arg(long, value_name = "FILE")]
        renew: Option<PathBuf>,
    },
    /// Deploy to a node, cut its power and give it back, again and again; says how that went as a page for others
    Qualify(QualifyOptions),
    #[command(flatten)]
    Lifecycle(LifecycleCommand),
    /// Prove that free or quarantined nodes come back into the boot root and can be wiped; frees those that do
    Test(Nodes),
}

/// A file as text.
pub(super) fn read(file: &Path) -> Result<String, ClientError> {
    std::fs::read_to_string(file).map_err(|source| ClientError::Read { file: file.into(), source })
}

/// The node of this name.
pub(super) fn by_name(connection: &Connection, name: &str) -> Result<NodeView, ClientError> {
    connection.get(&format!("nodes/{}", level(name)))
}

/// Nodes by name, where `@LABEL` stands for all that have the label.
pub(super) fn named(connection: &Connection, wanted: Vec<String>) -> Result<Vec<String>, ClientError> {
    if !wanted.iter().any(|name| name.starts_with('@')) {
        return Ok(wanted);
    }
    let all: Vec<NodeView> = connection.get("nodes")?;
    let mut names = Vec::new();
    for name in wanted {
        let Some(label) = name.strip_prefix('@') else {
            names.push(name);
            continue;
        };
        let before = names.len();
        let labelled = all.iter().filter(|node| node.labels.iter().any(|one| one == label));
        names.extend(labelled.map(|node| node.name.clone()));
        if names.len() == before {
            return Err(ClientError::NoSuchLabel(label.into()));
        }
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

pub(super) fn node(connection: &Connection, output: Output, command: NodeCommand) -> Result<(), ClientError> {
    let screen = Screen::of_stdout();
    match command {
        NodeCommand::List => {
            let nodes: Vec<NodeView> = connection.get("nodes")?;
            output.tell("nodes", &nodes, |nodes| tables::nodes(nodes, screen));
        }
        NodeCommand::Show { node } => {
            output.tell("node", &by_name(connection, &node)?, |node| tables::node(node, screen));
        }
        NodeCommand::Discovered => {
            let boards: Vec<DiscoveredView> = connection.get("discovered")?;
            output.tell("discovered", &boards, |boards| tables::discovered(boards, screen));
        }
        NodeCommand::Discover(options) => discover(connection, output, &options)?,
        NodeCommand::BootFiles { node, renew } => {
            let path = format!("nodes/{}/boot-files", level(&node));
            let files: BootFilesView = match renew {
                None => connection.get(&path)?,
                Some(file) if file.as_os_str() == "-" => connection.put_all(&path, &mut std::io::stdin())?,
                Some(file) => {
                    let opened = std::fs::File::open(&file);
                    connection
                        .put_all(&path, &mut opened.map_err(|source| ClientError::Read { file, source })?)?
                }
            };
            output.tell("boot_files", &files, |files| tables::boot_files(files, screen));
        }
        NodeCommand::Lifecycle(command) => lifecycle::run(connection, output, command)?,
        NodeCommand::Test(_) | NodeCommand::Check { .. } | NodeCommand::Qualify(_) => {
            unreachable!("they say how nodes are, too")
        }
        NodeCommand::Export => {
            let inventory: Inventory = connection.get("inventory")?;
            output.tell("inventory", &inventory, |inventory| {
                toml::to_string(inventory).expect("an inventory is tables of texts, numbers and lists")
            });
        }
        NodeCommand::Import { file } => {
            let inventory: Inventory = toml::from_str(&read(&file)?)
                .map_err(|source| ClientError::Inventory { file, source: Box::new(source) })?;
            let imported: ImportedView = connection.post("nodes/import", &inventory)?;
            output.tell("imported", &imported, imported_text);
        }
    }
    Ok(())
}

fn imported_text(imported: &ImportedView) -> String {
    let ImportedView { added, changed, unchanged, switches, unnamed_nodes, unnamed_switches } = imported;
    let mut text = String::new();
    if switches.added + switches.changed + switches.unchanged > 0 {
        let ImportCountView { added, changed, unchanged } = switches;
        text += &format!("switches: {added} added, {changed} changed, {unchanged} unchanged\n");
    }
    text += &format!("nodes: {added} added, {changed} changed, {unchanged} unchanged");
    if !unnamed_nodes.is_empty() {
        let names = unnamed_nodes.join(", ");
        text += &format!(
            "\nnot in the file, and still registered: {names} (`piseduce node retire` removes a node)"
        );
    }
    if !unnamed_switches.is_empty() {
        let names = unnamed_switches.join(", ");
        text += &format!("\nnot in the file, and still registered: {names} (`piseduce switch remove`)");
    }
    text
}

/// What could keep nodes from coming back; badly when something would be refused.
pub(super) fn check(
    connection: &Connection,
    output: Output,
    nodes: Vec<String>,
) -> Result<Ended, ClientError> {
    let mut nodes = named(connection, nodes)?;
    if nodes.is_empty() {
        nodes = connection.get::<Vec<NodeView>>("nodes")?.into_iter().map(|node| node.name).collect();
    }
    let checked = nodes.iter().map(|node| connection.get(&format!("nodes/{}/check", level(node))));
    let checked: Vec<NodeCheckView> = checked.collect::<Result<_, _>>()?;
    output.tell("checked", &checked, |checked| tables::checked(checked));
    let mut findings = checked.iter().flat_map(|node| &node.findings);
    Ok(if findings.any(|finding| finding.action == "refuse") { Ended::Badly } else { Ended::Well })
}

/// What nobody can explain.
pub(super) fn alarms(connection: &Connection, output: Output) -> Result<(), ClientError> {
    let alarms: Vec<AlarmView> = connection.get("alarms")?;
    output.tell("alarms", &alarms, |alarms| tables::alarms(alarms, Screen::of_stdout()));
    Ok(())
}

pub(super) fn reserve(
    connection: &Connection,
    output: Output,
    nodes: Vec<String>,
    time: Duration,
) -> Result<(), ClientError> {
    let nodes = named(connection, nodes)?;
    let request = ReserveRequest { nodes, seconds: time.as_secs() };
    let reservation: ReservationView = connection.post("reservations", &request)?;
    output.tell("reservation", &reservation, |one| {
        format!("reservation {}: {} until {}", one.id, one.nodes.join(", "), local(one.until_unix_ms))
    });
    Ok(())
}

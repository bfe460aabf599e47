//! `piseduce netboot render`: writes dnsmasq's settings and the list of boards, each in one step, and says what dnsmasq must be
//! told then.

use super::{Render, hosts, network_of, nodes, settings};
use crate::config::Config;
use crate::domain::network::{Dhcp, Network};
use crate::domain::node::Node;
use crate::netboot::dnsmasq::{self, HOSTS, SETTINGS};
use crate::print::{self, Output};
use anyhow::Context as _;
use serde::Serialize;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What was written.
#[derive(Serialize)]
struct Rendered {
    /// Where.
    directory: PathBuf,
    /// Whether dnsmasq must be restarted.
    settings_changed: bool,
    /// Whether dnsmasq must read its hosts again.
    hosts_changed: bool,
    /// What boards will miss.
    remarks: Vec<String>,
}

impl Rendered {
    fn text(&self) -> String {
        let directory = self.directory.display();
        let next = match (self.settings_changed, self.hosts_changed) {
            (true, _) => "`systemctl restart dnsmasq` makes it so",
            (false, true) => "`systemctl reload dnsmasq` makes it so",
            (false, false) => "nothing has changed",
        };
        format!("{directory}/{SETTINGS} and {directory}/{HOSTS} are up to date; {next}")
    }
}

/// What the two files must hold.
pub(super) fn texts(config: &Config, nodes: &[Node], directory: &Path) -> [(&'static str, String); 2] {
    let settings = dnsmasq::settings(&config.netboot.networks, directory);
    [(SETTINGS, settings), (HOSTS, dnsmasq::hosts(&hosts(nodes)))]
}

pub(super) fn render(arguments: &Render, output: Output) -> anyhow::Result<()> {
    let config = settings(arguments)?;
    let nodes = nodes(&config)?;
    let directory = &arguments.output;
    let mut changed = Vec::new();
    // The list first: settings never name one that is not there.
    for (name, text) in texts(&config, &nodes, directory).into_iter().rev() {
        changed.push(write(directory, name, &text)?);
    }
    let rendered = Rendered {
        directory: directory.clone(),
        hosts_changed: changed[0],
        settings_changed: changed[1],
        remarks: remarks(&config.netboot.networks, &nodes),
    };
    if output == Output::Text {
        rendered.remarks.iter().for_each(|remark| print::aside(format_args!("note: {remark}")));
    }
    output.tell("rendered", &rendered, Rendered::text);
    Ok(())
}

/// Writes a file in one step, unless it is there already; returns whether it is new.
fn write(directory: &Path, name: &str, text: &str) -> anyhow::Result<bool> {
    let path = directory.join(name);
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    let write = || -> std::io::Result<()> {
        // dnsmasq reads whatever ends otherwise in its directory; names that begin with a point are left alone.
        let mut file = tempfile::Builder::new().prefix(".piseduce-").tempfile_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(&path)?;
        Ok(())
    };
    write().with_context(|| format!("failed to write {}", path.display()))?;
    Ok(true)
}

/// Boards that will get no address, or one of another network.
pub(super) fn remarks(networks: &[Network], nodes: &[Node]) -> Vec<String> {
    let gives_any = networks.iter().any(|network| network.range.is_some() || network.dhcp == Dhcp::Proxy);
    let of_node = |node: &Node| {
        let name = &node.attributes.name;
        match node.attributes.ip {
            Some(ip) if network_of(networks, node).is_none() => {
                let known: Vec<String> =
                    networks.iter().map(|network| network.subnet().to_string()).collect();
                Some(format!(
                    "node {name} has the address {ip}, which is on no network of this head ({})",
                    known.join(", ")
                ))
            }
            None if !gives_any => Some(format!(
                "node {name} gets no address: give it an `ip` in the inventory, or a network a `range`"
            )),
            _ => None,
        }
    };
    nodes.iter().filter_map(of_node).collect()
}

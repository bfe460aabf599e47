//! `piseduce netboot render`: writes dnsmasq's settings, the list of boards and the NFS export, each in one step, and says what
//! the services must be told then.

use super::{Render, contents, hosts, network_of, settings};
use crate::config::{Config, Nfs};
use crate::domain::network::{Dhcp, Network};
use crate::domain::node::Node;
use crate::netboot::dnsmasq::{self, HOSTS, SETTINGS};
use crate::netboot::nfs;
use crate::print::{self, Output};
use anyhow::Context as _;
use serde::Serialize;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// What was written.
#[derive(Serialize)]
struct Rendered {
    /// Where dnsmasq reads.
    directory: PathBuf,
    /// Whether dnsmasq must be restarted.
    settings_changed: bool,
    /// Whether dnsmasq must read its hosts again.
    hosts_changed: bool,
    /// Whether the NFS server must read its exports again.
    exports_changed: bool,
    /// What boards will miss.
    remarks: Vec<String>,
}

impl Rendered {
    fn text(&self, nfs: Option<&Nfs>) -> String {
        let directory = self.directory.display();
        let next = match (self.settings_changed, self.hosts_changed) {
            (true, _) => "`systemctl restart dnsmasq` makes it so",
            (false, true) => "`systemctl reload dnsmasq` makes it so",
            (false, false) => "nothing has changed",
        };
        let text = format!("{directory}/{SETTINGS} and {directory}/{HOSTS} are up to date; {next}");
        match nfs {
            None => text,
            Some(nfs) => {
                let next =
                    if self.exports_changed { nfs::make_it_so(nfs.server) } else { "nothing has changed" };
                format!("{text}\nthe NFS export of {} is up to date; {next}", nfs.directory.display())
            }
        }
    }
}

/// A file, and what it must hold.
pub(super) struct Wanted {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// What dnsmasq's list of boards and its settings must hold, and the NFS server's exports, if there are any.
pub(super) fn wanted(config: &Config, nodes: &[Node], arguments: &Render) -> Vec<Wanted> {
    let directory = &arguments.output;
    // The list first: settings never name one that is not there.
    let mut wanted = vec![
        Wanted { path: directory.join(HOSTS), text: dnsmasq::hosts(&hosts(nodes)) },
        Wanted {
            path: directory.join(SETTINGS),
            text: dnsmasq::settings(&config.netboot.networks, directory),
        },
    ];
    wanted.extend(config.netboot.nfs.as_ref().map(|Nfs { directory, server }| Wanted {
        path: arguments.exports.as_deref().unwrap_or(nfs::directory(*server)).join(nfs::file(*server)),
        text: nfs::settings(*server, directory, &config.netboot.networks),
    }));
    wanted
}

pub(super) fn render(arguments: &Render, output: Output) -> anyhow::Result<()> {
    let config = settings(arguments)?;
    let nodes = contents(&config)?.map(|contents| contents.nodes).unwrap_or_default();
    let mut changed = Vec::new();
    for wanted in wanted(&config, &nodes, arguments) {
        changed.push(write(&wanted)?);
    }
    let rendered = Rendered {
        directory: arguments.output.clone(),
        hosts_changed: changed[0],
        settings_changed: changed[1],
        exports_changed: changed.get(2).copied().unwrap_or_default(),
        remarks: remarks(&config.netboot.networks, &nodes),
    };
    if output == Output::Text {
        rendered.remarks.iter().for_each(|remark| print::aside(format_args!("note: {remark}")));
    }
    output.tell("rendered", &rendered, |rendered| rendered.text(config.netboot.nfs.as_ref()));
    Ok(())
}

/// Writes a file in one step, unless it is there already; returns whether it is new.
fn write(Wanted { path, text }: &Wanted) -> anyhow::Result<bool> {
    if fs::read_to_string(path).is_ok_and(|old| old == *text) {
        return Ok(false);
    }
    let write = || -> std::io::Result<()> {
        let directory = path.parent().expect("a file is in a directory");
        // dnsmasq reads whatever ends otherwise in its directory; names that begin with a point are left alone.
        let mut file = tempfile::Builder::new().prefix(".piseduce-").tempfile_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(path)?;
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

//! `piseduce netboot`: what the DHCP server of this head must say, and whether services and network do what booting needs.

mod boards;
mod check;
mod dhcp;
mod nfs;
mod render;

use super::ConfigOption;
use crate::config::Config;
use crate::data_directory::STORE;
use crate::domain::network::Network;
use crate::domain::node::Node;
use crate::netboot::dnsmasq::Host;
use crate::print::Output;
use crate::store::{Contents, Examination};
use anyhow::bail;
use clap::Subcommand;
use std::path::PathBuf;

/// `piseduce netboot`.
#[derive(Clone, Debug, Subcommand)]
pub enum NetbootCommand {
    /// Write dnsmasq's settings for the networks of this head and its nodes, and the NFS export of boot roots
    Render(Render),
    /// Ask the running services and the networks, and say what is wrong and how to mend it
    Check(Render),
}

/// Which coordinator, and where dnsmasq looks.
#[derive(Clone, Debug, clap::Args)]
pub struct Render {
    /// Where dnsmasq reads its settings
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/dnsmasq.d")]
    output: PathBuf,
    /// Where the NFS server of [netboot.nfs] reads its exports; the default is that server's
    #[arg(long, value_name = "DIRECTORY")]
    exports: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigOption,
}

/// Carries out a subcommand.
///
/// # Errors
/// When settings or store cannot be read, files cannot be written, or a check fails.
pub async fn run(command: &NetbootCommand, output: Output) -> anyhow::Result<()> {
    match command {
        NetbootCommand::Render(arguments) => render::render(arguments, output),
        NetbootCommand::Check(arguments) => check::check(arguments, output).await,
    }
}

/// The settings, which must name a network.
fn settings(arguments: &Render) -> anyhow::Result<Config> {
    let config = arguments.config.read()?;
    if config.netboot.networks.is_empty() {
        bail!(
            "{} names no network: add a [[netboot.network]] with interface and head, see README, \"Network boot\"",
            arguments.config.file().display()
        );
    }
    Ok(config)
}

/// What is in the store of a coordinator that may be running; none before its first start.
fn contents(config: &Config) -> anyhow::Result<Option<Contents>> {
    let file = config.data_directory.join(STORE);
    if !file.exists() {
        return Ok(None);
    }
    Ok(Some(Examination::open(&file)?.contents(&file)?))
}

/// The nodes as dnsmasq knows them.
fn hosts(nodes: &[Node]) -> Vec<Host> {
    let host = |node: &Node| Host {
        mac: node.attributes.mac.clone(),
        name: node.attributes.name.clone(),
        ip: node.attributes.ip,
        is_pi3: node.attributes.is_pi3(),
    };
    nodes.iter().map(host).collect()
}

/// The network that a node is on, if its address says so.
fn network_of<'a>(networks: &'a [Network], node: &Node) -> Option<&'a Network> {
    networks.iter().find(|network| node.attributes.ip.is_some_and(|ip| network.has(ip)))
}

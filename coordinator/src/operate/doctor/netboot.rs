//! Network boot: whether boards are answered at the TFTP address, and whether there is a whole boot root to give them.

use super::Check;
use crate::config::Config;
use crate::data_directory::STORE;
use crate::domain::node::Node;
use crate::netboot::BootRoots;
use crate::netboot::boot_root::Content;
use crate::operate;
use crate::store::Examination;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

const BOOT_ROOT: &str = "boot_root";
const OTHER: &str = "build one for these boards (`piseduce boot-root build --ram --keep-current` with --debian for Pi 3 and Pi 4, with \
     --from-image FILE of Raspberry Pi OS for all) and give it to them: `piseduce boot-root use NAME --model MODEL`";
const ADVICE: &str = "build one: `piseduce boot-root build --debian --ram`";
/// A TFTP server of this machine answers at once.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// A request to write a file, which every answering coordinator refuses.
const WRITE_REQUEST: &[u8] = b"\x00\x02piseduce-doctor\0octet\0";
const ERROR: [u8; 2] = [0, 5];

pub(in crate::operate) fn examine(config: &Config, is_running: bool) -> Vec<Check> {
    let addresses = &config.netboot.tftp;
    if addresses.is_empty() {
        return Vec::new();
    }
    let mut checks: Vec<Check> = addresses.iter().map(|address| tftp(*address, is_running)).collect();
    let roots = operate::boot_roots(config);
    checks.extend(boot_roots(&roots));
    checks.extend(models(&roots, &nodes(config)));
    checks
}

/// The registered nodes; none where the store cannot be read, which has a check of its own.
fn nodes(config: &Config) -> Vec<Node> {
    let file = config.data_directory.join(STORE);
    let contents = file.exists().then(|| Examination::open(&file).ok()?.contents(&file).ok()).flatten();
    contents.map(|contents| contents.nodes).unwrap_or_default()
}

/// Whether every node finds in its boot root what its model needs.
fn models(roots: &BootRoots, nodes: &[Node]) -> Vec<Check> {
    let mut lacking: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for attributes in nodes.iter().map(|node| &node.attributes) {
        let root = roots
            .chosen_for(&attributes.name, &attributes.model)
            .and_then(|version| roots.read(&version).ok());
        let Some(root) = root else { continue };
        let lacks = root.description.lacks(attributes.model());
        if !lacks.is_empty() {
            let key = (root.description.version, lacks.join(", "));
            lacking.entry(key).or_default().push(&attributes.name);
        }
    }
    let fail = |((version, lacks), names): (&(String, String), &Vec<&str>)| {
        let found = format!("{version} cannot boot {}: it lacks {lacks}", names.join(", "));
        Check::fail(BOOT_ROOT, found, OTHER)
    };
    lacking.iter().map(fail).collect()
}

fn tftp(address: SocketAddr, is_running: bool) -> Check {
    let name = "tftp";
    if !is_running {
        return match UdpSocket::bind(address) {
            Ok(_) => Check::ok(name, format!("{address} is free for the coordinator")),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                let advice = "end the other TFTP server, such as dnsmasq's enable-tftp or tftpd-hpa";
                Check::fail(name, format!("another program has {address}"), advice)
            }
            Err(error) => {
                Check::fail(name, format!("{address} cannot be used: {error}"), "change netboot.tftp")
            }
        };
    }
    match answers(address) {
        Ok(true) => Check::ok(name, format!("boards are answered at {address}")),
        Ok(false) => Check::fail(
            name,
            format!("what answers at {address} is no coordinator"),
            "end the other TFTP server there and restart the coordinator",
        ),
        Err(error) => Check::fail(
            name,
            format!("nobody answers at {address}: {error}"),
            "restart the coordinator, which reads netboot.tftp at its start",
        ),
    }
}

/// Whether the server at `address` refuses to be written to.
fn answers(address: SocketAddr) -> std::io::Result<bool> {
    let ip = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    socket.send_to(WRITE_REQUEST, (ip, address.port()))?;
    let mut answer = [0; 512];
    let (count, _) = socket.recv_from(&mut answer)?;
    Ok(answer[..count].starts_with(&ERROR))
}

/// Whether every version that somebody gets is there, whole.
fn boot_roots(roots: &BootRoots) -> Vec<Check> {
    let Some(current) = roots.current() else {
        let found = "no boot root was built or chosen: no node can be deployed";
        return vec![Check::fail(BOOT_ROOT, found, ADVICE)];
    };
    let others = roots.exceptions().into_iter().map(|(_, version)| version);
    let versions: BTreeSet<String> = std::iter::once(current).chain(others).collect();
    versions.iter().map(|version| boot_root(roots, version)).collect()
}

fn boot_root(roots: &BootRoots, version: &str) -> Check {
    let root = match roots.read(version) {
        Ok(root) => root,
        Err(error) => return Check::fail(BOOT_ROOT, format!("{:#}", anyhow::Error::new(error)), ADVICE),
    };
    let files = root.all_files();
    let is_whole =
        |path: &Path, content: &Content| fs::read(path).is_ok_and(|bytes| Content::of(&bytes) == *content);
    match files.iter().find(|(path, content)| !is_whole(path, content)) {
        None => Check::ok(BOOT_ROOT, format!("{version}, {} files, whole", files.len())),
        Some((path, _)) => {
            let found = format!("{} is missing, cannot be read or is damaged", path.display());
            let places: Vec<String> = root.directories().map(|place| place.display().to_string()).collect();
            Check::fail(BOOT_ROOT, found, format!("remove {} and {ADVICE}", places.join(" and ")))
        }
    }
}

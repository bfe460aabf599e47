//! Network boot: whether boards are answered at the TFTP address, and whether there is a whole boot root to give them.

use super::Check;
use crate::config::Config;
use crate::data_directory::BOOT_ROOTS;
use crate::netboot::BootRoots;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// A TFTP server of this machine answers at once.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// A request to write a file, which every answering coordinator refuses.
const WRITE_REQUEST: &[u8] = b"\x00\x02piseduce-doctor\0octet\0";
const ERROR: [u8; 2] = [0, 5];

pub(in crate::operate) fn examine(config: &Config, is_running: bool) -> Vec<Check> {
    let Some(address) = config.netboot.tftp else { return Vec::new() };
    vec![tftp(address, is_running), boot_root(&BootRoots::at(config.data_directory.join(BOOT_ROOTS)))]
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

fn boot_root(roots: &BootRoots) -> Check {
    let name = "boot_root";
    let advice = "build one: `piseduce boot-root build --debian --ram`";
    let Some(version) = roots.current() else {
        return Check::fail(name, "no boot root was built or chosen: no node can be deployed", advice);
    };
    let root = match roots.read(&version) {
        Ok(root) => root,
        Err(error) => return Check::fail(name, format!("{:#}", anyhow::Error::new(error)), advice),
    };
    for (file, content) in &root.description.files {
        let bytes = root.file(file).and_then(|path| fs::read(path).ok());
        let is_whole = bytes.is_some_and(|bytes| blake3::hash(&bytes).to_hex().as_str() == content.blake3);
        if !is_whole {
            let found = format!("{file} of {version} is missing, cannot be read or is damaged");
            return Check::fail(name, found, format!("remove the directory {version} and {advice}"));
        }
    }
    Check::ok(name, format!("{version}, {} files, whole", root.description.files.len()))
}

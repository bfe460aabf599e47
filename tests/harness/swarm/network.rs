//! The network of a swarm: the head at one end of a cable, any number of boards at the other, each with an IP address and
//! a hardware address of its own.
//!
//! The boards share one namespace. Every address of theirs is local there, and their end of the cable takes frames for any
//! hardware address. The head's kernel is told which address has which hardware address, as it would learn it by ARP.

use crate::namespace::Namespace;
use anyhow::{Context as _, bail};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;

/// The head's address.
pub(super) const HEAD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The head's hardware address.
const HEAD_MAC: &str = "02:00:00:00:00:01";
/// The network that the boards' addresses are in; the head's is outside.
const BOARDS: Ipv4Addr = Ipv4Addr::new(10, 77, 128, 0);
/// So many boards have an address there.
pub const BOARDS_MAX: usize = 32_000;

/// The network, which ends with this value.
pub(super) struct Network {
    /// Where the coordinator runs.
    pub(super) head: Namespace,
    /// Where the boards speak.
    pub(super) boards: Namespace,
}

impl Network {
    /// A network with so many boards.
    ///
    /// # Errors
    /// When this is not root.
    pub(super) fn new(count: usize) -> anyhow::Result<Network> {
        let (head, boards) = (Namespace::new()?, Namespace::new()?);
        head.ip(&format!("link add eth0 type veth peer name cable netns {}", boards.path()))?;
        head.ip(&format!("link set eth0 address {HEAD_MAC}"))?;
        head.ip(&format!("address add {HEAD}/16 dev eth0"))?;
        head.ip("link set eth0 up")?;
        boards.ip("link set cable up")?;
        // An interface of this kind takes every frame that arrives at the cable as its own, whatever address it is for.
        boards.ip("link add link cable name eth0 type macvlan mode passthru")?;
        boards.ip("link set eth0 up")?;
        boards.ip(&format!("route add local {BOARDS}/17 dev lo"))?;
        boards.ip(&format!("route add {HEAD}/32 dev eth0"))?;
        let neighbour = |address: Ipv4Addr, mac: &str| {
            format!("neigh replace {address} lladdr {mac} dev eth0 nud permanent\n")
        };
        batch(&boards, &neighbour(HEAD, HEAD_MAC))?;
        let lines: String = (0..count).map(|index| neighbour(address(index), &mac(index))).collect();
        batch(&head, &lines)?;
        Ok(Network { head, boards })
    }
}

/// The address of a board.
pub(super) fn address(index: usize) -> Ipv4Addr {
    let number = u32::try_from(index + 1).expect("a swarm is smaller than its network");
    Ipv4Addr::from(u32::from(BOARDS) + number)
}

/// The hardware address of a board.
pub(super) fn mac(index: usize) -> String {
    let [_, a, b, c] = u32::try_from(index + 1).expect("a swarm is smaller than its network").to_be_bytes();
    format!("dc:a6:32:{a:02x}:{b:02x}:{c:02x}")
}

/// Runs many commands of `ip` in one process.
fn batch(namespace: &Namespace, lines: &str) -> anyhow::Result<()> {
    let mut ip = namespace.command("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = ip.spawn().context("nsenter cannot be started; Debian's package util-linux has it")?;
    child.stdin.take().context("its input is a pipe")?.write_all(lines.as_bytes())?;
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => bail!("ip -batch failed: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

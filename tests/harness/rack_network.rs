//! The network of a rack: a head node and boards on one Ethernet, each in a network namespace of its own, with the hardware
//! addresses that are registered. Nothing of it is on the network of the machine, so addresses and ports are the same in every
//! story. A board of QEMU has two ends there: one that its firmware speaks through, and one for its system.

use crate::firmware::INTERFACE;
use crate::namespace::Namespace;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The head's address.
pub const HEAD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The head's interface.
pub const BRIDGE: &str = "br0";
/// The bridge would take the lowest address of its ports, and another one whenever a port is added.
const BRIDGE_MAC: &str = "02:00:00:00:00:01";
/// As many get an address from [`address`].
const BOARDS_MAX: usize = 200;

/// The network, which ends with this value.
pub struct RackNetwork {
    /// Where the head's programs run.
    pub head: Namespace,
    /// Where each board, or its firmware, speaks.
    pub boards: Vec<Namespace>,
    /// Whether boards have an end for systems of QEMU.
    has_taps: bool,
    strangers: AtomicUsize,
}

impl RackNetwork {
    /// A network with boards of these hardware addresses, numbered from 1, of which none is up.
    ///
    /// # Errors
    /// When this is not root, or there are more boards than addresses for them.
    pub fn new(macs: &[String]) -> anyhow::Result<RackNetwork> {
        anyhow::ensure!(macs.len() <= BOARDS_MAX, "a rack has room for {BOARDS_MAX} boards");
        let head = Namespace::new()?;
        let mut boards = Vec::new();
        let mut lines = vec![
            format!("link add {BRIDGE} address {BRIDGE_MAC} type bridge"),
            format!("address add {HEAD}/24 dev {BRIDGE}"),
            format!("link set {BRIDGE} up"),
        ];
        for (mac, number) in macs.iter().zip(1..) {
            boards.push(cable(&head, mac, &port(number))?);
            lines.push(format!("link set {} master {BRIDGE} up", port(number)));
        }
        head.ip_all(&lines)?;
        Ok(RackNetwork { head, boards, has_taps: false, strangers: AtomicUsize::new(0) })
    }

    /// The same with an end for the system of each board, which QEMU runs.
    ///
    /// # Errors
    /// When this is not root.
    pub fn with_taps(macs: &[String]) -> anyhow::Result<RackNetwork> {
        let mut network = RackNetwork::new(macs)?;
        let add = |tap: String| {
            [format!("tuntap add {tap} mode tap"), format!("link set {tap} master {BRIDGE} up")]
        };
        let lines: Vec<String> = (1..=macs.len()).flat_map(|number| add(tap(number))).collect();
        network.head.ip_all(&lines)?;
        network.has_taps = true;
        Ok(network)
    }

    /// The same as [`RackNetwork::new`], and this thread moves to its head for good.
    ///
    /// # Errors
    /// When this is not root.
    pub fn enter(macs: &[String]) -> anyhow::Result<RackNetwork> {
        let network = RackNetwork::new(macs)?;
        network.head.enter();
        Ok(network)
    }

    /// Somebody else on the same Ethernet, with this hardware address at this address.
    ///
    /// # Errors
    /// When the interface cannot be set.
    pub fn stranger(&self, mac: &str, address: Ipv4Addr) -> anyhow::Result<Namespace> {
        let port = format!("other-{}", self.strangers.fetch_add(1, Ordering::Relaxed));
        let stranger = cable(&self.head, mac, &port)?;
        self.head.ip(&format!("link set {port} master {BRIDGE} up"))?;
        stranger.ip_all(&[
            format!("address add {address}/24 dev {INTERFACE}"),
            format!("link set {INTERFACE} up"),
        ])?;
        Ok(stranger)
    }

    /// The board that has this address.
    pub fn board_at(&self, address: IpAddr) -> Option<&Namespace> {
        (1..)
            .zip(&self.boards)
            .find_map(|(number, board)| (self::address(number) == address).then_some(board))
    }

    /// A board's firmware begins to speak: its end is up, without an address.
    ///
    /// # Errors
    /// When the interface cannot be set.
    pub fn firmware_speaks(&self, number: usize) -> anyhow::Result<()> {
        self.boards[number - 1].ip_all(&[
            format!("address flush dev {INTERFACE}"),
            format!("link set {INTERFACE} up"),
            // Who has no address yet speaks to everybody.
            format!("route replace default dev {INTERFACE}"),
        ])
    }

    /// A board's firmware is silent: its end is down, and its system may use the same address.
    ///
    /// # Errors
    /// When the interface cannot be set.
    pub fn firmware_is_silent(&self, number: usize) -> anyhow::Result<()> {
        go_dark(&self.boards[number - 1])
    }

    /// Unplugs a board's cable, or plugs it in again.
    ///
    /// # Errors
    /// When the interfaces cannot be set.
    pub fn plug(&self, number: usize, plugged: bool) -> anyhow::Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.head.ip(&format!("link set {} {state}", port(number)))?;
        if self.has_taps { self.head.ip(&format!("link set {} {state}", tap(number))) } else { Ok(()) }
    }
}

/// A namespace whose end of a cable has this hardware address; the other end is called `port` and belongs to `head`.
fn cable(head: &Namespace, mac: &str, port: &str) -> anyhow::Result<Namespace> {
    let board = Namespace::new()?;
    let other = format!("peer name {port} netns {}", head.path());
    board.ip(&format!("link add {INTERFACE} address {mac} type veth {other}"))?;
    Ok(board)
}

/// A board's end of its cable is down and has no address, as without power.
///
/// # Errors
/// When the interface cannot be set.
pub fn go_dark(board: &Namespace) -> anyhow::Result<()> {
    board.ip_all(&[format!("address flush dev {INTERFACE}"), format!("link set {INTERFACE} down")])
}

/// The address that a board gets.
pub fn address(number: u8) -> Ipv4Addr {
    let [a, b, c, _] = HEAD.octets();
    Ipv4Addr::new(a, b, c, 10 + number)
}

/// The head's end of a board's cable.
fn port(number: usize) -> String {
    format!("fw-{number}")
}

/// The end of a board's system, in the head's namespace.
pub fn tap(number: usize) -> String {
    format!("tap-{number}")
}

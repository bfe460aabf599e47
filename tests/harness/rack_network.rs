//! The network of a rack: a head node and boards on one Ethernet, each in a network namespace of its own. A board has two
//! ends there with the same hardware address: one that its firmware speaks through, and one for its system.

use crate::firmware::INTERFACE;
use crate::namespace::Namespace;
use std::net::Ipv4Addr;

/// The head's address.
pub const HEAD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The head's interface.
pub const BRIDGE: &str = "br0";

/// The network, which ends with this value.
pub struct RackNetwork {
    /// Where the head's programs run.
    pub head: Namespace,
    /// Where the firmware of each board speaks.
    pub boards: Vec<Namespace>,
}

impl RackNetwork {
    /// A network with boards of these hardware addresses, numbered from 1.
    ///
    /// # Errors
    /// When this is not root.
    pub fn new(macs: &[String]) -> anyhow::Result<RackNetwork> {
        let head = Namespace::new()?;
        head.ip(&format!("link add {BRIDGE} type bridge"))?;
        head.ip(&format!("address add {HEAD}/24 dev {BRIDGE}"))?;
        head.ip(&format!("link set {BRIDGE} up"))?;
        let mut boards = Vec::new();
        for (mac, number) in macs.iter().zip(1..) {
            let board = Namespace::new()?;
            let process = board.process();
            head.ip(&format!("link add fw-{number} type veth peer name {INTERFACE} netns {process}"))?;
            head.ip(&format!("link set fw-{number} master {BRIDGE} up"))?;
            board.ip(&format!("link set {INTERFACE} address {mac}"))?;
            let tap = tap(number);
            head.ip(&format!("tuntap add {tap} mode tap"))?;
            head.ip(&format!("link set {tap} master {BRIDGE} up"))?;
            boards.push(board);
        }
        Ok(RackNetwork { head, boards })
    }

    /// A board's firmware begins to speak: its end is up, without an address.
    ///
    /// # Errors
    /// When the interface cannot be set.
    pub fn firmware_speaks(&self, number: usize) -> anyhow::Result<()> {
        let board = &self.boards[number - 1];
        board.ip(&format!("address flush dev {INTERFACE}"))?;
        board.ip(&format!("link set {INTERFACE} up"))?;
        // Who has no address yet speaks to everybody.
        board.ip(&format!("route replace default dev {INTERFACE}"))
    }

    /// A board's firmware is silent: its end is down, and its system may use the same address.
    ///
    /// # Errors
    /// When the interface cannot be set.
    pub fn firmware_is_silent(&self, number: usize) -> anyhow::Result<()> {
        let board = &self.boards[number - 1];
        board.ip(&format!("address flush dev {INTERFACE}"))?;
        board.ip(&format!("link set {INTERFACE} down"))
    }

    /// Unplugs a board's cable, or plugs it in again.
    ///
    /// # Errors
    /// When the interfaces cannot be set.
    pub fn plug(&self, number: usize, plugged: bool) -> anyhow::Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.head.ip(&format!("link set fw-{number} {state}"))?;
        self.head.ip(&format!("link set {} {state}", tap(number)))
    }
}

/// The address that a board gets.
pub fn address(number: u8) -> Ipv4Addr {
    let [a, b, c, _] = HEAD.octets();
    Ipv4Addr::new(a, b, c, 10 + number)
}

/// The end of a board's system, in the head's namespace.
pub fn tap(number: usize) -> String {
    format!("tap-{number}")
}

//! Which network address has which hardware address: the kernel's neighbour table.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;

/// The kernel's table for IPv4.
const TABLE: &str = "/proc/net/arp";
/// The flag of an entry that is complete.
const COMPLETE: u32 = 0x2;

/// The hardware address of `address`, lower case with colons; none: it is on no network of this machine, or
/// nothing was sent to it yet.
pub fn mac_of(address: IpAddr) -> Option<String> {
    table().remove(&address)
}

/// The addresses that `mac` was last known by.
pub fn addresses_of(mac: &str) -> Vec<IpAddr> {
    table().into_iter().filter_map(|(address, known)| (known == mac).then_some(address)).collect()
}

/// All neighbours that are known now.
pub fn table() -> HashMap<IpAddr, String> {
    // A kernel without this table knows no neighbours.
    parse(&fs::read_to_string(TABLE).unwrap_or_default()).into_iter().collect()
}

/// Lines of address, type of hardware, flags, hardware address, mask, device.
fn parse(text: &str) -> Vec<(IpAddr, String)> {
    let entry = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        let flags = u32::from_str_radix(words.nth(1)?.strip_prefix("0x")?, 16).ok()?;
        let mac = words.next()?.to_ascii_lowercase();
        (flags & COMPLETE != 0).then_some((address, mac))
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_entries_are_neighbours() {
        let text = "IP address       HW type     Flags       HW address            Mask     Device\n\
            10.77.0.11       0x1         0x2         DC:A6:32:00:00:01     *        br0\n\
            10.77.0.12       0x1         0x0         00:00:00:00:00:00     *        br0\n\
            10.77.0.13       0x1         0x6         dc:a6:32:00:00:03     *        br0\n\
            rubbish\n";
        let expected = [("10.77.0.11", "dc:a6:32:00:00:01"), ("10.77.0.13", "dc:a6:32:00:00:03")];
        let expected: Vec<(IpAddr, String)> =
            expected.iter().map(|(address, mac)| (address.parse().unwrap(), (*mac).into())).collect();
        assert_eq!(parse(text), expected);
    }
}

//! dnsmasq's configuration for the networks of a rack: what boards must hear over DHCP before they boot. Text only; nothing is
//! started or written here. Sources of each line: firmware-notes/network.md.

use crate::domain::network::{Dhcp, Network};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

/// The file with the settings.
pub const SETTINGS: &str = "piseduce.conf";
/// The file with the boards, which dnsmasq reads again on SIGHUP.
pub const HOSTS: &str = "piseduce.hosts";

/// What Raspberry Pis' hardware addresses begin with. Source: the IEEE's register of organisations.
const VENDORS: [&str; 7] =
    ["b8:27:eb", "dc:a6:32", "e4:5f:01", "d8:3a:dd", "2c:cf:67", "28:cd:c1", "88:a2:9e"];

/// A board that has an address of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its hardware address.
    pub mac: String,
    /// Its host name.
    pub name: String,
    /// Its own IP address; none: one of the range.
    pub ip: Option<Ipv4Addr>,
    /// Its boot ROM may miss an offer that comes at once.
    pub is_pi3: bool,
}

/// The settings for `networks`; `directory` is where they and the boards will stand.
pub fn settings(networks: &[Network], directory: &Path) -> String {
    let mut text = String::from(
        "# Written by `piseduce netboot render`; what is changed here is lost. The networks stand in the\n\
         # coordinator's settings, the boards in its inventory.\n\
         port=0\nbind-dynamic\nno-ping\nlog-dhcp\n",
    );
    let hosts = directory.join(HOSTS);
    // A string takes all of this.
    let _ = writeln!(text, "dhcp-hostsfile={}", hosts.display());
    // Registered boards are Pis by the list of boards; these are for boards that nobody has registered yet.
    for vendor in VENDORS {
        let _ = writeln!(text, "dhcp-mac=set:pi,{vendor}:*:*:*");
    }
    // The three spaces are for a Pi 3B, which compares the whole of a fixed length.
    text += "pxe-service=tag:pi,0,\"Raspberry Pi Boot   \"\n";
    text += "dhcp-reply-delay=tag:pi3,1\n";
    for network in networks {
        text += &of_network(network);
    }
    text
}

fn of_network(network: &Network) -> String {
    let Network { interface, head, dhcp, range, gateway, dns, ntp, .. } = network;
    let mut text = format!("\ninterface={interface}\n");
    let mask = network.mask();
    let subnet = network.subnet().address;
    let range = match (dhcp, range) {
        (Dhcp::Proxy, _) => format!("{subnet},proxy,{mask}"),
        (Dhcp::Own, Some((first, last))) => format!("{first},{last},{mask},1h"),
        (Dhcp::Own, None) => format!("{subnet},static,{mask},1h"),
    };
    let _ = writeln!(text, "dhcp-range=set:{interface},{range}");
    let mut option = |name: &str, values: &[Ipv4Addr]| {
        let values: String = values.iter().map(|value| format!(",{value}")).collect();
        let _ = writeln!(text, "dhcp-option=tag:{interface},option:{name}{values}");
    };
    if *dhcp == Dhcp::Own {
        // An option without a value is not sent; without this line dnsmasq names itself.
        option("router", gateway.as_slice());
        option("dns-server", dns);
        option("ntp-server", ntp);
    }
    option("tftp-server", &[*head]);
    let _ = writeln!(text, "dhcp-boot=tag:pi,tag:{interface},bootcode.bin,,{head}");
    text
}

/// The boards, one a line. Firmware, boot root and system of a board show different client ids: it is known by its
/// hardware address only.
pub fn hosts(hosts: &[Host]) -> String {
    let mut text = String::new();
    for Host { mac, name, ip, is_pi3 } in hosts {
        let tag = if *is_pi3 { "set:pi,set:pi3," } else { "set:pi," };
        let ip = ip.map_or(String::new(), |ip| format!("{ip},"));
        // The dot ends a name that dnsmasq would take for a time (`1h`, `12345`) or a word of its own (`ignore`, `infinite`).
        let _ = writeln!(text, "{mac},{tag}id:*,{ip}{name}.");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::network::sample;

    fn network() -> Network {
        Network { dns: vec![Ipv4Addr::new(10, 0, 0, 1)], ..sample() }
    }

    #[test]
    fn a_network_is_told_what_to_boot_from_where() {
        let text = settings(&[network()], Path::new("/etc/dnsmasq.d"));
        for line in [
            "port=0",
            "no-ping",
            "dhcp-hostsfile=/etc/dnsmasq.d/piseduce.hosts",
            "pxe-service=tag:pi,0,\"Raspberry Pi Boot   \"",
            "interface=eth1",
            "dhcp-range=set:eth1,10.0.0.100,10.0.0.199,255.255.255.0,1h",
            "dhcp-option=tag:eth1,option:router",
            "dhcp-option=tag:eth1,option:dns-server,10.0.0.1",
            "dhcp-option=tag:eth1,option:tftp-server,10.0.0.1",
            "dhcp-boot=tag:pi,tag:eth1,bootcode.bin,,10.0.0.1",
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is not in:\n{text}");
        }
        let of_range = |network| settings(&[network], Path::new("/x"));
        let fixed = of_range(Network { range: None, ..network() });
        assert!(fixed.contains("dhcp-range=set:eth1,10.0.0.0,static,255.255.255.0,1h\n"), "{fixed}");
        let proxy = of_range(Network { range: None, dns: vec![], dhcp: Dhcp::Proxy, ..network() });
        assert!(proxy.contains("dhcp-range=set:eth1,10.0.0.0,proxy,255.255.255.0\n"), "{proxy}");
        assert!(!proxy.contains("option:router"), "{proxy}");
    }

    #[test]
    fn boards_are_known_by_their_hardware_address() {
        let host =
            |name: &str, ip, is_pi3| Host { mac: "dc:a6:32:00:00:01".into(), name: name.into(), ip, is_pi3 };
        let text = hosts(&[host("pi-1", Some(Ipv4Addr::new(10, 0, 0, 11)), false), host("pi-2", None, true)]);
        assert_eq!(
            text,
            "dc:a6:32:00:00:01,set:pi,id:*,10.0.0.11,pi-1.\ndc:a6:32:00:00:01,set:pi,set:pi3,id:*,pi-2.\n"
        );
    }
}

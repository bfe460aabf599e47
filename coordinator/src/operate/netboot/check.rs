//! `piseduce netboot check`: interfaces, dnsmasq and its settings, who answers over DHCP and what, TFTP, boot root and clock; and
//! what nobody can check from here.

use super::dhcp::{Offer, offers};
use super::render::{Wanted, remarks, wanted};
use super::{Render, boards, contents, network_of, nfs, settings};
use crate::config::Config;
use crate::domain::network::{Dhcp, Network};
use crate::domain::node::Node;
use crate::netboot::dhcp::mac_bytes;
use crate::netboot::neighbour;
use crate::operate::check::{Check, tell};
use crate::operate::doctor::{head, listeners, netboot as served};
use crate::print::Output;
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

/// A board that nobody has: the last one of the first vendor's range.
const NOBODY: [u8; 6] = [0xb8, 0x27, 0xeb, 0xff, 0xff, 0xfe];

pub(super) async fn check(arguments: &Render, output: Output) -> anyhow::Result<()> {
    let config = settings(arguments)?;
    let contents = contents(&config)?;
    let nodes = contents.as_ref().map(|contents| contents.nodes.clone()).unwrap_or_default();
    let mut checks = vec![rendered(&config, &nodes, arguments)];
    checks.extend(addresses(&config, &nodes));
    for network in &config.netboot.networks {
        let found = interface(network);
        let is_there = found.advice.is_empty();
        checks.push(found);
        if is_there {
            checks.extend(dhcp(network, &nodes));
        }
    }
    if config.netboot.tftp.is_empty() {
        let advice = "set netboot.tftp to this head's address there with port 69";
        checks.push(Check::fail("tftp", "the coordinator answers nobody over TFTP", advice));
    }
    let (is_running, _) = listeners::examine(&config);
    checks.extend(served::examine(&config, is_running));
    if let Some(directory) = config.netboot.exports() {
        checks.extend(config.netboot.networks.iter().map(|network| nfs::check(network, &directory)));
    }
    checks.push(head::clock(config.trust_unsynchronised));
    if let Some(contents) = &contents {
        checks.extend(boards::spanning_tree(contents).await);
        checks.extend(boards::bootloaders(contents, &config.policy.guards));
    }
    checks.push(Check::warn(
        "isolation",
        "not looked at: a node whose user is root can forge DHCP, ARP and TFTP on a flat network",
        "isolate the nodes' ports from each other and switch DHCP snooping on; firmware-notes/network.md",
    ));
    tell("netboot", &checks, output)
}

/// Whether the services have been given what the settings and the inventory say now.
fn rendered(config: &Config, nodes: &[Node], arguments: &Render) -> Check {
    let name = "rendered";
    for Wanted { path, text } in wanted(config, nodes, arguments) {
        let found = match fs::read_to_string(&path) {
            Ok(found) if found == text => continue,
            Ok(_) => format!("{} is older than settings or inventory", path.display()),
            Err(error) => format!("{} cannot be read: {error}", path.display()),
        };
        return Check::fail(name, found, "`piseduce netboot render`, then do what it says");
    }
    Check::ok(name, format!("the services' settings, as in {}, are up to date", arguments.output.display()))
}

/// Boards that get no address.
fn addresses(config: &Config, nodes: &[Node]) -> Vec<Check> {
    let remarks = remarks(&config.netboot.networks, nodes);
    let advice = "change the inventory and import it again, then `piseduce netboot render`";
    remarks.into_iter().map(|remark| Check::fail("addresses", remark, advice)).collect()
}

fn interface(network: &Network) -> Check {
    let (name, Network { interface, head, .. }) = ("interface", network);
    // Lines of `eth1: counters`.
    let known = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    if !known.lines().any(|line| line.trim_start().split(':').next() == Some(interface.as_str())) {
        return Check::fail(
            name,
            format!("there is no interface {interface}"),
            "change netboot.network.interface",
        );
    }
    let state = fs::read_to_string(Path::new("/sys/class/net").join(interface).join("operstate"));
    if state.is_ok_and(|state| state.trim() == "down") {
        return Check::fail(
            name,
            format!("{interface} is down"),
            format!("plug its cable in, `ip link set {interface} up`"),
        );
    }
    if UdpSocket::bind((*head, 0)).is_err() {
        let advice = format!(
            "`ip address add {head}/{} dev {interface}`, for ever in the system's settings",
            network.prefix_length
        );
        return Check::fail(name, format!("this machine does not have the address {head}"), advice);
    }
    Check::ok(name, format!("{interface} is up, with {head}"))
}

/// Who answers a board on this network, and whether it would boot by that.
fn dhcp(network: &Network, nodes: &[Node]) -> Vec<Check> {
    let (name, interface) = ("dhcp", &network.interface);
    let networks = std::slice::from_ref(network);
    let board = nodes.iter().find(|node| network_of(networks, node).is_some());
    if board.is_none() && network.range.is_none() && network.dhcp == Dhcp::Own {
        let advice = "give a node an `ip`, or the network a `range`";
        return vec![Check::warn(name, format!("nobody would get an address on {interface}"), advice)];
    }
    let mac = board.and_then(|node| mac_bytes(&node.attributes.mac)).unwrap_or(NOBODY);
    match offers(network, mac) {
        Ok(offers) => judge(network, &offers),
        Err(error) => {
            let found = format!("{interface} cannot be asked: {error}");
            vec![Check::warn(name, found, "run this as root; another program may have UDP port 68")]
        }
    }
}

fn judge(network: &Network, offers: &BTreeMap<Ipv4Addr, Offer>) -> Vec<Check> {
    let (name, Network { interface, head, .. }) = ("dhcp", network);
    let mut checks = Vec::new();
    match offers.get(head) {
        None => checks.push(Check::fail(
            name,
            format!("no DHCP server of this head answers a board on {interface}"),
            "install dnsmasq, `piseduce netboot render`, `systemctl restart dnsmasq`; `journalctl -u dnsmasq` says more",
        )),
        Some(offer) if !offer.boots_pis => checks.push(Check::fail(
            name,
            format!("the answer on {interface} has no `Raspberry Pi Boot` (option 43): boards do not boot"),
            "another file in dnsmasq's directory may stand against it: `dnsmasq --test`, `journalctl -u dnsmasq`",
        )),
        Some(Offer { tftp_server, .. }) if *tftp_server != Some(*head) => {
            let named = tftp_server.map_or("nobody".into(), |server| server.to_string());
            checks.push(Check::fail(
                name,
                format!("boards on {interface} are sent to {named} for their files"),
                format!("they must be sent to {head}: remove other dhcp-boot and tftp-server lines"),
            ));
        }
        Some(_) => checks.push(Check::ok(name, format!("boards on {interface} are sent to {head}"))),
    }
    for server in offers.keys().filter(|server| *server != head) {
        let mac = neighbour::mac_of((*server).into()).unwrap_or("an unknown hardware address".into());
        let found = format!("{server} ({mac}) gives addresses on {interface}, too");
        checks.push(match network.dhcp {
            Dhcp::Own => {
                Check::fail("foreign_dhcp", found, "end it, or set dhcp = \"proxy\" if it is meant to")
            }
            Dhcp::Proxy => Check::ok("foreign_dhcp", found),
        });
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::network::sample;
    use crate::operate::check::Verdict;

    const HEAD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn found(dhcp: Dhcp, offers: &[(Ipv4Addr, bool, Ipv4Addr)]) -> Vec<(Verdict, String)> {
        let network = Network { dhcp, ..sample() };
        let offer = |(server, boots_pis, tftp): &(Ipv4Addr, bool, Ipv4Addr)| {
            (*server, Offer { boots_pis: *boots_pis, tftp_server: Some(*tftp) })
        };
        let checks = judge(&network, &offers.iter().map(offer).collect());
        checks.into_iter().map(|check| (check.verdict, check.found)).collect()
    }

    #[test]
    fn offers_are_judged_by_who_makes_them_and_what_they_say() {
        let good = (HEAD, true, HEAD);
        assert_eq!(found(Dhcp::Own, &[good]), [(Verdict::Ok, "boards on eth1 are sent to 10.0.0.1".into())]);
        for (offers, expected) in [
            (vec![], "no DHCP server of this head answers"),
            (vec![(HEAD, false, HEAD)], "has no `Raspberry Pi Boot`"),
            (vec![(HEAD, true, OTHER)], "are sent to 10.0.0.9 for their files"),
        ] {
            let (verdict, text) = &found(Dhcp::Own, &offers)[0];
            assert!(*verdict == Verdict::Fail && text.contains(expected), "`{expected}` is not in: {text}");
        }
        let both = [good, (OTHER, false, OTHER)];
        let (verdict, text) = &found(Dhcp::Own, &both)[1];
        assert!(*verdict == Verdict::Fail && text.starts_with("10.0.0.9 ("), "{text}");
        assert_eq!(
            found(Dhcp::Proxy, &both)[1].0,
            Verdict::Ok,
            "where another one is meant to give addresses"
        );
    }
}

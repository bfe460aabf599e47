//! What a real DHCP server tells registered boards: all of them that they may boot, and each its own name.

use piseduce_coordinator::netboot::dhcp::{
    ARCHITECTURE, CLASS, CLIENT_PORT, DISCOVER, HOST_NAME, Message, OFFER, PXE_CLASS, SERVER_PORT, WANTED,
    mac_bytes,
};
use piseduce_coordinator::netboot::dnsmasq::Host;
use piseduce_tests::dnsmasq::Dnsmasq;
use piseduce_tests::rack_network::{BRIDGE, HEAD, RackNetwork};
use piseduce_tests::wait::wait_for;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// The offer that a board with this address gets.
fn offer(mac: &str) -> Option<Message> {
    let mac = mac_bytes(mac).unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let transaction = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]);
    let question = Message::ask(transaction, mac, DISCOVER)
        .with(WANTED, [1, 3, HOST_NAME, 43, 60, 66, 67])
        .with(CLASS, PXE_CLASS)
        .with(ARCHITECTURE, [0, 0]);
    socket.send_to(&question.bytes(), (Ipv4Addr::BROADCAST, SERVER_PORT)).unwrap();
    let mut buffer = [0; 1500];
    let (count, _) = socket.recv_from(&mut buffer).ok()?;
    let offer = Message::parse(&buffer[..count])?;
    (offer.mac == mac && offer.kind() == Some(OFFER)).then_some(offer)
}

#[test]
fn every_registered_board_may_boot_and_keeps_its_name_whatever_its_address_and_name_look_like() {
    // Names that dnsmasq would read as a time or a word of its own; addresses of no vendor that is known.
    let nodes = [
        ("pi-1", "dc:a6:32:00:00:01"),
        ("1h", "dc:a6:32:00:00:02"),
        ("12345", "dc:a6:32:00:00:03"),
        ("ignore", "02:13:37:00:00:04"),
        ("infinite", "00:e0:4c:00:00:05"),
        ("5w", "02:13:37:00:00:06"),
    ];
    let network = RackNetwork::new(&nodes.map(|(_, mac)| mac.to_owned())).unwrap();
    let host = |index: usize, (name, mac): &(&str, &str)| Host {
        mac: (*mac).into(),
        name: (*name).into(),
        ip: Some(Ipv4Addr::new(10, 77, 0, 11 + index as u8)),
        is_pi3: false,
    };
    let hosts: Vec<Host> = nodes.iter().enumerate().map(|(index, node)| host(index, node)).collect();
    let directory = tempfile::tempdir().unwrap();
    let dnsmasq = network.head.within(|| Dnsmasq::start(directory.path(), BRIDGE, HEAD, &hosts).unwrap());
    for ((name, mac), (board, host)) in nodes.iter().zip(network.boards.iter().zip(&hosts)) {
        board.ip("link set eth0 up").unwrap();
        board.ip("route add default dev eth0").unwrap();
        let offered = wait_for("an offer", 20.0, || board.within(|| offer(mac)), Option::is_some);
        let offered = offered.expect("just accepted");
        assert!(offered.boots_pis(), "{name}: no option 43; {}", dnsmasq.logged());
        assert_eq!(Some(offered.address), host.ip, "{name}");
        let told = offered.options.get(&HOST_NAME).map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(told.as_deref(), Some(*name), "{}", dnsmasq.logged());
    }
}

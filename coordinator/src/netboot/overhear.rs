//! What is learned from the DHCP messages of a network, whoever answers them: how far a node's firmware is, and what is wrong
//! on the wire.
//!
//! It knows no sockets: see `ear.rs`.

use super::alarm::{Alarm, Alarms, Holder, Trouble};
use super::dhcp::{
    ACKNOWLEDGE, CLASS, DECLINE, DISCOVER, Message, OFFER, PXE_CLASS, REFUSE, REQUEST, REQUESTED_ADDRESS,
    SERVER,
};
use super::frame::{Content, Frame};
use crate::clock::UnixMs;
use crate::domain::network::{Dhcp, Network};
use crate::machine::event::Asked;
use piseduce_protocol::id::Serial;
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// What of a class all firmware has in common.
const FIRMWARE: &[u8] = PXE_CLASS.split_at(9).0;
/// Questions that wait for an offer. A site has fewer boards between two of a firmware's tries.
const ASKED_MAX: usize = 1024;

/// What is known of the nodes.
pub trait Rack: Send + Sync + 'static {
    /// The node with this hardware address, lower case with colons.
    fn node(&self, mac: &str) -> Option<Serial>;
    /// Name and hardware address of the node that has this address.
    fn at(&self, address: Ipv4Addr) -> Option<(String, String)>;
    /// A node's firmware asked.
    fn asked(&self, serial: Serial, asked: Asked);
    /// Something is wrong, for the first time.
    fn alarm(&self, alarm: &Alarm);
}

/// Listens to one network.
pub struct Overhearer<R> {
    network: Network,
    rack: R,
    alarms: Alarms,
    /// The last question of each firmware.
    asked: HashMap<u32, Serial>,
}

impl<R: Rack> Overhearer<R> {
    /// One that has heard nothing yet.
    pub fn new(network: Network, rack: R, alarms: Alarms) -> Self {
        Overhearer { network, rack, alarms, asked: HashMap::new() }
    }

    /// The network that it listens to.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// A frame was on the wire.
    pub fn heard(&mut self, frame: &Frame, now: UnixMs) {
        match &frame.content {
            Content::Has(address) => self.has(frame.sender, *address, now),
            Content::Dhcp(from, message) if message.is_answer => {
                self.answered(frame.sender, *from, message, now)
            }
            Content::Dhcp(_, message) => self.asked(frame.sender, message, now),
        }
    }

    fn asked(&mut self, sender: [u8; 6], message: &Message, now: UnixMs) {
        let mac = text(message.mac);
        match message.kind() {
            // Whoever asks in another's name, such as this head's own check, is not the node.
            Some(DISCOVER) if is_firmware(message) && sender == message.mac => {
                if let Some(serial) = self.rack.node(&mac) {
                    if self.asked.len() >= ASKED_MAX {
                        self.asked.clear();
                    }
                    self.asked.insert(message.transaction, serial);
                    self.rack.asked(serial, Asked::Address);
                }
            }
            // It is said to everybody whose offer is taken, also where the offer itself was not heard.
            Some(REQUEST) => {
                if let Some(server) = message.address_in(SERVER) {
                    self.foreign(server, None, now);
                }
            }
            Some(DECLINE) => {
                if let Some(address) = message.address_in(REQUESTED_ADDRESS) {
                    self.raise(Trouble::RefusedAddress, address, Some(mac), now);
                }
            }
            _ => {}
        }
    }

    fn answered(&mut self, sender: [u8; 6], from: Ipv4Addr, message: &Message, now: UnixMs) {
        if !matches!(message.kind(), Some(OFFER | ACKNOWLEDGE | REFUSE)) {
            return;
        }
        let server = message.address_in(SERVER).unwrap_or(from);
        self.foreign(server, Some(text(sender)), now);
        if message.kind() == Some(OFFER)
            && let Some(serial) = self.asked.get(&message.transaction)
        {
            self.rack.asked(*serial, Asked::Offered(server));
        }
    }

    /// A server gives addresses; with another one's addresses nobody here knows which is the right one.
    fn foreign(&self, server: Ipv4Addr, mac: Option<String>, now: UnixMs) {
        if self.network.dhcp == Dhcp::Own && server != self.network.head {
            self.raise(Trouble::ForeignDhcp, server, mac, now);
        }
    }

    fn has(&self, sender: [u8; 6], address: Ipv4Addr, now: UnixMs) {
        let mac = text(sender);
        if address == self.network.head {
            // What this head sends itself is not heard.
            return self.raise(Trouble::TakenAddress(Holder::Head), address, Some(mac), now);
        }
        if let Some((node, own)) = self.rack.at(address)
            && own != mac
        {
            self.raise(Trouble::TakenAddress(Holder::Node(node)), address, Some(mac), now);
        }
    }

    fn raise(&self, trouble: Trouble, address: Ipv4Addr, mac: Option<String>, now: UnixMs) {
        let interface = Some(self.network.interface.clone());
        let alarm = Alarm { trouble, interface, address: address.into(), mac };
        if self.alarms.raise(alarm.clone(), now) {
            self.rack.alarm(&alarm);
        }
    }
}

/// Whether a board's firmware speaks, and not the system that it booted.
fn is_firmware(message: &Message) -> bool {
    message.options.get(&CLASS).is_some_and(|class| class.starts_with(FIRMWARE))
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::super::dhcp::mac_bytes;
    use super::*;
    use crate::domain::network::sample;
    use std::sync::{Arc, Mutex};

    const MAC: &str = "dc:a6:32:00:00:01";
    const OTHER: &str = "02:00:00:00:00:66";
    const HEAD: [u8; 4] = [10, 0, 0, 1];
    const FOREIGN: [u8; 4] = [10, 0, 0, 66];

    #[derive(Clone, Default)]
    struct Bench {
        asked: Arc<Mutex<Vec<Asked>>>,
        alarms: Arc<Mutex<Vec<String>>>,
    }

    impl Rack for Bench {
        fn node(&self, mac: &str) -> Option<Serial> {
            (mac == MAC).then_some(Serial(1))
        }
        fn at(&self, address: Ipv4Addr) -> Option<(String, String)> {
            (address == Ipv4Addr::new(10, 0, 0, 11)).then(|| ("pi-1".into(), MAC.into()))
        }
        fn asked(&self, _: Serial, asked: Asked) {
            self.asked.lock().unwrap().push(asked);
        }
        fn alarm(&self, alarm: &Alarm) {
            self.alarms.lock().unwrap().push(alarm.to_string());
        }
    }

    fn bench(network: Network) -> (Bench, Overhearer<Bench>) {
        let bench = Bench::default();
        (bench.clone(), Overhearer::new(network, bench, Alarms::default()))
    }

    fn ask(kind: u8) -> Message {
        Message::ask(7, mac_bytes(MAC).unwrap(), kind)
    }

    fn answer(kind: u8, server: [u8; 4]) -> Message {
        Message { is_answer: true, ..ask(kind).with(SERVER, server) }
    }

    fn hear(overhearer: &mut Overhearer<Bench>, sender: &str, content: Content) {
        overhearer.heard(&Frame { sender: mac_bytes(sender).unwrap(), content }, UnixMs(5));
    }

    fn dhcp(overhearer: &mut Overhearer<Bench>, sender: &str, message: Message) {
        hear(overhearer, sender, Content::Dhcp(Ipv4Addr::UNSPECIFIED, message));
    }

    #[test]
    fn a_firmware_that_asks_and_is_offered_an_address_is_told_of_and_a_system_is_not() {
        let (bench, mut overhearer) = bench(sample());
        dhcp(&mut overhearer, MAC, ask(DISCOVER));
        dhcp(&mut overhearer, OTHER, answer(OFFER, HEAD));
        dhcp(&mut overhearer, OTHER, ask(DISCOVER).with(CLASS, PXE_CLASS));
        assert_eq!(*bench.asked.lock().unwrap(), [], "a system asks for itself, and another in its name");
        dhcp(&mut overhearer, MAC, ask(DISCOVER).with(CLASS, PXE_CLASS));
        dhcp(&mut overhearer, OTHER, answer(OFFER, HEAD));
        dhcp(&mut overhearer, OTHER, answer(ACKNOWLEDGE, HEAD));
        let stranger = Message { mac: [2; 6], transaction: 8, ..ask(DISCOVER).with(CLASS, PXE_CLASS) };
        dhcp(&mut overhearer, OTHER, stranger);
        assert_eq!(*bench.asked.lock().unwrap(), [Asked::Address, Asked::Offered(HEAD.into())]);
        assert_eq!(*bench.alarms.lock().unwrap(), [""; 0]);
    }

    #[test]
    fn a_foreign_server_is_an_alarm_once_also_when_only_its_client_was_heard() {
        let (bench, mut overhearer) = bench(sample());
        for _ in 0..2 {
            dhcp(&mut overhearer, OTHER, answer(OFFER, FOREIGN));
        }
        dhcp(&mut overhearer, MAC, ask(REQUEST).with(SERVER, FOREIGN));
        dhcp(&mut overhearer, MAC, ask(REQUEST).with(SERVER, HEAD));
        assert_eq!(
            *bench.alarms.lock().unwrap(),
            [
                "10.0.0.66 (02:00:00:00:00:66) gives addresses on eth1, where this head does",
                "10.0.0.66 (somebody) gives addresses on eth1, where this head does",
            ]
        );
        let all = overhearer.alarms.all();
        assert_eq!(all.iter().map(|(_, times)| times.count).sum::<u64>(), 3, "{all:?}");
        let (bench, mut overhearer) = self::bench(Network { dhcp: Dhcp::Proxy, range: None, ..sample() });
        dhcp(&mut overhearer, OTHER, answer(OFFER, FOREIGN));
        assert_eq!(*bench.alarms.lock().unwrap(), [""; 0], "another server's addresses are wanted there");
    }

    #[test]
    fn two_that_have_one_address_are_an_alarm() {
        let (bench, mut overhearer) = bench(sample());
        hear(&mut overhearer, MAC, Content::Has([10, 0, 0, 11].into()));
        hear(&mut overhearer, OTHER, Content::Has([10, 0, 0, 12].into()));
        assert_eq!(*bench.alarms.lock().unwrap(), [""; 0], "one's own, and one that is nobody's");
        hear(&mut overhearer, OTHER, Content::Has([10, 0, 0, 11].into()));
        hear(&mut overhearer, OTHER, Content::Has(HEAD.into()));
        dhcp(&mut overhearer, MAC, ask(DECLINE).with(REQUESTED_ADDRESS, [10, 0, 0, 11]));
        assert_eq!(
            *bench.alarms.lock().unwrap(),
            [
                "02:00:00:00:00:66 on eth1 says that it has 10.0.0.11, which is pi-1's",
                "02:00:00:00:00:66 on eth1 says that it has 10.0.0.1, which is this head's",
                "dc:a6:32:00:00:01 on eth1 was given 10.0.0.11 and found that somebody else has it",
            ]
        );
    }
}

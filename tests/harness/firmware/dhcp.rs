//! DHCP as firmware asks: options 60, 93, 94 and 97 tell what it is, 43 and 66 of the answer tell whether it may boot and
//! from where.

use super::{Firmware, Watch};
use crate::wait::seconds;
use anyhow::Context as _;
use piseduce_coordinator::netboot::dhcp::{
    ACKNOWLEDGE, ARCHITECTURE, CLASS, CLIENT_PORT, DISCOVER, INTERFACE, MACHINE, Message, OFFER, PXE_CLASS,
    REQUEST, REQUESTED_ADDRESS, SERVER, SERVER_PORT, SUBNET_MASK, TFTP_SERVER, VENDOR, WANTED, mac_bytes,
};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

const LISTEN: Duration = Duration::from_millis(50);
/// An ordinary network's mask.
const USUAL_PREFIX_LENGTH: u32 = 24;

/// An address, and where to ask for files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) address: Ipv4Addr,
    pub(super) prefix_length: u32,
    pub(super) server: Ipv4Addr,
}

/// Asks until there is an answer or the time is over.
pub(super) fn lease(firmware: &Firmware, watch: &Watch) -> Result<Lease, String> {
    let asked = || ask(firmware, watch).map_err(|error| format!("DHCP cannot be asked: {error:#}"));
    asked()?
        .ok_or_else(|| format!("no usable DHCP answer within {} s", firmware.settings.dhcp_ms.div_ceil(1000)))
}

fn ask(firmware: &Firmware, watch: &Watch) -> anyhow::Result<Option<Lease>> {
    let mac = mac_bytes(&firmware.mac).with_context(|| format!("{} is no hardware address", firmware.mac))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(LISTEN))?;
    let transaction = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]) ^ (seconds() * 1000.0) as u32;
    let until = seconds() + firmware.settings.dhcp_ms as f64 / 1000.0;
    let again = firmware.settings.dhcp_again_ms as f64 / 1000.0;
    let (mut question, mut sent) = (question(firmware, mac, transaction, DISCOVER), f64::MIN);
    let mut wanted = OFFER;
    let mut buffer = [0; 1500];
    while seconds() < until && !watch.is_off() {
        if seconds() > sent + again {
            let _ = socket.send_to(&question.bytes(), (Ipv4Addr::BROADCAST, SERVER_PORT));
            sent = seconds();
        }
        let Ok((count, _)) = socket.recv_from(&mut buffer) else { continue };
        let Some(answer) = Message::parse(&buffer[..count]) else { continue };
        let is_ours = answer.is_answer && answer.transaction == transaction && answer.mac == mac;
        if !is_ours || answer.kind() != Some(wanted) || !answer.boots_pis() {
            continue;
        }
        let Some(server) = answer.tftp_server() else { continue };
        let prefix_length =
            answer.address_in(SUBNET_MASK).map_or(USUAL_PREFIX_LENGTH, |mask| u32::from(mask).count_ones());
        // A boot ROM takes an offer for granted.
        if wanted == ACKNOWLEDGE || firmware.model.is_boot_rom() {
            return Ok(Some(Lease { address: answer.address, prefix_length, server }));
        }
        let named = answer.options.get(&SERVER).cloned().unwrap_or_default();
        question = self::question(firmware, mac, transaction, REQUEST)
            .with(REQUESTED_ADDRESS, answer.address.octets())
            .with(SERVER, named);
        (sent, wanted) = (f64::MIN, ACKNOWLEDGE);
    }
    Ok(None)
}

fn question(firmware: &Firmware, mac: [u8; 6], transaction: u32, kind: u8) -> Message {
    let serial = u32::from_str_radix(&firmware.serial[8..], 16).unwrap_or_default();
    let machine = [&[0], &firmware.model.four_cc()[..], &[0; 4], &mac[2..], &serial.to_le_bytes()].concat();
    Message::ask(transaction, mac, kind)
        .with(WANTED, [SUBNET_MASK, 3, VENDOR, CLASS, TFTP_SERVER, 67])
        .with(CLASS, PXE_CLASS)
        .with(ARCHITECTURE, [0, 0])
        .with(INTERFACE, [1, 2, 1])
        .with(MACHINE, machine)
}

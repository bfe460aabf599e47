//! DHCP as firmware asks: options 60, 93, 94 and 97 tell what it is, 43 and 66 of the answer tell whether it may boot and
//! from where. Messages: RFC 2131; options: RFC 2132, 4578.

use super::{BROADCAST, Firmware, Watch, mac_bytes};
use crate::wait::seconds;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

const LISTEN: Duration = Duration::from_millis(50);
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const HEADER_BYTES: usize = 236;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACKNOWLEDGE: u8 = 5;

const SUBNET_MASK: u8 = 1;
const VENDOR: u8 = 43;
const REQUESTED_ADDRESS: u8 = 50;
const MESSAGE_TYPE: u8 = 53;
const SERVER: u8 = 54;
const WANTED: u8 = 55;
const CLASS: u8 = 60;
const TFTP_SERVER: u8 = 66;
const ARCHITECTURE: u8 = 93;
const INTERFACE: u8 = 94;
const MACHINE: u8 = 97;
const END: u8 = 255;

/// What a board boots by.
const PI_BOOT: &[u8] = b"Raspberry Pi Boot";

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
    let mac = mac_bytes(&firmware.mac)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68))?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(LISTEN))?;
    let transaction = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]) ^ (seconds() * 1000.0) as u32;
    let until = seconds() + firmware.settings.dhcp_ms as f64 / 1000.0;
    let again = firmware.settings.dhcp_again_ms as f64 / 1000.0;
    let (mut message, mut sent) = (message(firmware, mac, transaction, DISCOVER, &[]), f64::MIN);
    let mut wanted = OFFER;
    let mut buffer = [0; 1500];
    while seconds() < until && !watch.is_off() {
        if seconds() > sent + again {
            let _ = socket.send_to(&message, (BROADCAST, 67));
            sent = seconds();
        }
        let Ok((count, _)) = socket.recv_from(&mut buffer) else { continue };
        let Some(answer) = Answer::parse(&buffer[..count], transaction, mac) else { continue };
        if answer.kind() != Some(wanted) || !answer.boots_pis() {
            continue;
        }
        let Some(lease) = answer.lease() else { continue };
        if wanted == ACKNOWLEDGE || firmware.model.is_boot_rom() {
            return Ok(Some(lease));
        }
        let server = answer.options.get(&SERVER).cloned().unwrap_or_default();
        let more = [(REQUESTED_ADDRESS, lease.address.octets().to_vec()), (SERVER, server)];
        (message, sent, wanted) =
            (self::message(firmware, mac, transaction, REQUEST, &more), f64::MIN, ACKNOWLEDGE);
    }
    Ok(None)
}

fn message(firmware: &Firmware, mac: [u8; 6], transaction: u32, kind: u8, more: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut message = vec![0; HEADER_BYTES];
    // A request over Ethernet, whose answer goes to everybody: the board has no address yet.
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&transaction.to_be_bytes());
    message[10] = 0x80;
    message[28..34].copy_from_slice(&mac);
    message.extend_from_slice(&COOKIE);
    let mut machine = vec![0];
    machine.extend_from_slice(&firmware.model.four_cc());
    machine.extend_from_slice(&[0; 4]);
    machine.extend_from_slice(&mac[2..]);
    let serial = u32::from_str_radix(&firmware.serial[8..], 16).unwrap_or_default();
    machine.extend_from_slice(&serial.to_le_bytes());
    let options = [
        (MESSAGE_TYPE, vec![kind]),
        (WANTED, vec![SUBNET_MASK, 3, VENDOR, CLASS, TFTP_SERVER, 67]),
        (CLASS, b"PXEClient:Arch:00000:UNDI:002001".to_vec()),
        (ARCHITECTURE, vec![0, 0]),
        (INTERFACE, vec![1, 2, 1]),
        (MACHINE, machine),
    ];
    for (code, value) in options.iter().chain(more).filter(|(_, value)| !value.is_empty()) {
        message.push(*code);
        message.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        message.extend_from_slice(value);
    }
    message.push(END);
    message
}

struct Answer {
    address: Ipv4Addr,
    next_server: Ipv4Addr,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Answer {
    fn parse(bytes: &[u8], transaction: u32, mac: [u8; 6]) -> Option<Answer> {
        let is_ours = bytes.len() > HEADER_BYTES + 4
            && bytes[0] == 2
            && bytes[4..8] == transaction.to_be_bytes()
            && bytes[28..34] == mac
            && bytes[HEADER_BYTES..HEADER_BYTES + 4] == COOKIE;
        let mut options = BTreeMap::new();
        let mut rest = bytes.get(HEADER_BYTES + 4..)?;
        while let [code, tail @ ..] = rest {
            match *code {
                END => break,
                0 => rest = tail,
                code => {
                    let length = usize::from(*tail.first()?);
                    options.insert(code, tail.get(1..=length)?.to_vec());
                    rest = &tail[1 + length..];
                }
            }
        }
        let address = |at: usize| -> Option<Ipv4Addr> {
            Some(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?.into())
        };
        is_ours.then_some(Answer { address: address(16)?, next_server: address(20)?, options })
    }

    fn kind(&self) -> Option<u8> {
        self.options.get(&MESSAGE_TYPE)?.first().copied()
    }

    /// A boot ROM boots from nobody else, and a rack wants its bootloaders to do the same.
    fn boots_pis(&self) -> bool {
        let vendor = self.options.get(&VENDOR);
        vendor.is_some_and(|value| value.windows(PI_BOOT.len()).any(|part| part == PI_BOOT))
    }

    /// The files are where option 66 says, else where the header says, else where the answer comes from.
    fn lease(&self) -> Option<Lease> {
        let text = self.options.get(&TFTP_SERVER).map(|value| String::from_utf8_lossy(value).into_owned());
        let named = text.and_then(|text| text.trim_end_matches('\0').parse().ok());
        let header = (!self.next_server.is_unspecified()).then_some(self.next_server);
        let of = |code| -> Option<Ipv4Addr> {
            Some(<[u8; 4]>::try_from(self.options.get(&code)?.as_slice()).ok()?.into())
        };
        let mask = of(SUBNET_MASK).map_or(24, |mask| u32::from(mask).count_ones());
        Some(Lease {
            address: self.address,
            prefix_length: mask,
            server: named.or(header).or_else(|| of(SERVER))?,
        })
    }
}

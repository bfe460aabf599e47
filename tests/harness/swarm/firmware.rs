//! What the bootloader of a Pi 4 does that looks at its network first: asks for files over TFTP in its order, and goes on to
//! its card when there are none. The order is that of [`crate::firmware::Model`].

use super::network::HEAD;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const READ_REQUEST: u16 = 1;
const DATA: u16 = 3;
const ACKNOWLEDGE: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS_ACKNOWLEDGED: u16 = 6;
const NOT_FOUND: u16 = 1;
/// Where TFTP listens.
const TFTP_PORT: u16 = 69;
/// The block size that a Pi 4 asks for.
const BLOCK_BYTES: usize = 1024;
/// After so long without an answer the last datagram is sent again.
const AGAIN: Duration = Duration::from_secs(1);
/// So often it is sent; the bootloader's 30 s for a file.
const TRIES: u32 = 30;

/// What is asked for when there is a boot root, below the serial number; start file first.
const OF_BOOT_ROOT: [&str; 9] = [
    "start4.elf",
    "config.txt",
    "pieeprom.sig",
    "recover4.elf",
    "fixup4.dat",
    COMMAND_LINE,
    "bcm2711-rpi-4-b.dtb",
    "kernel8.img",
    "initramfs",
];
/// What is asked for when there is no start file, before the card is booted.
const WITHOUT_PREFIX: [&str; 5] = ["config.txt", "recover4.elf", "recovery.elf", "start4.elf", "start.elf"];
const COMMAND_LINE: &str = "cmdline.txt";

/// The files that a boot root must have for [`boot`] to find one.
pub(super) const FILES: [&str; 6] =
    ["start4.elf", "config.txt", "fixup4.dat", "bcm2711-rpi-4-b.dtb", "kernel8.img", "initramfs"];

/// What a bootloader found.
#[derive(Debug)]
pub(super) enum Found {
    /// A boot root, with this kernel command line.
    BootRoot(String),
    /// Nothing: the card is booted.
    Nothing,
}

/// Looks for something to boot, as the board at `address` whose serial number ends so.
///
/// # Errors
/// When the server does not answer, or refuses.
pub(super) async fn boot(address: Ipv4Addr, serial_end: u32) -> io::Result<Found> {
    let named = |name: &str| format!("{serial_end:08x}/{name}");
    let mut command_line = None;
    for name in OF_BOOT_ROOT {
        let file = fetch(address, &named(name)).await?;
        if name == "start4.elf" && file.is_none() {
            fetch(address, &named("start.elf")).await?;
            for name in WITHOUT_PREFIX {
                fetch(address, name).await?;
            }
            return Ok(Found::Nothing);
        }
        if name == COMMAND_LINE {
            command_line = file;
        }
    }
    let missing = || io::Error::new(io::ErrorKind::NotFound, "the boot root has no command line");
    let line = String::from_utf8(command_line.ok_or_else(missing)?);
    line.map(Found::BootRoot).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A file; none: there is no such file.
async fn fetch(address: Ipv4Addr, name: &str) -> io::Result<Option<Vec<u8>>> {
    let socket = UdpSocket::bind((address, 0)).await?;
    let mut datagram = request(name);
    let mut peer = SocketAddr::from((HEAD, TFTP_PORT));
    let (mut expected, mut block_bytes, mut content) = (1u16, 512, Vec::new());
    let mut buffer = [0; BLOCK_BYTES + 4];
    let mut tries = 0;
    loop {
        if tries == TRIES {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("TFTP sends nothing of {name}")));
        }
        tries += 1;
        socket.send_to(&datagram, peer).await?;
        let Ok(received) = timeout(AGAIN, next(&socket, &mut buffer, expected)).await else { continue };
        let (kind, length, from) = received?;
        (peer, tries) = (from, 0);
        match kind {
            OPTIONS_ACKNOWLEDGED => {
                block_bytes = BLOCK_BYTES;
                datagram = acknowledge(0);
            }
            DATA => {
                content.extend_from_slice(&buffer[4..length]);
                datagram = acknowledge(expected);
                expected = expected.wrapping_add(1);
                if length - 4 < block_bytes {
                    socket.send_to(&datagram, peer).await?;
                    return Ok(Some(content));
                }
            }
            _ if word(&buffer[2..]) == NOT_FOUND => return Ok(None),
            _ => return Err(io::Error::other(format!("TFTP refuses {name}"))),
        }
    }
}

/// The next datagram that says something new.
async fn next(socket: &UdpSocket, buffer: &mut [u8], expected: u16) -> io::Result<(u16, usize, SocketAddr)> {
    loop {
        let (length, from) = socket.recv_from(buffer).await?;
        if length < 4 || from.ip() != HEAD {
            continue;
        }
        let (kind, number) = (word(buffer), word(&buffer[2..]));
        let is_new = match kind {
            DATA => number == expected,
            OPTIONS_ACKNOWLEDGED => expected == 1,
            ERROR => true,
            _ => false,
        };
        if is_new {
            return Ok((kind, length, from));
        }
    }
}

fn request(name: &str) -> Vec<u8> {
    let mut request = READ_REQUEST.to_be_bytes().to_vec();
    for text in [name, "octet", "tsize", "0", "blksize", &BLOCK_BYTES.to_string()] {
        request.extend_from_slice(text.as_bytes());
        request.push(0);
    }
    request
}

fn word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn acknowledge(block: u16) -> Vec<u8> {
    [ACKNOWLEDGE.to_be_bytes(), block.to_be_bytes()].concat()
}

//! The virtual rack: boards that boot real kernels over a real network from their own firmware, on the ports of a PoE switch
//! that speaks SNMP. What makes it go is the coordinator, as with real boards.

pub mod board;
mod machine;

pub use board::{Board, Happened, Identity};

use crate::dnsmasq::Dnsmasq;
use crate::firmware::{From, Loaded, Model};
use crate::images::arm64;
use crate::rack_network::{BRIDGE, HEAD, RackNetwork, address, tap};
use crate::switch::SimulatedSwitch;
use crate::wait::{seconds, wait_for};
use anyhow::Context as _;
use machine::Machine;
use piseduce_coordinator::netboot::dnsmasq::Host;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Weak};

/// What a card of a board holds: 4 GiB, of which only what is written takes room.
const CARD_BYTES: u64 = 4 << 30;

/// A rack. It ends with this value: every board is dark then.
pub struct VirtualRack {
    // Fields are dropped in this order: the switch lets go of the boards before they end.
    /// What powers the boards.
    pub switch: SimulatedSwitch,
    /// The boards, of which the first is number 1.
    pub boards: Arc<Vec<Board>>,
    /// What gives them their addresses.
    pub dnsmasq: Dnsmasq,
    /// What they are connected to.
    pub network: Arc<RackNetwork>,
}

impl VirtualRack {
    /// A rack with a board of each of these models, all without power.
    ///
    /// # Errors
    /// When this is not root, or a program is missing, which is named with its package.
    pub fn new(directory: &Path, models: &[Model]) -> anyhow::Result<VirtualRack> {
        let identities: Vec<Identity> =
            models.iter().zip(1..).map(|(model, number)| Identity::new(number, *model)).collect();
        let macs: Vec<String> = identities.iter().map(|identity| identity.mac.clone()).collect();
        let network = Arc::new(RackNetwork::with_taps(&macs)?);
        let mut hosts = Vec::new();
        let mut boards = Vec::new();
        for identity in identities {
            let Identity { model, mac, name, .. } = identity.clone();
            let ip = Some(address_of(identity.number)?);
            hosts.push(Host { mac, name: name.clone(), ip, is_pi3: model.is_boot_rom() });
            boards.push(Board::new(&directory.join(name), identity, CARD_BYTES, &network)?);
        }
        let boards = Arc::new(boards);
        let powered: Weak<Vec<Board>> = Arc::downgrade(&boards);
        let wire = move |port: u32, on: bool| {
            // Boards that are gone are dark.
            let Some(boards) = powered.upgrade() else { return };
            let is_its = |board: &&Board| u32::try_from(board.identity.number) == Ok(port);
            if let Some(board) = boards.iter().find(is_its) {
                board.power(on);
            }
        };
        let (dnsmasq, switch) = network.head.within(|| -> anyhow::Result<_> {
            let dnsmasq = Dnsmasq::start(&directory.join("dhcp"), BRIDGE, HEAD, &hosts)?;
            let ports = u32::try_from(boards.len()).context("a rack of a sensible size")? + 4;
            Ok((dnsmasq, SimulatedSwitch::start(ports, Box::new(wire))?))
        })?;
        for board in boards.iter() {
            switch.plug(u32::try_from(board.identity.number)?, &board.identity.mac);
        }
        Ok(VirtualRack { switch, boards, dnsmasq, network })
    }

    /// The rack as `piseduce node import` takes it. Secrets of the switch go into `directory`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn inventory(&self, directory: &Path) -> anyhow::Result<String> {
        let mut text = self.switch.entry(directory, "poe-1", "3")?;
        for board in self.boards.iter() {
            let Identity { number, name, model, serial, mac } = &board.identity;
            write!(
                text,
                "\n[[node]]\nname = \"{name}\"\nserial = \"{serial}\"\nmac = \"{mac}\"\nmodel = \"{}\"\n\
                 switch = \"poe-1\"\nport = \"{number}\"\nip = \"{}\"\n",
                model.name(),
                address_of(*number)?
            )?;
        }
        Ok(text)
    }
}

/// Seconds from power to a first process that does nothing, for the kernel of a boot root: what no boot root can beat. It runs on
/// the first board of `rack`, which must be without power, in the rack's network.
///
/// # Errors
/// When the machine cannot be started or does not come up.
pub fn idle_seconds(rack: &VirtualRack, boot_files: &Path) -> anyhow::Result<f64> {
    let scratch = tempfile::tempdir()?;
    let Identity { number, model, serial, mac, .. } = &rack.boards[0].identity;
    let machine = Machine::new(scratch.path(), *model, serial, mac, tap(*number))?;
    let read =
        |name: &str| fs::read(boot_files.join(name)).with_context(|| format!("the boot root has no {name}"));
    let loaded = Loaded {
        from: From::Network,
        kernel: read("kernel8.img")?,
        initramfs: Some(arm64::idle(&read("initramfs8")?)?),
        command_line: "console=ttyAMA0,115200 quiet loglevel=4".into(),
    };
    let (card, console) = (scratch.path().join("card.img"), scratch.path().join("console.log"));
    File::create(&card)?.set_len(CARD_BYTES)?;
    let began = seconds();
    let mut child = machine.start(&loaded, &card, &console)?;
    let said = || fs::read_to_string(&console).unwrap_or_default();
    wait_for("a bare kernel's first process", 120.0, said, |said| said.contains(arm64::IDLE));
    let took = seconds() - began;
    child.kill()?;
    child.wait()?;
    Ok(took)
}

/// The address that the board of this number gets.
///
/// # Errors
/// When there is none for it.
pub fn address_of(number: usize) -> anyhow::Result<Ipv4Addr> {
    Ok(address(
        u8::try_from(number).ok().filter(|number| *number < 90).context("a rack has room for 89 boards")?,
    ))
}

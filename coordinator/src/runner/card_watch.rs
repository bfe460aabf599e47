//! Nodes that should boot the boot root and boot their card instead: their firmware asks for nothing, and yet an SSH
//! server answers at their address. The boot root has none.

use super::{Board, Handle, NodeView};
use crate::clock;
use crate::domain::deployment::Phase;
use piseduce_protocol::state::State;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// A firmware that asks does so within this time of power-on; DHCP and a slow switch port included.
const ASKS_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long an SSH server may take to accept.
const ACCEPTS_WITHIN: Duration = Duration::from_secs(2);
/// The port of SSH.
const SSH: u16 = 22;

/// Looks after silent nodes until the runner ends. `addresses_of` knows the addresses of a hardware address.
pub async fn watch(board: Board, runner: Handle, addresses_of: fn(&str) -> Vec<IpAddr>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for node in board.all().iter().filter(|node| is_silent(node)) {
            let attributes = &node.node.attributes;
            let addresses: BTreeSet<IpAddr> = addresses_of(&attributes.mac).into_iter().collect();
            for address in addresses {
                if accepts((address, SSH).into()).await
                    && runner.card_answers(attributes.serial).await.is_err()
                {
                    return;
                }
            }
        }
    }
}

/// Whether it should have asked for the boot root by now.
fn is_silent(node: &NodeView) -> bool {
    let Some(live) = node.deployment.as_ref().map(|deployment| &deployment.live) else { return false };
    let boots = live
        .deployment
        .active()
        .is_some_and(|active| active.state == State::NfsBootOn && active.phase == Phase::Work);
    boots && !live.clocks.asked_for_files() && clock::now().since(live.clocks.phase_began) > ASKS_WITHIN
}

async fn accepts(address: SocketAddr) -> bool {
    matches!(tokio::time::timeout(ACCEPTS_WITHIN, TcpStream::connect(address)).await, Ok(Ok(_)))
}

//! Who may use what belongs to a node's boot: the address that fetched its token, and nobody else. Whoever is refused is
//! told of, and the node's deployment learns nothing of it.

use super::Shared;
use super::error::ApiError;
use crate::netboot::alarm::Wanted;
use crate::runner::NodeView;
use std::net::{IpAddr, SocketAddr};

/// Whether `peer` fetched the token of the node's present boot.
pub(super) fn check(
    shared: &Shared,
    known: &NodeView,
    wanted: Wanted,
    peer: SocketAddr,
) -> Result<(), ApiError> {
    let address = peer.ip().to_canonical();
    let holder = known.deployment.as_ref().and_then(|view| view.live.deployment.token_address());
    if holder == Some(address) {
        return Ok(());
    }
    Err(refused(shared, known, wanted, address, shared.refusals.mac_of(address)))
}

/// Whether `peer` may be the node, as far as its hardware address is known: a system that was deployed may have another
/// address than its firmware had.
pub(super) fn check_board(
    shared: &Shared,
    known: &NodeView,
    wanted: Wanted,
    peer: SocketAddr,
) -> Result<(), ApiError> {
    let address = peer.ip().to_canonical();
    match shared.refusals.mac_of(address) {
        Some(mac) if mac != known.node.attributes.mac => {
            Err(refused(shared, known, wanted, address, Some(mac)))
        }
        Some(_) | None => Ok(()),
    }
}

fn refused(
    shared: &Shared,
    known: &NodeView,
    wanted: Wanted,
    address: IpAddr,
    mac: Option<String>,
) -> ApiError {
    shared.refusals.stranger(&known.node.attributes.name, wanted, address, mac);
    ApiError::forbidden("this is for the node's own board, at the address that fetched its token")
}

//! The way to the simulated switch's agent: datagrams pass here, or are late, or lost.

use super::{Addresses, Bulk, Shared};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;

/// Larger than any datagram of SNMP here.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Passes datagrams between `door` and the agent until the runtime ends.
pub(super) async fn pass(door: UdpSocket, agent: SocketAddr, shared: Arc<Shared>) {
    let door = Arc::new(door);
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // A client that is gone shows as an error of the socket; the next one is none.
        let Ok((length, client)) = door.recv_from(&mut datagram).await else { continue };
        let request = &datagram[..length];
        {
            let mut state = shared.lock();
            let faults = &state.faults;
            let is_dropped = faults.bulk == Bulk::Dropped && is_bulk(request)
                || faults.addresses == Addresses::Silent && asks_for_addresses(request);
            if is_dropped || !state.arrives() {
                continue;
            }
        }
        let way = match ways.get(&client) {
            Some(way) => way.clone(),
            None => {
                let Ok(way) = UdpSocket::bind("127.0.0.1:0").await else { continue };
                let way = Arc::new(way);
                ways.insert(client, way.clone());
                tokio::spawn(back(way.clone(), door.clone(), client, shared.clone()));
                way
            }
        };
        // What cannot be passed on is lost, as datagrams may be.
        let _ = way.send_to(&datagram[..length], agent).await;
    }
}

/// Whether a request of version 2c is GETBULK: version and community stand before its tag.
fn is_bulk(request: &[u8]) -> bool {
    let sequence = match request.get(1) {
        Some(length) if length & 0x80 != 0 => 2 + usize::from(length & 0x7f),
        _ => 2,
    };
    let community = request.get(sequence + 4).map_or(0, |length| usize::from(*length));
    request.get(sequence + 5 + community) == Some(&0xa5)
}

/// Whether an object below dot1dTpFdbTable or dot1qTpFdbTable is asked for, in the clear.
fn asks_for_addresses(request: &[u8]) -> bool {
    const TABLES: [&[u8]; 2] = [&[0x2b, 6, 1, 2, 1, 17, 4, 3], &[0x2b, 6, 1, 2, 1, 17, 7, 1, 2, 2]];
    TABLES.iter().any(|table| request.windows(table.len()).any(|window| window == *table))
}

async fn back(way: Arc<UdpSocket>, door: Arc<UdpSocket>, client: SocketAddr, shared: Arc<Shared>) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok(length) = way.recv(&mut datagram).await else { continue };
        let delay = shared.lock().faults.delay;
        tokio::time::sleep(delay).await;
        shared.lock().in_flight -= 1;
        let _ = door.send_to(&datagram[..length], client).await;
    }
}

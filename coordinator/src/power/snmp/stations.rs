//! Which address a switch has seen at which of its bridge ports: Q-BRIDGE-MIB (RFC 4363) where there are VLANs, else
//! BRIDGE-MIB (RFC 4188).

use super::super::PowerError;
use super::client::Agent;
use super::{integer, oid};

/// dot1qTpFdbPort: table of addresses (one a VLAN or more), address → bridge port.
const BY_VLAN: &str = "1.3.6.1.2.1.17.7.1.2.2.1.2";
/// dot1dTpFdbPort: address → bridge port.
const PLAIN: &str = "1.3.6.1.2.1.17.4.3.1.2";

/// Addresses with the bridge port of each; the switch's own are left out.
pub(super) async fn read(agent: &Agent) -> Result<Vec<(String, u32)>, PowerError> {
    let mut rows = agent.table(&oid(BY_VLAN)).await?;
    if rows.is_empty() {
        rows = agent.table(&oid(PLAIN)).await?;
    }
    let seen = rows.into_iter().filter_map(|(index, value)| {
        let at = u32::try_from(integer(&value)?).ok().filter(|at| *at > 0)?;
        Some((mac(index.get(index.len().checked_sub(6)?..)?)?, at))
    });
    Ok(seen.collect())
}

/// Six numbers of an index as an address.
fn mac(numbers: &[u32]) -> Option<String> {
    let bytes: Option<Vec<u8>> = numbers.iter().map(|number| u8::try_from(*number).ok()).collect();
    let pairs: Vec<String> = bytes?.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(pairs.join(":"))
}

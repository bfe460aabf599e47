//! What the simulated switch shows to SNMP: system group, POWER-ETHERNET-MIB, Q-BRIDGE-MIB, spanning tree.

use super::{Addresses, Bulk, Refusal, Shared, State};
use async_snmp::handler::HandlerError;
use async_snmp::handler::{
    BoxFuture, GetNextResult, GetResult, HandlerResult, MibHandler, PreparedSet, RequestContext,
    SetCommitResult, SetTestError, SetTestResult, SetUndoResult,
};
use async_snmp::pdu::PduType;
use async_snmp::{Oid, Value, VarBind};
use piseduce_coordinator::clock;
use std::collections::BTreeMap;
use std::sync::Arc;

const PORT_TABLE: [u32; 10] = [1, 3, 6, 1, 2, 1, 105, 1, 1, 1];
const ADMIN: u32 = 3;
/// The table of TP-Link's private MIB: 1 on, **0** off; status 2 delivers; power in 0.1 W.
const TP_LINK: [u32; 14] = [1, 3, 6, 1, 4, 1, 11863, 6, 56, 1, 1, 2, 1, 1];
const TP_LINK_ADMIN: u32 = 2;
const GROUP: u32 = 1;
/// dot1qTpFdbEntry and dot1dTpFdbEntry.
const Q_BRIDGE: [u32; 12] = [1, 3, 6, 1, 2, 1, 17, 7, 1, 2, 2, 1];
const BRIDGE: [u32; 10] = [1, 3, 6, 1, 2, 1, 17, 4, 3, 1];
/// The VLAN that can be asked for by a community of its own.
pub(super) const VLAN: u16 = 10;

/// The view of a switch.
pub(super) struct Mib {
    pub(super) shared: Arc<Shared>,
}

fn below(root: &[u32], rest: &[u32]) -> Vec<u32> {
    [root, rest].concat()
}

/// Everything that the switch shows now.
fn view(state: &State, vlan: Option<u16>) -> BTreeMap<Vec<u32>, Value> {
    let mut rows = BTreeMap::new();
    let now = clock::now();
    let mut put = |root: &[u32], rest: &[u32], value: Value| {
        rows.insert(below(root, rest), value);
    };
    let hundredths =
        u32::try_from((now.since(state.started) + state.ran_before).as_millis() / 10).unwrap_or(u32::MAX);
    put(&[1, 3, 6, 1, 2, 1, 1, 1, 0], &[], Value::OctetString(b"PiSeduce simulated switch".to_vec().into()));
    // Without a vendor's number of its own it shows net-snmp's.
    put(
        &[1, 3, 6, 1, 2, 1, 1, 2, 0],
        &[],
        Value::ObjectIdentifier(Oid::from_slice(&[1, 3, 6, 1, 4, 1, 8072, 3, 2, 10])),
    );
    put(&[1, 3, 6, 1, 2, 1, 1, 3, 0], &[], Value::TimeTicks(hundredths));
    let mut used_mw = 0;
    for (port, outlet) in &state.outlets {
        let delivering = outlet.delivers_from.is_some_and(|from| from <= now);
        let detection = match (outlet.admin, delivering) {
            _ if state.faults.stuck.contains(port) => 2,
            (_, true) => 3,
            (false, false) => 1,
            (true, false) if outlet.denied => 4,
            (true, false) => 2,
        };
        put(&PORT_TABLE, &[ADMIN, GROUP, *port], Value::Integer(if outlet.admin { 1 } else { 2 }));
        put(&PORT_TABLE, &[6, GROUP, *port], Value::Integer(detection));
        put(&PORT_TABLE, &[10, GROUP, *port], Value::Integer(4));
        put(&[1, 3, 6, 1, 2, 1, 17, 2, 19, 1, 3], &[*port], Value::Integer(if *port == 1 { 2 } else { 1 }));
        // dot1dBasePortIfIndex and ifName.
        let index = 100 + *port;
        put(&[1, 3, 6, 1, 2, 1, 17, 1, 4, 1, 2], &[*port], Value::Integer(i32::try_from(index).unwrap_or(0)));
        let name = format!("ge1/0/{port}");
        put(&[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1], &[index], Value::OctetString(name.into_bytes().into()));
        let tenths = if delivering { i32::try_from(outlet.draws_mw / 100).unwrap_or(i32::MAX) } else { 0 };
        put(&TP_LINK, &[TP_LINK_ADMIN, *port], Value::Integer(i32::from(outlet.admin)));
        put(&TP_LINK, &[7, *port], Value::Integer(tenths));
        put(&TP_LINK, &[11, *port], Value::Integer(if delivering { 2 } else { 0 }));
        put(&[1, 3, 6, 1, 2, 1, 17, 2, 15, 1, 3], &[*port], Value::Integer(5));
        put(&[1, 3, 6, 1, 2, 1, 17, 2, 15, 1, 4], &[*port], Value::Integer(if *port == 1 { 1 } else { 2 }));
        if delivering {
            used_mw += outlet.draws_mw;
        }
    }
    put(&[1, 3, 6, 1, 2, 1, 105, 1, 3, 1, 1, 2, GROUP], &[], Value::Gauge32(370));
    let watts = u32::try_from(used_mw / 1000).unwrap_or(u32::MAX);
    put(&[1, 3, 6, 1, 2, 1, 105, 1, 3, 1, 1, 4, GROUP], &[], Value::Gauge32(watts));
    // dot1qVlanStaticRowStatus.
    put(&[1, 3, 6, 1, 2, 1, 17, 7, 1, 4, 3, 1, 5], &[u32::from(VLAN)], Value::Integer(1));
    show_addresses(state, vlan, &mut rows);
    rows
}

/// The table of addresses as the switch is told to show it.
fn show_addresses(state: &State, vlan: Option<u16>, rows: &mut BTreeMap<Vec<u32>, Value>) {
    let (by_vlan, plain) = (below(&Q_BRIDGE, &[2, 1]), below(&BRIDGE, &[2]));
    let now = clock::now();
    let at_port = state.outlets.iter().filter_map(|(port, outlet)| {
        let is_seen = outlet.delivers_from.is_some_and(|from| from <= now);
        Some((*port, outlet.board.clone()?)).filter(|_| is_seen && !state.faults.hidden.contains(port))
    });
    // Whoever asks is behind the uplink, and so is everybody else of the house.
    let uplink = state.outlets.keys().last().map_or(1, |last| last + 1);
    let house = (0..=state.faults.strangers).map(|number| {
        let [.., high, low] = number.to_be_bytes();
        (uplink, format!("02:00:5e:00:{high:02x}:{low:02x}"))
    });
    for (row, (port, board)) in (1..).zip(at_port.chain(house)) {
        let mac: Vec<u32> = board.split(':').filter_map(|pair| u32::from_str_radix(pair, 16).ok()).collect();
        let at = Value::Integer(i32::try_from(port).unwrap_or_default());
        match state.faults.addresses {
            Addresses::ByVlan => drop(rows.insert(below(&by_vlan, &mac), at)),
            Addresses::ByAddress => drop(rows.insert(below(&plain, &mac), at)),
            Addresses::InVlan(there) if vlan == Some(there) => drop(rows.insert(below(&plain, &mac), at)),
            Addresses::ByRow => {
                let bytes: Vec<u8> = mac.iter().filter_map(|number| u8::try_from(*number).ok()).collect();
                rows.insert(below(&BRIDGE, &[1, row]), Value::OctetString(bytes.into()));
                rows.insert(below(&plain, &[row]), at);
            }
            Addresses::InVlan(_) | Addresses::Hidden | Addresses::Silent => {}
        }
    }
}

/// In which VLAN a request asks.
fn vlan(context: &RequestContext) -> Option<u16> {
    let name = String::from_utf8_lossy(context.security_name().as_bytes()).into_owned();
    let of_context = String::from_utf8_lossy(context.context_name()).into_owned();
    let of_community = name.split_once('@').map(|(_, vlan)| vlan.to_owned());
    of_community.or(of_context.strip_prefix("vlan-").map(Into::into))?.parse().ok()
}

impl MibHandler for Mib {
    fn get<'a>(
        &'a self,
        context: &'a RequestContext,
        oid: &'a Oid,
    ) -> BoxFuture<'a, HandlerResult<GetResult>> {
        Box::pin(async move {
            let rows = view(&self.shared.lock(), vlan(context));
            Ok(rows.get(oid.arcs()).cloned().map_or(GetResult::NoSuchInstance, GetResult::Value))
        })
    }

    fn get_next<'a>(
        &'a self,
        context: &'a RequestContext,
        oid: &'a Oid,
    ) -> BoxFuture<'a, HandlerResult<GetNextResult>> {
        Box::pin(async move {
            let state = self.shared.lock();
            if context.pdu_type() == PduType::GetBulkRequest && state.faults.bulk == Bulk::Refused {
                return Err(HandlerError::new("no GETBULK here"));
            }
            let rows = view(&state, vlan(context));
            use std::ops::Bound::{Excluded, Unbounded};
            let next = rows.range::<[u32], _>((Excluded(oid.arcs()), Unbounded)).next();
            Ok(next.map_or(GetNextResult::EndOfMibView, |(at, value)| {
                GetNextResult::Value(VarBind::new(Oid::from_slice(at), value.clone()))
            }))
        })
    }

    fn test_set<'a>(
        &'a self,
        _: &'a RequestContext,
        oid: &'a Oid,
        value: &'a Value,
    ) -> BoxFuture<'a, SetTestResult> {
        Box::pin(async move {
            let admin = below(&PORT_TABLE, &[ADMIN, GROUP]);
            let private = below(&TP_LINK, &[TP_LINK_ADMIN]);
            let standard = oid.arcs().strip_prefix(admin.as_slice()).map(|rest| (rest, 2));
            let private = || oid.arcs().strip_prefix(private.as_slice()).map(|rest| (rest, 0));
            let Some(([port], off)) = standard.or_else(private) else {
                return Err(SetTestError::NotWritable);
            };
            let state = self.shared.lock();
            if !state.outlets.contains_key(port) {
                return Err(SetTestError::NoCreation);
            }
            match (state.faults.refuse, value) {
                (Some(Refusal::NotWritable), _) => Err(SetTestError::NotWritable),
                (Some(Refusal::GeneralFailure), _) => Err(SetTestError::GeneralFailure),
                (None, Value::Integer(value)) if *value == 1 || *value == off => {
                    let set = Set { shared: self.shared.clone(), port: *port, on: *value == 1 };
                    Ok(Box::new(set) as Box<dyn PreparedSet>)
                }
                (None, Value::Integer(_)) => Err(SetTestError::WrongValue),
                (None, _) => Err(SetTestError::WrongType),
            }
        })
    }
}

struct Set {
    shared: Arc<Shared>,
    port: u32,
    on: bool,
}

impl PreparedSet for Set {
    fn commit<'a>(
        &'a mut self,
        _: &'a RequestContext,
        _: &'a Oid,
        _: &'a Value,
    ) -> BoxFuture<'a, SetCommitResult> {
        Box::pin(async move {
            self.shared.set(self.port, self.on);
            Ok(())
        })
    }

    fn undo<'a>(
        &'a mut self,
        _: &'a RequestContext,
        _: &'a Oid,
        _: &'a Value,
    ) -> BoxFuture<'a, SetUndoResult> {
        Box::pin(async move {
            self.shared.set(self.port, !self.on);
            Ok(())
        })
    }
}

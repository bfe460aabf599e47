//! What vendors' switches are asked for. Nothing here was tried on the vendor's hardware: the numbers are those of
//! the MIBs and programs that `firmware-notes/poe-ports.md` names, the mechanism was tried against net-snmp.

use crate::domain::driver::{SnmpObjects, SnmpPreset};

/// POWER-ETHERNET-MIB (RFC 3621), the port table: column, group, port.
pub(super) const PORT_TABLE: &str = "1.3.6.1.2.1.105.1.1.1";
/// The main table of the same: nominal power in watts, consumption in watts.
pub(super) const MAIN_NOMINAL: &str = "1.3.6.1.2.1.105.1.3.1.1.2";
pub(super) const MAIN_CONSUMPTION: &str = "1.3.6.1.2.1.105.1.3.1.1.4";

/// pethPsePortDetectionStatus: delivering power.
const DELIVERING: i32 = 3;

/// RFC 3621, with the column or object that says how many milliwatts a port delivers.
fn standard(watts: Option<&str>) -> SnmpObjects {
    SnmpObjects {
        admin: format!("{PORT_TABLE}.3.{{group}}.{{port}}"),
        on: 1,
        off: 2,
        status: Some(format!("{PORT_TABLE}.6.{{group}}.{{port}}")),
        delivering: vec![DELIVERING],
        watts: watts.map(Into::into),
        watts_unit_mw: 1,
    }
}

/// The objects of a preset.
pub(super) fn objects(preset: SnmpPreset) -> SnmpObjects {
    match preset {
        SnmpPreset::Standard => standard(None),
        // CISCO-POWER-ETHERNET-EXT-MIB cpeExtPsePortPwrConsumption, mW.
        SnmpPreset::Cisco => standard(Some("1.3.6.1.4.1.9.9.402.1.2.1.9.{group}.{port}")),
        // HP-ICF-POE-MIB hpicfPoePethPsePortPower, mW.
        SnmpPreset::Procurve => standard(Some("1.3.6.1.4.1.11.2.14.11.1.9.1.1.1.3.{group}.{port}")),
        // HH3C-POWER-ETH-EXT-MIB hh3cPsePortCurrentPower, mW.
        SnmpPreset::Comware => standard(Some("1.3.6.1.4.1.25506.2.14.1.1.5.{group}.{port}")),
        // NETGEAR-POWER-ETHERNET-MIB agentPethOutputPower, mW.
        SnmpPreset::Netgear => standard(Some("1.3.6.1.4.1.4526.10.15.1.1.1.2.{group}.{port}")),
        // TPLINK-POWER-OVER-ETHERNET-MIB: tpPoePortStatus 1 on, 0 off; tpPoePowerStatus 2 on; tpPoePower 0.1 W.
        SnmpPreset::TpLink => SnmpObjects {
            admin: "1.3.6.1.4.1.11863.6.56.1.1.2.1.1.2.{port}".into(),
            on: 1,
            off: 0,
            status: Some("1.3.6.1.4.1.11863.6.56.1.1.2.1.1.11.{port}".into()),
            delivering: vec![2],
            watts: Some("1.3.6.1.4.1.11863.6.56.1.1.2.1.1.7.{port}".into()),
            watts_unit_mw: 100,
        },
        // A user's report; it shows no state but the one that is set.
        SnmpPreset::Luxul => SnmpObjects {
            admin: "1.3.6.1.4.1.57353.2.10.1.4.1.2.{port}".into(),
            on: 1,
            off: 2,
            status: None,
            delivering: vec![],
            watts: None,
            watts_unit_mw: 1,
        },
    }
}

/// How many milliwatts the consumption in the main table counts by: watts by RFC 3621, but milliwatts at Netgear.
pub(super) fn main_unit_mw(preset: SnmpPreset) -> u64 {
    if preset == SnmpPreset::Netgear { 1 } else { 1000 }
}

/// What a value of pethPsePortDetectionStatus means.
pub(super) fn detection(value: i32) -> String {
    match value {
        // Extreme's switches say 0.
        0 | 1 => "disabled".into(),
        2 => "searching".into(),
        3 => "delivering".into(),
        4 => "fault".into(),
        5 => "test".into(),
        6 => "other fault".into(),
        other => format!("status {other}"),
    }
}

/// The preset for a switch whose sysObjectID stands below this vendor's number, and what is known of it.
pub(super) fn by_vendor(number: u32) -> Option<(SnmpPreset, &'static str)> {
    Some(match number {
        9 => (SnmpPreset::Cisco, "Cisco"),
        11 => (SnmpPreset::Procurve, "Hewlett-Packard"),
        25506 => (SnmpPreset::Comware, "H3C"),
        4526 => (SnmpPreset::Netgear, "Netgear"),
        11863 => (SnmpPreset::TpLink, "TP-Link"),
        57353 => (SnmpPreset::Luxul, "Luxul"),
        171 => (
            SnmpPreset::Standard,
            "D-Link, which forgets its ports at a restart unless its settings are saved",
        ),
        47196 => (SnmpPreset::Standard, "Aruba"),
        2636 => (SnmpPreset::Standard, "Juniper, whose PoE can only be read by SNMP: use `command`"),
        14988 => (SnmpPreset::Standard, "MikroTik, whose PoE can only be read by SNMP: use `command`"),
        8072 => (SnmpPreset::Standard, "net-snmp"),
        _ => return None,
    })
}

//! Settings of the `snmp` driver: a PoE switch with a management address. Which objects it is asked for comes
//! from a preset or is written out here; what the presets are stands in [`crate::power`].

use super::DriverError;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A PoE switch that speaks SNMP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnmpSettings {
    /// Name or IP address, and UDP port if it is not 161.
    pub address: String,
    /// The protocol version.
    pub version: SnmpVersion,
    /// A TOML file of mode 0600 on the head node with `community`, or with `user`, `auth`, `auth_password`, `privacy`,
    /// `privacy_password`.
    pub secrets: PathBuf,
    /// The group (module, stack member) of outlets that are named without one.
    #[serde(default = "first_group")]
    pub group: u32,
    /// Whose objects these are.
    #[serde(default)]
    pub preset: SnmpPreset,
    /// Objects to ask for instead of the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<SnmpObjects>,
    /// What is added to an outlet's number to get the number that the switch's table of addresses has for it.
    #[serde(default)]
    pub bridge_offset: i32,
    /// The same for other groups of a stack. With it every outlet's bridge port is known, and others are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bridge_offsets: Vec<GroupOffset>,
    /// VLANs whose addresses the switch shows only to a community or context of their own: `community@VLAN`, and by
    /// version 3 the context `vlan-VLAN`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<u16>,
    /// Whether that table is believed: a node that it shows elsewhere is not switched.
    #[serde(default = "yes")]
    pub check_stations: bool,
}

/// How one group of a stack counts its bridge ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupOffset {
    /// The group.
    pub group: u32,
    /// What is added to the number of one of its outlets to get its bridge port.
    pub offset: i32,
}

fn first_group() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// A version of SNMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnmpVersion {
    /// Community, no 64-bit values, no reasons but five.
    #[serde(rename = "1")]
    V1,
    /// Community.
    #[serde(rename = "2c")]
    V2c,
    /// A user, authenticated and encrypted.
    #[serde(rename = "3")]
    V3,
}

/// Vendors whose switches differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnmpPreset {
    /// POWER-ETHERNET-MIB (RFC 3621): D-Link, Aruba, Cisco CBS, most others.
    #[default]
    Standard,
    /// Cisco IOS.
    Cisco,
    /// HP ProCurve and ArubaOS-Switch.
    Procurve,
    /// HPE Comware and H3C.
    Comware,
    /// Netgear's managed switches.
    Netgear,
    /// TP-Link JetStream.
    TpLink,
    /// Luxul.
    Luxul,
}

/// Object identifiers with `{group}` and `{port}`, and what their values mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnmpObjects {
    /// What switches an outlet.
    pub admin: String,
    /// Its value that means on.
    pub on: i32,
    /// Its value that means off.
    pub off: i32,
    /// What says whether an outlet delivers power.
    #[serde(default)]
    pub status: Option<String>,
    /// Its values that mean that it does.
    #[serde(default)]
    pub delivering: Vec<i32>,
    /// What says how much power an outlet delivers.
    #[serde(default)]
    pub watts: Option<String>,
    /// How many milliwatts its value 1 stands for.
    #[serde(default = "one_milliwatt")]
    pub watts_unit_mw: u32,
}

fn one_milliwatt() -> u32 {
    1
}

/// An object identifier may hold this and the placeholders.
fn is_template(text: &str) -> bool {
    let plain = text.replace("{group}", "1").replace("{port}", "1");
    let numbers = plain.split('.').map(str::parse::<u32>);
    text.contains("{port}") && plain.starts_with("1.3.6.1.") && numbers.clone().all(|number| number.is_ok())
}

impl SnmpSettings {
    /// What is added to the numbers of a group's outlets to get their bridge ports; none: that is not known.
    pub fn offset_of(&self, group: u32) -> Option<i32> {
        let listed = self.bridge_offsets.iter().find(|listed| listed.group == group);
        if group == self.group { Some(self.bridge_offset) } else { listed.map(|listed| listed.offset) }
    }

    /// The bridge port of an outlet; none: that is not known.
    pub fn bridge_port(&self, port: &str) -> Option<u32> {
        let (group, number) = match port.split_once('/') {
            Some((group, number)) => (group.parse().ok()?, number),
            None => (self.group, port),
        };
        number.parse::<u32>().ok()?.checked_add_signed(self.offset_of(group)?)
    }

    /// An outlet in its one form: `7`, or `2/7` in another group than the switch's own.
    pub(super) fn port(&self, port: &str) -> Result<String, String> {
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0);
        let (group, outlet) = match port.split_once('/') {
            Some((group, outlet)) => (group.parse().ok(), number(outlet)),
            None => (Some(self.group), number(port)),
        };
        match (group, outlet) {
            (Some(group), Some(outlet)) if group == self.group => Ok(outlet.to_string()),
            (Some(group), Some(outlet)) => Ok(format!("{group}/{outlet}")),
            _ => Err("a number such as 7, or 2/7 for outlet 7 of group 2".into()),
        }
    }

    pub(super) fn check(&self) -> Result<(), DriverError> {
        let wrong = |key, found: &str, allowed: &str| {
            Err(DriverError { driver: "snmp", key, found: format!("`{found}`"), allowed: allowed.into() })
        };
        if self.address.trim().is_empty() || self.address.contains("://") {
            return wrong("address", &self.address, "a name or IP address such as 10.0.0.2, or 10.0.0.2:161");
        }
        if !self.secrets.is_absolute() {
            let found = self.secrets.to_string_lossy();
            return wrong("secrets", &found, "the absolute path of a file on the head node");
        }
        let mut groups = std::collections::BTreeSet::from([self.group]);
        if let Some(twice) = self.bridge_offsets.iter().find(|listed| !groups.insert(listed.group)) {
            let found = format!("group {}", twice.group);
            return wrong(
                "bridge_offsets",
                &found,
                "each group once, and `bridge_offset` for that of `group`",
            );
        }
        // 0 and 4095 are reserved (IEEE 802.1Q).
        if let Some(vlan) = self.vlans.iter().find(|vlan| !(1..=4094).contains(*vlan)) {
            return wrong("vlans", &vlan.to_string(), "numbers of VLANs, 1 to 4094");
        }
        let Some(objects) = &self.objects else { return Ok(()) };
        let templates =
            [("objects.admin", Some(&objects.admin)), ("objects.status", objects.status.as_ref())];
        for (key, template) in templates.into_iter().chain([("objects.watts", objects.watts.as_ref())]) {
            let template = template.filter(|template| !is_template(template));
            if let Some(template) = template {
                return wrong(
                    key,
                    template,
                    "numbers with dots from 1.3.6.1 on, with {port} and perhaps {group}",
                );
            }
        }
        if objects.on == objects.off {
            return wrong("objects.off", &objects.off.to_string(), "another value than `objects.on`");
        }
        if objects.status.is_some() && objects.delivering.is_empty() {
            return wrong(
                "objects.delivering",
                "[]",
                "the values of `objects.status` that mean that power is on",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str) -> Result<(), String> {
        let lines = format!("address = \"sw\"\nversion = \"2c\"\nsecrets = \"/etc/s\"\n{lines}");
        toml::from_str::<SnmpSettings>(&lines)
            .map_err(|error| error.to_string())?
            .check()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_outlet_has_one_name() {
        let lines = "address = \"sw\"\nversion = \"2c\"\nsecrets = \"/etc/s\"\ngroup = 2";
        let settings = toml::from_str::<SnmpSettings>(lines).unwrap();
        for (given, expected) in [
            ("7", Some("7")),
            ("07", Some("7")),
            ("2/7", Some("7")),
            ("1/7", Some("1/7")),
            ("01/07", Some("1/7")),
        ] {
            assert_eq!(settings.port(given).ok().as_deref(), expected, "{given}");
        }
        for given in ["", "0", "x", "1/", "/7", "1/2/3", "-1", "eth7"] {
            assert!(settings.port(given).is_err(), "{given}");
        }
    }

    #[test]
    fn the_bridge_port_of_an_outlet_is_known_where_its_groups_offset_is() {
        let lines = "address = \"sw\"\nversion = \"2c\"\nsecrets = \"/etc/s\"\n\
                     bridge_offsets = [{ group = 2, offset = 56 }]";
        let settings = toml::from_str::<SnmpSettings>(lines).unwrap();
        for (port, expected) in [("7", Some(7)), ("2/25", Some(81)), ("3/1", None), ("x", None)] {
            assert_eq!(settings.bridge_port(port), expected, "{port}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert_eq!(check("preset = \"tp_link\"\nbridge_offset = -2"), Ok(()));
        assert_eq!(check("[objects]\nadmin = \"1.3.6.1.4.1.9.{group}.{port}\"\non = 1\noff = 2"), Ok(()));
        for (lines, names) in [
            ("preset = \"tplink\"", "tp_link"),
            ("community = \"public\"", "community"),
            ("vlans = [10, 4095]", "vlans"),
            ("bridge_offsets = [{ group = 1, offset = 2 }]", "bridge_offsets"),
            ("[objects]\nadmin = \"1.3.6.1.4.1.9\"\non = 1\noff = 2", "objects.admin"),
            ("[objects]\nadmin = \"1.3.6.1.x.{port}\"\non = 1\noff = 2", "objects.admin"),
            ("[objects]\nadmin = \"1.3.6.1.4.{port}\"\non = 1\noff = 1", "objects.off"),
            (
                "[objects]\nadmin = \"1.3.6.1.4.{port}\"\non = 1\noff = 2\nstatus = \"1.3.6.1.5.{port}\"",
                "delivering",
            ),
        ] {
            let error = check(lines).unwrap_err();
            assert!(error.contains(names), "{lines}: {error}");
        }
    }
}

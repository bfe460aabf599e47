//! The `snmp` driver: a managed PoE switch, by SNMP v1, v2c or v3. Tried against net-snmp 5.9.3 and against a
//! simulated switch; not tried on a vendor's hardware.

mod bridge;
mod client;
mod detect;
mod presets;
mod stations;

pub use detect::{Detected, detect, held_back};

use super::{AddressTable, Answer, Port, PortView, Power, PowerError, PowerSwitch, Reading, Station, Supply};
use crate::domain::driver::{SnmpObjects, SnmpSettings};
use async_snmp::{Oid, Value};
use client::Agent;
use stations::Sightings;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::OnceCell;

/// sysUpTime: since when the agent runs, in hundredths of a second.
const SYS_UP_TIME: &str = "1.3.6.1.2.1.1.3.0";

/// pethPsePortPowerClassifications of RFC 3621 is the class and one.
const CLASS_COLUMN: u32 = 10;

/// A PoE switch behind its SNMP agent.
pub(super) struct SnmpSwitch {
    settings: SnmpSettings,
    objects: SnmpObjects,
    agent: Agent,
    /// The same in VLANs whose addresses it does not show otherwise.
    in_vlans: Vec<Agent>,
    /// The outlets of a stack, by bridge port; read once.
    outlets: OnceCell<BTreeMap<u32, Vec<String>>>,
}

/// An object identifier of ours.
fn oid(text: &str) -> Oid {
    Oid::parse(text).expect("identifiers are checked when they are registered, or stand here")
}

fn integer(value: &Value) -> Option<i32> {
    value.as_i32().or_else(|| value.as_u32().and_then(|value| value.try_into().ok()))
}

impl SnmpSwitch {
    pub(super) fn new(settings: &SnmpSettings) -> Self {
        let objects = settings.objects.clone().unwrap_or_else(|| presets::objects(settings.preset));
        let in_vlans = settings.vlans.iter().map(|vlan| Agent::in_vlan(settings, *vlan)).collect();
        SnmpSwitch {
            objects,
            agent: Agent::new(settings),
            in_vlans,
            outlets: OnceCell::new(),
            settings: settings.clone(),
        }
    }

    /// Group and number of an outlet: `7`, or `2/7` where the group is not the usual one.
    fn place(&self, port: &str) -> Result<(u32, u32), PowerError> {
        let (group, number) =
            port.split_once('/').map_or((None, port), |(group, number)| (Some(group), number));
        let group = group.map_or(Ok(self.settings.group), str::parse);
        match (group, number.parse()) {
            (Ok(group), Ok(number)) => Ok((group, number)),
            _ => Err(PowerError::Refused(format!(
                "port `{port}` cannot be: a number, or group/number such as 2/7, is what this switch has"
            ))),
        }
    }

    fn object(&self, template: &str, port: &str) -> Result<Oid, PowerError> {
        let (group, number) = self.place(port)?;
        Ok(oid(&template.replace("{group}", &group.to_string()).replace("{port}", &number.to_string())))
    }

    fn reading(
        &self,
        port: &str,
        admin: Option<&Value>,
        status: Option<&Value>,
    ) -> Result<Reading, PowerError> {
        let SnmpObjects { on, off, delivering, .. } = &self.objects;
        let refused = |what: &str| Err(PowerError::Refused(format!("port {port}: {what}")));
        let on = match admin.map(integer) {
            None => return refused("the switch has no such port"),
            Some(Some(value)) if value == *on => true,
            Some(Some(value)) if value == *off => false,
            Some(_) => return refused("what the switch says of it is neither on nor off"),
        };
        let status = status.and_then(integer);
        Ok(Reading { on, delivering: status.map(|status| delivering.contains(&status)) })
    }

    /// A column of the switch's ports, by outlet; empty for one that it does not have.
    async fn column(&self, template: &str) -> Result<BTreeMap<String, Value>, PowerError> {
        let Some(before) = template.strip_suffix(".{port}") else { return Ok(BTreeMap::new()) };
        let (root, grouped) = match before.strip_suffix(".{group}") {
            Some(root) => (root.to_owned(), true),
            None => (before.replace("{group}", &self.settings.group.to_string()), false),
        };
        let rows = self.agent.table(&oid(&root)).await?.rows.into_iter();
        Ok(rows
            .filter_map(|(index, value)| match (index.as_slice(), grouped) {
                ([group, number], true) => Some((self.name(*group, *number), value)),
                ([number], false) => Some((number.to_string(), value)),
                _ => None,
            })
            .collect())
    }

    fn name(&self, group: u32, number: u32) -> String {
        if group == self.settings.group { number.to_string() } else { format!("{group}/{number}") }
    }

    /// Everything that shows addresses.
    fn contexts(&self) -> Vec<&Agent> {
        std::iter::once(&self.agent).chain(&self.in_vlans).collect()
    }

    async fn at_outlets(&self, found: Sightings) -> Result<AddressTable, PowerError> {
        let Sightings { seen, mut gap } = found;
        let mut stations = Vec::new();
        if self.settings.bridge_offsets.is_empty() {
            for (mac, at) in seen {
                let number = i64::from(at) - i64::from(self.settings.bridge_offset);
                if let Ok(number) = u32::try_from(number) {
                    stations.push(Station { mac, port: number.to_string() });
                }
            }
            return Ok(AddressTable { stations, gap });
        }
        let outlets = self.outlets.get_or_try_init(|| self.outlets_by_bridge_port()).await?;
        for (mac, at) in seen {
            let port = match outlets.get(&at).map(Vec::as_slice) {
                Some([port]) => port.clone(),
                Some(several) => {
                    let several = several.join(" and ");
                    gap.get_or_insert(format!("by `bridge_offsets` outlets {several} are one bridge port"));
                    continue;
                }
                None => format!("bridge port {at}"),
            };
            stations.push(Station { mac, port });
        }
        Ok(AddressTable { stations, gap })
    }

    async fn outlets_by_bridge_port(&self) -> Result<BTreeMap<u32, Vec<String>>, PowerError> {
        let mut outlets: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for port in self.column(&self.objects.admin).await?.into_keys() {
            if let Some(at) = self.settings.bridge_port(&port) {
                outlets.entry(at).or_default().push(port);
            }
        }
        Ok(outlets)
    }

    async fn all_ports(&self) -> Result<Vec<PortView>, PowerError> {
        let SnmpObjects { admin, status, watts, watts_unit_mw, .. } = &self.objects;
        let rows = self.column(admin).await?;
        let mut columns = Vec::new();
        for template in [status, watts, &Some(class_template())] {
            columns.push(match template {
                Some(template) => self.column(template).await?,
                None => BTreeMap::new(),
            });
        }
        let [statuses, watts, classes] = columns.try_into().expect("three were asked for");
        let is_standard = status.as_ref().is_some_and(|status| status.starts_with(presets::PORT_TABLE));
        let mut ports: Vec<PortView> = rows
            .into_iter()
            .map(|(port, value)| {
                let status = statuses.get(&port);
                let reading = self.reading(&port, Some(&value), status).ok();
                let delivering = reading.and_then(|reading| reading.delivering);
                let detection = status.and_then(integer).map(|status| match is_standard {
                    true => presets::detection(status),
                    false => format!("status {status}"),
                });
                let class = classes.get(&port).and_then(integer).filter(|_| delivering == Some(true));
                PortView {
                    on: reading.map(|reading| reading.on),
                    delivering,
                    detection,
                    class: class.and_then(|class| u8::try_from(class - 1).ok()),
                    milliwatts: watts
                        .get(&port)
                        .and_then(integer)
                        .and_then(|value| u64::try_from(value).ok())
                        .map(|value| value * u64::from(*watts_unit_mw)),
                    port,
                }
            })
            .collect();
        ports.sort_by_key(|port| self.place(&port.port).unwrap_or_default());
        Ok(ports)
    }

    async fn all_supplies(&self) -> Result<Vec<Supply>, PowerError> {
        let nominal = self.agent.table(&oid(presets::MAIN_NOMINAL)).await?.rows;
        let used = self.agent.table(&oid(presets::MAIN_CONSUMPTION)).await?.rows;
        let used: BTreeMap<Vec<u32>, Value> = used.into_iter().collect();
        let unit = presets::main_unit_mw(self.settings.preset);
        Ok(nominal
            .into_iter()
            .filter_map(|(index, nominal)| {
                let used = used.get(&index).and_then(integer).unwrap_or(0);
                let nominal_watts = integer(&nominal)?.try_into().ok()?;
                Some(Supply { nominal_watts, used_milliwatts: u64::try_from(used).unwrap_or(0) * unit })
            })
            .collect())
    }
}

fn class_template() -> String {
    format!("{}.{CLASS_COLUMN}.{{group}}.{{port}}", presets::PORT_TABLE)
}

impl PowerSwitch for SnmpSwitch {
    fn set<'a>(&'a self, port: &'a Port, power: Power) -> Answer<'a, ()> {
        Box::pin(async move {
            let value = match power {
                Power::On => self.objects.on,
                Power::Off => self.objects.off,
            };
            self.agent.set(&self.object(&self.objects.admin, &port.port)?, value).await
        })
    }

    fn read<'a>(&'a self, port: &'a Port) -> Answer<'a, Reading> {
        Box::pin(async move {
            let mut asked = vec![self.object(&self.objects.admin, &port.port)?];
            if let Some(status) = &self.objects.status {
                asked.push(self.object(status, &port.port)?);
            }
            let values = self.agent.get(&asked).await?;
            let value = |at: usize| values.get(at).and_then(Option::as_ref);
            self.reading(&port.port, value(0), value(1))
        })
    }

    fn ports(&self) -> Answer<'_, Option<Vec<PortView>>> {
        Box::pin(async { self.all_ports().await.map(Some) })
    }

    fn supplies(&self) -> Answer<'_, Vec<Supply>> {
        Box::pin(self.all_supplies())
    }

    fn stations(&self) -> Answer<'_, Option<AddressTable>> {
        Box::pin(async {
            if !self.settings.check_stations {
                return Ok(None);
            }
            let seen = stations::read(&self.contexts()).await?;
            self.at_outlets(seen).await.map(Some)
        })
    }

    fn locate<'a>(&'a self, macs: &'a [String]) -> Answer<'a, Option<AddressTable>> {
        Box::pin(async {
            if !self.settings.check_stations {
                return Ok(None);
            }
            let seen = stations::locate(&self.contexts(), macs).await?;
            self.at_outlets(seen).await.map(Some)
        })
    }

    fn uptime(&self) -> Answer<'_, Option<Duration>> {
        Box::pin(async {
            let values = self.agent.get(&[oid(SYS_UP_TIME)]).await?;
            Ok(values.first().and_then(Option::as_ref).and_then(Value::as_duration))
        })
    }
}

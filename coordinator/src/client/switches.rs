//! `piseduce switch`.

use super::connection::{Connection, level};
use super::error::ClientError;
use super::tables;
use crate::api::{
    DetectRequest, DetectedView, ImportedView, RenameRequest, SwitchDetails, SwitchEntry, SwitchView,
    SwitchedView,
};
use crate::domain::driver::{Driver, SnmpPreset, SnmpSettings, SnmpVersion};
use crate::print::{Output, Screen};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// `piseduce switch`.
#[derive(Clone, Debug, Subcommand)]
pub enum SwitchCommand {
    /// All switches
    List,
    /// Everything that a switch shows: ports, power, addresses, nodes
    Show {
        /// The switch's name
        switch: String,
    },
    /// What each port delivers now
    Watts {
        /// The switch's name
        switch: String,
    },
    /// Register a PoE switch that speaks SNMP; other drivers are registered by `node import`
    Add {
        /// Its name
        name: String,
        #[command(flatten)]
        snmp: Snmp,
        /// Whose objects: standard, cisco, procurve, comware, netgear, tp_link or luxul
        #[arg(long, default_value = "standard", value_parser = named::<SnmpPreset>)]
        preset: SnmpPreset,
        /// What is added to a port's number to get its bridge port; `detect` finds it
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        bridge_offset: i32,
        /// What all ports together may deliver, in watts
        #[arg(long)]
        budget_watts: Option<u32>,
        /// A port that nobody switches: the head node's, an uplink; may be given more than once
        #[arg(long = "protect", value_name = "PORT")]
        protected_ports: Vec<String>,
    },
    /// Give a switch another name; its nodes stay at it
    Rename {
        /// The switch's name
        switch: String,
        /// Its new name
        name: String,
    },
    /// Remove a switch that powers no node
    Remove {
        /// The switch's name
        switch: String,
    },
    /// Look at a PoE switch and print how to register it
    Detect(Snmp),
    /// Switch ports on, one after the other as admission lets them
    On(Ports),
    /// Switch ports off
    Off(Ports),
    /// Switch ports off and on again
    Cycle(Ports),
    /// Say that a port of a `manual` switch is switched as its node's wait asks for
    Done {
        /// The switch's name
        switch: String,
        /// The port in the switch's own words
        port: String,
    },
}

/// How an SNMP agent is reached.
#[derive(Clone, Debug, Args)]
pub struct Snmp {
    /// Name or IP address of its management, with the UDP port if it is not 161
    #[arg(long, value_name = "ADDRESS")]
    snmp: String,
    /// Version of SNMP: 1, 2c or 3
    #[arg(id = "snmp_version", long = "snmp-version", value_name = "VERSION", default_value = "2c", value_parser = named::<SnmpVersion>)]
    version: SnmpVersion,
    /// File on the head node, mode 600, that has the community or the user and passwords
    #[arg(long, value_name = "FILE")]
    secrets: PathBuf,
    /// Group (module, stack member) of ports named without one
    #[arg(long, default_value_t = 1)]
    group: u32,
    /// A VLAN whose addresses are shown only to `community@VLAN`, or the context `vlan-VLAN`; may be given more than once
    #[arg(long = "vlan", value_name = "VLAN")]
    vlans: Vec<u16>,
}

/// Ports of one switch.
#[derive(Clone, Debug, Args)]
pub struct Ports {
    /// The switch's name
    switch: String,
    /// The ports in the switch's own words
    #[arg(required = true)]
    ports: Vec<String>,
    /// Also when somebody has the node that is there
    #[arg(long)]
    force: bool,
}

/// A value by the name that the inventory has for it.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

impl Snmp {
    fn settings(self, preset: SnmpPreset, bridge_offset: i32) -> SnmpSettings {
        SnmpSettings {
            address: self.snmp,
            version: self.version,
            secrets: self.secrets,
            group: self.group,
            preset,
            objects: None,
            bridge_offset,
            bridge_offsets: vec![],
            vlans: self.vlans,
            check_stations: true,
        }
    }
}

pub(super) fn switch(
    connection: &Connection,
    output: Output,
    command: SwitchCommand,
) -> Result<(), ClientError> {
    let screen = Screen::of_stdout();
    match command {
        SwitchCommand::List => {
            let switches: Vec<SwitchView> = connection.get("switches")?;
            output.tell("switches", &switches, |switches| tables::switches(switches, screen));
        }
        SwitchCommand::Show { switch } => {
            let details: SwitchDetails = connection.get(&format!("switches/{}", level(&switch)))?;
            output.tell("switch", &details, |details| tables::switch(details, screen));
        }
        SwitchCommand::Watts { switch } => {
            let details: SwitchDetails = connection.get(&format!("switches/{}", level(&switch)))?;
            output.tell("switch", &details, |details| tables::watts(details, screen));
        }
        SwitchCommand::Add { name, snmp, preset, bridge_offset, budget_watts, protected_ports } => {
            let driver = Driver::Snmp(snmp.settings(preset, bridge_offset));
            let entry = SwitchEntry { name, driver, off_time_ms: None, protected_ports, budget_watts };
            let imported: ImportedView = connection.post("switches", &entry)?;
            output.tell("imported", &imported, |_| {
                "registered; `piseduce switch show` asks it for its ports".into()
            });
        }
        SwitchCommand::Rename { switch, name } => {
            let request = RenameRequest { name };
            let renamed: RenameRequest =
                connection.post(&format!("switches/{}/rename", level(&switch)), &request)?;
            output.tell("renamed", &renamed, |request| {
                format!("switch {switch} is named {} now", request.name)
            });
        }
        SwitchCommand::Remove { switch } => {
            let () = connection.delete(&format!("switches/{}", level(&switch)))?;
            output.tell("removed", &switch, |switch| format!("switch {switch} is removed"));
        }
        SwitchCommand::Detect(snmp) => {
            let request = DetectRequest { snmp: snmp.settings(SnmpPreset::Standard, 0) };
            let detected: DetectedView = connection.post("switches/detect", &request)?;
            output.tell("detected", &detected, |detected| tables::detected(detected, screen));
        }
        SwitchCommand::On(ports) => order(connection, output, &ports, "on")?,
        SwitchCommand::Off(ports) => order(connection, output, &ports, "off")?,
        SwitchCommand::Cycle(ports) => order(connection, output, &ports, "cycle")?,
        SwitchCommand::Done { switch, port } => {
            let path = format!("switches/{}/ports/{}/done", level(&switch), level(&port));
            let switched: SwitchedView = connection.post(&path, &())?;
            output.tell("switched", &switched, switched_text);
        }
    }
    Ok(())
}

fn switched_text(switched: &SwitchedView) -> String {
    let SwitchedView { switch, port, on, remark } = switched;
    let remark = remark.as_ref().map_or_else(String::new, |remark| format!("; {remark}"));
    format!("port {port} of {switch} is {}{remark}", if *on { "on" } else { "off" })
}

/// One port after the other; the first that cannot be switched ends it.
fn order(connection: &Connection, output: Output, ports: &Ports, wish: &str) -> Result<(), ClientError> {
    for port in &ports.ports {
        let (switch, force) = (level(&ports.switch), ports.force);
        let path = format!("switches/{switch}/ports/{}/{wish}?force={force}", level(port));
        let switched: SwitchedView = connection.post(&path, &())?;
        output.tell("switched", &switched, switched_text);
    }
    Ok(())
}
